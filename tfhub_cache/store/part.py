"""The part file of an entry: what has been received of an archive, for whoever goes on with it.

`<key>.part` has the bytes at their places in the archive. `<key>.part.json` says which archive they
belong to, in its first line, and then, a line each, which ranges are there, in the order in which
they came. A line is added when its bytes are written, so a process may die at any time.

Whoever has the entry's lock may use them. Somebody who lost the lock without noticing (a machine
that was asleep) may still write for a while. That does no harm: a file is never used for another
version, but removed and made anew, so they write the same bytes to the same places, or into a file
that has no name any more.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any

from tfhub_cache.ranges import ByteRanges
from tfhub_cache.store.spool import Identity, Spool

_FORMAT = 1
_NOTES = 64
_LEAST_NOTED, _MOST_NOTED = 256 << 10, 1 << 20
"""Bytes of a range that get a line before the range is finished: of a large archive more."""
_LEAST_KEPT = 1 << 20
"""Bytes that are worth being kept. Fewer are as soon asked for again."""

_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration)


class PartFile(Spool):
    """The part file, open, while it is being filled and read. See `begin_part` and `open_part`."""

    def __init__(
        self, base: str, identity: Identity, received: ByteRanges, file: io.FileIO, notes: io.FileIO
    ) -> None:
        super().__init__(identity, received)
        self._base = base
        self._file = file
        self._notes = notes
        self._noted = min(max((identity.size or 0) // _NOTES, _LEAST_NOTED), _MOST_NOTED)
        self._runs: dict[int, int] = {}  # not noted yet: the end of each, and its beginning

    def write(self, position: int, data: bytes) -> None:
        self._file.seek(position)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        stop = position + len(data)
        self.received.add(position, stop)
        start = self._runs.pop(position, position)
        if stop - start < self._noted:
            self._runs[stop] = start
        else:
            _note(self._notes, [start, stop])

    def read(self, position: int, size: int) -> bytes:
        self._file.seek(position)
        return self._file.read(min(size, self.received.end_of_run(position) - position))

    def kept(self) -> int:
        total = self.received.total()
        return total if total >= _LEAST_KEPT else 0

    def close(self, *, keep: bool) -> None:
        is_ours = _is_at(f"{self._base}.part", self._file)
        with contextlib.suppress(OSError):  # a full disk: what has no line is fetched again
            for stop, start in self._runs.items():
                _note(self._notes, [start, stop])
        self._notes.close()
        self._file.close()
        if is_ours and not (keep and self.kept()):
            with contextlib.suppress(OSError):  # on Windows, while somebody looks how far it is
                discard_part(self._base)


def begin_part(base: str, identity: Identity) -> PartFile:
    """Makes the part file of an entry, in place of one that may be there.

    Args:
        base: the path of the entry.
        identity: the archive.

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
    return PartFile(base, identity, ByteRanges(), file, notes)


def open_part(base: str) -> PartFile | None:
    """The part file of an entry, to go on with; None if there is none that could be used."""
    with contextlib.ExitStack() as undo:
        try:
            file = undo.enter_context(_open(f"{base}.part", os.O_RDWR))
            notes = undo.enter_context(_open(f"{base}.part.json", os.O_RDWR))
            identity, received = _read_notes(notes, os.fstat(file.fileno()).st_size)
        except _UNUSABLE:
            return None
        undo.pop_all()
    return PartFile(base, identity, received, file, notes)


def progress_of_part(base: str) -> tuple[int, int | None] | None:
    """How many bytes somebody has received, and of how many; None if there is no part file."""
    try:
        with _open(f"{base}.part.json", os.O_RDWR) as notes:
            identity, received = _read_notes(notes, sys.maxsize)
    except _UNUSABLE:
        return None
    return received.total(), identity.size


def discard_part(base: str) -> None:
    """Removes an entry's part file, if there is one."""
    for name in f"{base}.part.json", f"{base}.part":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _open(path: str, flags: int) -> io.FileIO:
    """Opens a file that nobody else can have put there for us to write or believe."""
    safely = flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    safely |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = io.FileIO(os.open(path, safely, 0o666), "r+")
    status = os.fstat(file.fileno())
    is_own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not (stat.S_ISREG(status.st_mode) and is_own):
        file.close()
        raise PermissionError(errno.EPERM, "It is another user's, or no file", path)
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


def _read_notes(notes: io.FileIO, size: int) -> tuple[Identity, ByteRanges]:
    lines = _lines(notes.readall())
    identity = _from_json(next(lines))
    return identity, ByteRanges((start, min(stop, size)) for start, stop in lines if start >= 0)


def _lines(text: bytes) -> Iterator[Any]:
    """The lines' values, but for one in the midst of which somebody died."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _to_json(identity: Identity) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "size": identity.size,
        "version": identity.version,
        "checksums": {
            name: base64.b64encode(value).decode() for name, value in identity.checksums.items()
        },
    }


def _from_json(data: dict[str, Any]) -> Identity:
    if data["format"] != _FORMAT:
        raise ValueError("a part file of another format")
    if data["size"] < 1:
        raise ValueError("a part file of nothing")
    checksums = {name: base64.b64decode(value) for name, value in data["checksums"].items()}
    return Identity(int(data["size"]), str(data["version"]), checksums)
