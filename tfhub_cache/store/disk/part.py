"""The part file of an entry: what has been received of an archive, to resume it later.

`<key>.part` has the bytes at their places in the archive. `<key>.part.json`, its journal, says
which archive they belong to, in its first line, and then, a line each, which segments are complete,
with their checksums. A line is added when the segment is written, so a process may die at any time.
After a power failure a line may be on the disk and its bytes not: the checksum shows it.

The owner of the entry's lock may use them. A process that lost the lock without noticing (on a
machine that was asleep) may still write for a while. That does no harm: a file is never used for
another version, but removed and created again, so it writes the same bytes to the same places, or
into a file that has no name any more.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from tfhub_cache import bounded_json
from tfhub_cache.store.disk import files
from tfhub_cache.store.disk.aside import remove
from tfhub_cache.transfer.spool import Identity, Segmentation, Spool

_FORMAT = 3
_LONGEST = 4 << 20
"""Bytes of a journal that are read: of an archive of a few hundred GB."""
_LARGEST = 1 << 50
"""Bytes of an archive that a journal may name."""
_LINE = re.compile(rb"^\[([0-9]{1,9}), ([0-9]{1,10})\]$", re.MULTILINE)

_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError)


class PartFile(Spool):
    """The part file, open, while it is being filled and read. See `begin_part` and `open_part`."""

    is_kept = True

    def __init__(
        self,
        base: str,
        identity: Identity,
        found: dict[int, int],
        file: io.FileIO,
        journal: io.FileIO,
        is_lost: Callable[[], bool],
    ) -> None:
        super().__init__(identity)
        self._base = base
        self._file = file
        self._journal = journal
        self._is_lost = is_lost
        self._found = found  # checksums of what an earlier attempt has left, not checked yet
        for index in found:
            self.received[index] = self.stop(index) - index * self.segment
        self._crc32 = _fastest_crc32()
        self._checksums: dict[int, int] = {}  # of segments that are not complete
        self._checked = 0, b""  # a segment that was found, and where it begins

    def write(self, index: int, data: bytes) -> None:
        self._file.seek(self.missing(index))
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        checksum = self._crc32(data, self._checksums.get(index, 0))
        self.received[index] = self.received.get(index, 0) + len(data)
        if self.is_complete(index):
            self._checksums.pop(index, None)
            _note(self._journal, [index, checksum])
        else:
            self._checksums[index] = checksum

    def read(self, position: int, size: int) -> bytes:
        index = position // self.segment
        if index in self._found:
            start = index * self.segment
            data = self._read(start, self.stop(index))
            if self._crc32(data) != self._found.pop(index):
                del self.received[index]
                return b""
            self._checked = start, data
        start, data = self._checked
        if position < start + len(data):
            return data[position - start : position - start + size]
        return self._read(position, min(position + size, self.missing(index)))

    def _read(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)

    def kept(self) -> int:
        return sum(size for index, size in self.received.items() if self.is_complete(index))

    def close(self, *, keep: bool) -> None:
        is_ours = False
        with contextlib.suppress(OSError):
            is_ours = _is_at(f"{self._base}.part", self._file) and not self._is_lost()
        for file in self._journal, self._file:
            with contextlib.suppress(OSError):  # a full disk: what is missing is fetched again
                file.close()
        if is_ours and not (keep and self.kept()):
            with contextlib.suppress(OSError):  # on Windows, while a process looks how far it is
                discard_part(self._base)


def begin_part(base: str, identity: Identity, is_lost: Callable[[], bool]) -> PartFile:
    """Creates the part file of an entry, in place of one that may be there.

    Args:
        base: the path of the entry.
        identity: the archive.
        is_lost: whether another process has the entry's lock by now, and may resume with it.

    Raises:
        OSError: if that is not possible, as when another user's is in the way.
    """
    discard_part(base)
    with contextlib.ExitStack() as undo:
        undo.callback(discard_part, base)
        file = undo.enter_context(_open(f"{base}.part", os.O_RDWR | os.O_CREAT | os.O_EXCL))
        journal = undo.enter_context(_open(f"{base}.part.json", os.O_RDWR | os.O_CREAT | os.O_EXCL))
        _note(journal, _to_json(identity))
        undo.pop_all()
    return PartFile(base, identity, {}, file, journal, is_lost)


def open_part(base: str, is_lost: Callable[[], bool]) -> PartFile | None:
    """The part file of an entry, to resume with; None if there is none that could be used.

    The arguments are those of `begin_part`.
    """
    with contextlib.ExitStack() as undo:
        try:
            file = undo.enter_context(_open(f"{base}.part", os.O_RDWR))
            journal = undo.enter_context(_open(f"{base}.part.json", os.O_RDWR))
            identity, found = _read_journal(journal, os.fstat(file.fileno()).st_size)
        except _UNUSABLE:
            return None
        undo.pop_all()
    return PartFile(base, identity, found, file, journal, is_lost)


def look_at_part(base: str) -> tuple[Identity, int] | None:
    """Which archive is being received, or was, and how many of its bytes are there.

    Returns:
        None if there is no part file.
    """
    try:
        with _open(f"{base}.part.json", os.O_RDWR) as journal:
            identity, found = _read_journal(journal, sys.maxsize)
    except _UNUSABLE:
        return None
    segments = Segmentation(identity.size)
    return identity, sum(segments.stop(index) - index * segments.segment for index in found)


def discard_part(base: str) -> None:
    """Removes an entry's part file, if there is one."""
    for name in f"{base}.part.json", f"{base}.part":
        with contextlib.suppress(FileNotFoundError):
            remove(name)


def _fastest_crc32() -> Callable[..., int]:
    try:
        from isal.isal_zlib import crc32  # only to download; four times as fast
    except ImportError:  # no wheel for this machine
        from zlib import crc32
    return crc32


def _open(path: str, flags: int) -> io.FileIO:
    """Opens a regular file of this user; refuses links, FIFOs and files of other users."""
    file = io.FileIO(files.open_regular(path, flags), "r+")
    if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise PermissionError(errno.EPERM, "It is another user's", path)
    return file


def _is_at(path: str, file: io.FileIO) -> bool:
    """Whether an open file is still the one of a name, as it is not after another took over."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(file.fileno()))
    except OSError:
        return False


def _note(journal: io.FileIO, what: object) -> None:
    journal.seek(0, os.SEEK_END)
    # A line of its own, whatever a process that died in the midst of one has left.
    journal.write(b"\n" + json.dumps(what).encode() + b"\n")


def _read_journal(journal: io.FileIO, size: int) -> tuple[Identity, dict[int, int]]:
    """Which archive, and the checksums of the segments that are complete in so many bytes."""
    header, _, lines = journal.read(_LONGEST).lstrip().partition(b"\n")
    identity = _from_json(bounded_json.parse(header))
    segments = Segmentation(identity.size)
    found: dict[int, int] = {}
    # Half a line, which a process has left that died in the midst of it, does not match.
    for index, checksum in (map(int, match.groups()) for match in _LINE.finditer(lines)):
        if index < segments.count and segments.stop(index) <= size:
            found[index] = checksum
    return identity, found


def _to_json(identity: Identity) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "handle": identity.handle,
        "size": identity.size,
        "version": identity.version,
        "checksums": {
            name: base64.b64encode(value).decode() for name, value in identity.checksums.items()
        },
    }


def _from_json(data: dict[str, Any]) -> Identity:
    handle, size, version = data["handle"], data["size"], data["version"]
    is_valid = isinstance(handle, str) and type(size) is int and isinstance(version, str)
    if data["format"] != _FORMAT or not (is_valid and 0 < size <= _LARGEST):
        raise ValueError("a part file of another format")
    checksums = {name: base64.b64decode(value) for name, value in data["checksums"].items()}
    return Identity(handle, size, version, checksums)
