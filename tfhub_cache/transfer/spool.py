"""Where received bytes wait until they are unpacked: in memory, or in a file that outlives us.

An archive is divided into segments of one size. They may arrive in any order, each from its first
byte to its last, and are read in order, once.
"""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

_SEGMENTS = 32
_SMALLEST, _LARGEST = 1 << 20, 4 << 20
_IN_MEMORY = 32 << 20


@dataclass(frozen=True)
class Identity:
    """Which archive bytes belong to, and how it is divided.

    Attributes:
        handle: what it is for.
        size: the archive's size in bytes.
        version: what distinguishes it from other versions, see `Download.version`.
    """

    handle: str
    size: int
    version: str

    @property
    def segment(self) -> int:
        """The bytes of a segment; the last one has the rest."""
        return min(max(self.size // _SEGMENTS, _SMALLEST), _LARGEST)

    @property
    def count(self) -> int:
        """The number of segments."""
        return -(-self.size // self.segment)

    def stop(self, index: int) -> int:
        """The first byte of the archive that comes after a segment."""
        return min((index + 1) * self.segment, self.size)


class Spool:
    """A place for received bytes. Its user ensures that one thread at a time is in it.

    Attributes:
        identity: which archive they belong to.
        segment, count, stop: how it is divided, see `Identity`.
        received: how many bytes there are of each segment, or were and have been read.
        window: how many bytes beyond those that were read may be written.
        is_kept: whether another attempt may resume with it.
    """

    def __init__(
        self,
        identity: Identity,
        file: io.FileIO | None = None,
        journal: io.FileIO | None = None,
        discard: Callable[[], object] = lambda: None,
        found: dict[int, int] | None = None,
    ) -> None:
        """A spool in memory, or in a file.

        Args:
            identity: the archive.
            file: where the bytes are put, at their places in the archive; None: in memory.
            journal: what gets a line for each segment that is complete, with its checksum.
            discard: removes the file and the journal.
            found: the checksums of the segments that an earlier attempt has left in the file.
        """
        from isal.isal_zlib import crc32  # only to download; four times as fast as zlib's

        self.identity = identity
        self.segment, self.count, self.stop = identity.segment, identity.count, identity.stop
        self.is_kept = journal is not None
        self.window = sys.maxsize if file else _IN_MEMORY // self.segment * self.segment
        self._file = file or mmap.mmap(-1, self.window)
        self._journal = journal
        self._found = found or {}
        self._discard = discard
        self.received = {index: self.stop(index) - index * self.segment for index in self._found}
        self._crc32 = crc32
        self._checksums: dict[int, int] = {}  # of segments that are not complete

    def missing(self, index: int) -> int:
        """The first byte of the archive that is missing of a segment; `stop` if none is."""
        return index * self.segment + self.received.get(index, 0)

    def is_complete(self, index: int) -> bool:
        return self.missing(index) == self.stop(index)

    def first_missing(self) -> int:
        """The first byte of the archive that is missing; its size if none is."""
        missing = (self.missing(i) for i in range(self.count) if not self.is_complete(i))
        return next(missing, self.identity.size)

    def kept(self) -> int:
        """How many bytes would be kept for another attempt."""
        complete = (size for index, size in self.received.items() if self.is_complete(index))
        return sum(complete) if self.is_kept else 0

    def write(self, index: int, data: bytes) -> None:
        """Adds bytes to those that there are of a segment."""
        self._file.seek(self.missing(index) % self.window)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.received[index] = self.received.get(index, 0) + len(data)
        if self._journal is not None:
            checksum = self._crc32(data, self._checksums.pop(index, 0))
            if self.is_complete(index):
                note(self._journal, [index, checksum])
            else:
                self._checksums[index] = checksum

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes of the archive from `position` on; none if they are missing."""
        index = position // self.segment
        if index in self._found:
            found = self._read(index * self.segment, self.stop(index))
            if self._crc32(found) != self._found.pop(index):
                del self.received[index]
        return self._read(position, min(position + size, self.missing(index)))

    def _read(self, start: int, stop: int) -> bytes:
        self._file.seek(start % self.window)
        return self._file.read(max(stop - start, 0))

    def close(self, *, keep: bool) -> None:
        """Ends it.

        Args:
            keep: whether another attempt, by any process, may resume with the segments that are
                complete.
        """
        for file in self._journal, self._file:
            with contextlib.suppress(OSError):  # a full disk: what is missing is fetched again
                if file is not None:
                    file.close()
        if not (keep and self.kept()):
            with contextlib.suppress(OSError):  # on Windows, while a process looks how far it is
                self._discard()


def note(journal: io.FileIO, what: object) -> None:
    """Adds a line to a journal."""
    journal.seek(0, os.SEEK_END)
    # A line of its own, whatever a process that died in the midst of one has left.
    journal.write(b"\n" + json.dumps(what).encode() + b"\n")
