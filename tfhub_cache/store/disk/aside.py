"""Taking files and folders of a cache out of the way, and removing them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat

from tfhub_cache.store.flaw import MODEL_FILES


def move_aside(path: str, aside: str) -> None:
    """Moves a file or a folder to another name beside it; one that can't be moved is removed.

    overlayfs, which a container's file system usually is, moves no folder that comes from the
    image: the rename fails with EXDEV, and a copy would cost as much room as the model. Removing
    the folder in place takes several steps, so what makes it a model goes first: from that step on,
    readers see that there is none.

    Raises:
        OSError: if neither is possible.
    """
    try:
        os.rename(path, aside)
    except OSError as error:
        if error.errno != errno.EXDEV or os.name == "nt":
            raise
        _remove_in_place(path)


def remove(path: str) -> None:
    """Removes a file or a folder, if it is there; a link itself, not its target.

    It is moved aside first: a process that was taken for crashed may still be filling it, and what
    is half removed must not be published if that process wakes up.

    Raises:
        OSError: if not all of it can be removed.
    """
    gone = f"{path.removesuffix('.gone.tmp').removesuffix('.tmp')}.gone.tmp"
    with contextlib.suppress(FileNotFoundError):
        if gone != path:
            move_aside(path, gone)
        _remove(gone)


def discard(path: str) -> None:
    """Removes a file or a folder as `remove` does, as far as that is possible."""
    with contextlib.suppress(OSError):
        remove(path)


def check_replaceable(path: str) -> None:
    """Raises an error if another user's file or folder can't be moved aside.

    In a folder with the sticky bit, only the owners of the folder and of what is in it may.

    Raises:
        PermissionError: if it is so.
        OSError: if it can't be looked at.
    """
    if not hasattr(os, "geteuid"):
        return
    folder, status = os.stat(os.path.dirname(path)), os.lstat(path)
    owners = 0, folder.st_uid, status.st_uid
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in owners:
        raise PermissionError(
            errno.EPERM, "Another user's, which only they may replace (sticky bit)", path
        )


def _remove(path: str) -> None:
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return
    try:
        shutil.rmtree(path)
    except RecursionError:  # not since Python 3.13
        raise OSError(errno.ELOOP, "Its folders lie too deep to be removed", path) from None


def _remove_in_place(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        # Relative to the open folder: another user may put a link in its place meanwhile.
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in MODEL_FILES.intersection(os.listdir(folder)):
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
    _remove(path)
