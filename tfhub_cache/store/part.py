"""The part file of an entry: what has been received of an archive, for whoever goes on with it.

`<key>.part` has the bytes at their places in the archive. `<key>.part.json` says which archive they
belong to, in its first line, and then, a line each, which ranges are there, with their checksums,
in the order in which they came. A line is added when its bytes are written, so a process may die at
any time. After a power failure a line may be on the disk and its bytes not: the checksum tells.

Whoever has the entry's lock may use them. Somebody who lost the lock without noticing (a machine
that was asleep) may still write for a while. That does no harm: a file is never used for another
version, but removed and made anew, so they write the same bytes to the same places, or into a file
that has no name any more.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tfhub_cache import bounded_json
from tfhub_cache.ranges import ByteRanges
from tfhub_cache.store import files
from tfhub_cache.store.aside import remove
from tfhub_cache.store.spool import Identity, Spool

_FORMAT = 2
_NOTES = 64
_LEAST_NOTED, _MOST_NOTED = 256 << 10, 1 << 20
"""Bytes of a range that get a line before the range is finished: of a large archive more."""
_LONGEST = 2 << 20
"""More than a range of one line ever has, as it is read as a whole."""
_LEAST_KEPT = 1 << 20
"""Bytes that are worth being kept. Fewer are as soon asked for again."""
_LARGEST_NOTES = 8 << 20
"""Bytes of notes that are read: those of an archive of 150 GB."""

_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError)
_RUN = re.compile(rb"^\[([0-9]{1,19}), ([0-9]{1,19}), ([0-9]{1,10})\]$", re.MULTILINE)


class _Run(NamedTuple):
    """Bytes `[start, stop)` that are there, as one line has them."""

    start: int
    stop: int
    crc: int


class PartFile(Spool):
    """The part file, open, while it is being filled and read. See `begin_part` and `open_part`."""

    def __init__(
        self,
        base: str,
        identity: Identity,
        found: Iterable[_Run],
        file: io.FileIO,
        notes: io.FileIO,
        is_lost: Callable[[], bool],
    ) -> None:
        self._is_lost = is_lost
        self._found = collections.deque(found)  # by an earlier attempt, and not read yet
        super().__init__(identity, ByteRanges((run.start, run.stop) for run in self._found))
        self._base = base
        self._file = file
        self._notes = notes
        self._noted = min(max((identity.size or 0) // _NOTES, _LEAST_NOTED), _MOST_NOTED)
        self._growing: dict[int, _Run] = {}  # not noted yet, by their ends
        self._crc32 = _fastest_crc32()
        self._checked = 0, b""  # where the run among those begins that is being read, and its bytes

    def write(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        stop = position + len(data)
        self.received.add(position, stop)
        before = self._growing.pop(position, _Run(position, position, 0))
        run = _Run(before.start, stop, self._crc32(data, before.crc))
        if run.stop - run.start < self._noted:
            self._growing[stop] = run
        else:
            _note(self._notes, run)

    def read(self, position: int, size: int) -> bytes:
        # Reading is in order, so no run among those found is ever begun in its midst.
        if self._found and self._found[0].start == position:
            run = self._found.popleft()
            data = self._read(run.start, run.stop)
            if self._crc32(data) != run.crc:
                return b""
            self._checked = run.start, data
        start, data = self._checked
        if position < start + len(data):
            return data[position - start :][:size]
        stop = min(position + size, self.received.end_of_run(position))
        return self._read(position, min(stop, self._found[0].start) if self._found else stop)

    def _read(self, start: int, stop: int) -> bytes:
        self._file.seek(start)
        return self._file.read(stop - start)

    def kept(self) -> int:
        total = self.received.total()
        return total if total >= _LEAST_KEPT else 0

    def close(self, *, keep: bool) -> None:
        is_ours = False
        with contextlib.suppress(OSError):
            is_ours = _is_at(f"{self._base}.part", self._file) and not self._is_lost()
        with contextlib.suppress(OSError):  # a full disk: what has no line is fetched again
            for run in self._growing.values():
                _note(self._notes, run)
        for file in self._notes, self._file:
            with contextlib.suppress(OSError):  # the same
                file.close()
        if is_ours and not (keep and self.kept()):
            with contextlib.suppress(OSError):  # on Windows, while somebody looks how far it is
                discard_part(self._base)


def begin_part(base: str, identity: Identity, is_lost: Callable[[], bool]) -> PartFile:
    """Makes the part file of an entry, in place of one that may be there.

    Args:
        base: the path of the entry.
        identity: the archive.
        is_lost: whether somebody else has the entry's lock by now, and perhaps goes on with it.

    Raises:
        OSError: if that is not possible, as when another user's is in the way.
    """
    discard_part(base)
    with contextlib.ExitStack() as undo:
        undo.callback(discard_part, base)
        file = undo.enter_context(_open(f"{base}.part", os.O_RDWR | os.O_CREAT | os.O_EXCL))
        notes = undo.enter_context(_open(f"{base}.part.json", os.O_RDWR | os.O_CREAT | os.O_EXCL))
        _note(notes, _to_json(identity))
        undo.pop_all()
    return PartFile(base, identity, (), file, notes, is_lost)


def open_part(base: str, is_lost: Callable[[], bool]) -> PartFile | None:
    """The part file of an entry, to go on with; None if there is none that could be used.

    The arguments are those of `begin_part`.
    """
    with contextlib.ExitStack() as undo:
        try:
            file = undo.enter_context(_open(f"{base}.part", os.O_RDWR))
            notes = undo.enter_context(_open(f"{base}.part.json", os.O_RDWR))
            identity, found = _read_notes(notes, os.fstat(file.fileno()).st_size)
        except _UNUSABLE:
            return None
        undo.pop_all()
    return PartFile(base, identity, found, file, notes, is_lost)


def look_at_part(base: str) -> tuple[Identity, int] | None:
    """Which archive somebody is receiving, or was, and how many of its bytes are there.

    Returns:
        None if there is no part file.
    """
    try:
        with _open(f"{base}.part.json", os.O_RDWR) as notes:
            identity, found = _read_notes(notes, sys.maxsize)
    except _UNUSABLE:
        return None
    return identity, sum(run.stop - run.start for run in found)


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
    """Opens a file that nobody else can have put there for us to write or believe."""
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


def _note(notes: io.FileIO, what: object) -> None:
    notes.seek(0, os.SEEK_END)
    # A line of its own, whatever somebody who died in the midst of one has left.
    notes.write(b"\n" + json.dumps(what).encode() + b"\n")


def _read_notes(notes: io.FileIO, size: int) -> tuple[Identity, list[_Run]]:
    """Which archive, and which runs there are in so many bytes: in order, each byte in one only."""
    text = notes.read(_LARGEST_NOTES + 1)
    if len(text) > _LARGEST_NOTES:
        raise ValueError("notes that are too large")
    first, _, lines = text.lstrip().partition(b"\n")
    identity = _from_json(bounded_json.parse(first))
    found: list[_Run] = []
    end = 0
    # A line in the midst of which a process died does not match.
    for run in sorted(_Run(*map(int, match.groups())) for match in _RUN.finditer(lines)):
        if end <= run.start < run.stop <= size and run.stop - run.start <= _LONGEST:
            found.append(run)
            end = run.stop
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
    if data["format"] != _FORMAT:
        raise ValueError("a part file of another format")
    handle, size, version = data["handle"], data["size"], data["version"]
    if type(size) is not int or not 1 <= size < 1 << 63:
        raise ValueError("a part file of nothing, or of an impossible size")
    if not (isinstance(handle, str) and isinstance(version, str)):
        raise ValueError("a part file of no handle or version")
    checksums = {name: base64.b64decode(value) for name, value in data["checksums"].items()}
    return Identity(handle, size, version, checksums)
