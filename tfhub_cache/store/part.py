"""The part file of an entry: what has been received of an archive, for whoever goes on with it.

`<key>.part` has the bytes at their places in the archive. `<key>.part.json` says which archive they
belong to, in its first line, and then, a line each, which ranges are there, in the order in which
they came. A line is added when its bytes are written, so a process may die at any time.

Whoever has the entry's lock may use them. Somebody who lost the lock without noticing (a machine
that was asleep) may still write for a while. That does no harm: they write the same bytes to the
same places, as a file is never used for another version, but removed and made anew.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import json
import os
from collections.abc import Iterator
from typing import Any

from tfhub_cache.ranges import ByteRanges
from tfhub_cache.store.spool import Identity, Spool

_FORMAT = 1
_LEAST_NOTED = 256 << 10
"""Bytes of a range that get a line before the range is finished."""
_LEAST_KEPT = 1 << 20
"""Bytes that are worth being kept. Fewer are as soon asked for again."""


class PartFile(Spool):
    """The part file, while it is being filled and read."""

    def __init__(self, base: str, identity: Identity, received: ByteRanges | None) -> None:
        """Begins a part file, or goes on with one.

        Args:
            base: the path of the entry.
            identity: the archive.
            received: what there is of it, as `read_part` told; None: begin anew.
        """
        super().__init__(received or ByteRanges())
        self._base = base
        self._runs: dict[int, int] = {}  # not noted yet: the end of each, and its beginning
        is_new = received is None
        with contextlib.ExitStack() as undo:
            if is_new:
                discard_part(base)
                undo.callback(discard_part, base)
            self._writing = undo.enter_context(_open(f"{base}.part", "xb" if is_new else "r+b"))
            self._reading = undo.enter_context(_open(f"{base}.part", "rb"))
            self._notes = undo.enter_context(_open(f"{base}.part.json", "xb" if is_new else "ab"))
            if is_new:
                self._note(_to_json(identity))
            undo.pop_all()

    def write(self, position: int, data: bytes) -> None:
        self._writing.seek(position)
        view = memoryview(data)
        while view:
            view = view[self._writing.write(view) :]
        stop = position + len(data)
        self.received.add(position, stop)
        start = self._runs.pop(position, position)
        if stop - start < _LEAST_NOTED:
            self._runs[stop] = start
        else:
            self._note([start, stop])

    def read(self, position: int, size: int) -> bytes:
        self._reading.seek(position)
        return self._reading.read(min(size, self.received.end_of_run(position) - position))

    def kept(self) -> int:
        total = self.received.total()
        return total if total >= _LEAST_KEPT else 0

    def close(self, *, keep: bool) -> None:
        with contextlib.ExitStack() as last_to_first:
            if not keep or not self.kept():
                last_to_first.callback(discard_part, self._base)
            for file in self._notes, self._reading, self._writing:
                last_to_first.callback(file.close)
            with contextlib.suppress(OSError):  # a full disk: what has no line is fetched again
                for stop, start in self._runs.items():
                    self._note([start, stop])

    def _note(self, what: object) -> None:
        self._notes.write(json.dumps(what).encode() + b"\n")


def read_part(base: str) -> tuple[Identity, ByteRanges] | None:
    """What there is of an entry's archive; None if nothing that could be used."""
    try:
        with _open(f"{base}.part", "rb") as file:
            size = os.fstat(file.fileno()).st_size
        with _open(f"{base}.part.json", "rb") as file:
            lines = _whole_lines(file.readall())
        identity = _from_json(next(lines))
        received = ByteRanges((start, min(stop, size)) for start, stop in lines if start >= 0)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StopIteration):
        return None
    return identity, received


def discard_part(base: str) -> None:
    """Removes an entry's part file, if there is one."""
    for name in f"{base}.part.json", f"{base}.part":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _open(path: str, mode: str) -> io.FileIO:
    """Opens a file that nobody else can have put there for us to write or believe."""
    file = io.FileIO(path, mode, opener=_open_without_links)
    if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise PermissionError(errno.EPERM, "It belongs to another user", path)
    return file


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _whole_lines(text: bytes) -> Iterator[Any]:
    """The lines' values, up to one at which somebody died."""
    for line in text.splitlines(keepends=True):
        if line.endswith(b"\n"):
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
