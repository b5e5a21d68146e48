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
_FOLDER = getattr(os, "O_DIRECTORY", 0)
_CHUNK = 1 << 18
_HAS_FOLDER_DESCRIPTORS = os.open in os.supports_dir_fd
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


def open_regular(path: str, flags: int, *, folder: int | None = None) -> int:
    """Opens a regular file without following a link in its place, and returns its descriptor.

    Args:
        path: the file.
        flags: how, as for `os.open`.
        folder: the descriptor of the folder to which the path is relative.

    Raises:
        OSError: if it can't be opened, or is anything but a regular file.
    """
    return _checked(_open(path, flags | _NO_LINK, folder), path)


def read(path: str, most: int) -> bytes:
    """Reads a file beside an entry. A link to it is followed, unless another user has planted it.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: if it can't be read, or is anything but a regular file of so many bytes at most.
    """
    try:
        descriptor = open_regular(path, os.O_RDONLY)
    except OSError as error:
        if error.errno != errno.ELOOP or is_planted_link(path):
            raise
        descriptor = _checked(_open(path, os.O_RDONLY), path)
    chunks: list[bytes] = []
    left = most + 1
    try:
        while left and (chunk := os.read(descriptor, min(left, _CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    finally:
        os.close(descriptor)
    if not left:
        raise OSError(errno.EFBIG, f"It has more than {most} bytes", path)
    return b"".join(chunks)


def open_below(folder: str, path: str) -> BinaryIO:
    """Opens a file of an entry for reading. No link inside the entry is followed.

    Args:
        folder: the entry's folder, which may itself be a link, unless another user has planted it.
        path: the file's path in it, with forward slashes.

    Raises:
        OSError: if it can't be opened, is anything but a regular file, or a link is on the way.
    """
    full = os.path.join(folder, path)
    if not _HAS_FOLDER_DESCRIPTORS:
        return os.fdopen(_open_below_by_names(folder, path), "rb")
    *parents, name = path.split("/")
    current = _open(folder, os.O_RDONLY | _FOLDER)
    try:
        _check_is_at(folder, current)
        for parent in parents:
            below = _open(parent, os.O_RDONLY | _FOLDER | _NO_LINK, current)
            os.close(current)
            current = below
        return os.fdopen(open_regular(name, os.O_RDONLY, folder=current), "rb")
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            reason = "A link, or a file in place of a folder, is on the way to it"
            raise OSError(error.errno, reason, full) from error
        if error.filename is not None:
            error.filename = full
        raise
    finally:
        os.close(current)


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


def _open(path: str, flags: int, folder: int | None = None) -> int:
    try:
        return os.open(path, flags | _SAFELY, 0o666, dir_fd=folder)
    except ValueError as error:  # a null character, or what the file system has no bytes for
        raise OSError(errno.EILSEQ, "It is not a name that a file can have", path) from error


def _checked(descriptor: int, path: str) -> int:
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "It is not a regular file", path)
        on_failure.pop_all()
    return descriptor


def _check_is_at(folder: str, descriptor: int) -> None:
    """Fails if a folder was opened by way of another user's link."""
    there = os.lstat(folder)
    is_link = stat.S_ISLNK(there.st_mode)
    if is_planted_link(folder) or not (is_link or os.path.samestat(there, os.fstat(descriptor))):
        raise PermissionError(errno.EPERM, "Another user has put a link in its place", folder)


def _open_below_by_names(folder: str, path: str) -> int:
    full = folder
    for part in path.split("/"):
        full = os.path.join(full, part)
        with contextlib.suppress(ValueError):  # which `open_regular` reports
            if stat.S_ISLNK(os.lstat(full).st_mode):
                raise OSError(errno.ELOOP, "A link is on the way to it", full)
    return open_regular(full, os.O_RDONLY)
