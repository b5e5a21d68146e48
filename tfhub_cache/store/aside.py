"""Taking files and folders of a cache out of the way, and removing them."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat


def remove(path: str) -> None:
    """Removes a file or a folder; a link itself, not its target.

    It is moved aside first: a process that was taken for dead may still be filling it, and what is
    half removed must not be published if that process wakes up.

    Raises:
        OSError: if not all of it can be removed.
    """
    gone = f"{path.removesuffix('.tmp')}.gone.tmp"
    os.rename(path, gone)
    with contextlib.suppress(FileNotFoundError):
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
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)
