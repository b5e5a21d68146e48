"""The files of a cache, opened so that what stands in their place can neither mislead nor hang.

In a cache that users share, and on a broken disk, anything may stand where a file should be: a
link, a FIFO, a device, a folder, a file of any size. What is opened here is a regular file, and
only links of this user and of the administrator are followed. All else is an
`OSError`, which callers take for damage of the one entry that the file belongs to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

# To open a FIFO must not block, nor may Windows translate line ends.
_SAFELY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DEEPEST = 100
"""Levels of folders that are measured: as many as an archive may have."""


def is_planted_link(path: str) -> bool:
    """Whether a path is a link that belongs neither to this user nor to the administrator."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows reports no owners
    return stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, user)


def check_not_planted(path: str) -> None:
    """Refuses a link that belongs neither to this user nor to the administrator.

    Raises:
        OSError: if there is one at the path.
    """
    if is_planted_link(path):
        raise PermissionError(errno.EPERM, "Another user has put a link in its place", path)


def open_regular(path: str, flags: int, *, follow: bool = False) -> int:
    """Opens a regular file, and returns its descriptor.

    Args:
        path: the file.
        flags: how, as for `os.open`.
        follow: whether to follow a link in its place.

    Raises:
        OSError: if it can't be opened, or is anything but a regular file.
    """
    try:
        descriptor = os.open(path, flags | _SAFELY | (0 if follow else _NO_LINK), 0o666)
    except ValueError as error:  # a null character, or what the file system has no bytes for
        raise OSError(errno.EILSEQ, "It is not a name that a file can have", path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "It is not a regular file", path)
    return descriptor


def read(path: str, most: int) -> bytes:
    """Reads a file beside an entry. A link to it is followed, unless another user has planted it.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: if it can't be read, or is anything but a regular file of so many bytes at most.
    """
    check_not_planted(path)
    with os.fdopen(open_regular(path, os.O_RDONLY, follow=True), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"It has more than {most} bytes", path)
    return content


def open_below(folder: str, path: str) -> BinaryIO:
    """Opens a file of an entry for reading. A link inside the entry is not followed.

    Args:
        folder: the entry's folder, which may itself be a link, unless another user has planted it.
        path: the file's path in it, with forward slashes.

    Raises:
        OSError: if it can't be opened, is anything but a regular file, or a link is on the way.
    """
    check_not_planted(folder)
    full = os.path.join(folder, *path.split("/"))
    with contextlib.suppress(ValueError):  # a name that no file can have: `open_regular` says so
        if os.path.realpath(full) != os.path.join(os.path.realpath(folder), *path.split("/")):
            raise OSError(errno.ELOOP, "A link is on the way to it", full)
    return os.fdopen(open_regular(full, os.O_RDONLY), "rb")


def files_below(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The files below a folder: their paths in it with forward slashes, and what they are.

    No link in it is followed, and what is deeper than any archive is left out.
    """
    if is_planted_link(folder):
        return
    for parent, folders, names in os.walk(folder):
        inside = parent[len(folder) :].replace(os.sep, "/").lstrip("/")
        if inside.count("/") >= _DEEPEST:
            folders.clear()
        for name in names:
            with contextlib.suppress(OSError):  # it may be gone by now
                status = os.stat(os.path.join(parent, name), follow_symlinks=False)
                yield f"{inside}/{name}" if inside else name, status
