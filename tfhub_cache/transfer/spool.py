"""Where received bytes wait until they are unpacked: in memory, or in a file that outlives us.

An archive is divided into segments of one size. They may arrive in any order, each from its first
byte to its last, and are read in order, once.
"""

from __future__ import annotations

import abc
import sys
from dataclasses import dataclass, field
from typing import Protocol

_SEGMENTS = 32
_SMALLEST, _LARGEST = 1 << 20, 4 << 20


@dataclass(frozen=True)
class Identity:
    """Which archive bytes belong to.

    Attributes:
        handle: what it is for.
        size: the archive's size in bytes.
        version: what distinguishes it from other versions, see `Download.version`.
        checksums: of the whole archive, see `Download.checksums`.
    """

    handle: str
    size: int
    version: str
    checksums: dict[str, bytes] = field(default_factory=dict)


class Segmentation:
    """How an archive is divided.

    Attributes:
        segment: the bytes of a segment; the last one has the rest.
        count: the number of segments.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.segment = min(max(size // _SEGMENTS, _SMALLEST), _LARGEST)
        self.count = -(-size // self.segment)

    def stop(self, index: int) -> int:
        """The first byte of the archive that comes after a segment."""
        return min((index + 1) * self.segment, self._size)


class Spool(Segmentation, abc.ABC):
    """A place for received bytes. Its user ensures that one thread at a time is in it.

    Attributes:
        identity: which archive they belong to.
        received: how many bytes there are of each segment, or were and have been read.
        window: how many bytes beyond those that were read may be written.
        is_kept: whether another attempt may resume with it.
    """

    window: int = sys.maxsize
    is_kept: bool = False

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity.size)
        self.identity = identity
        self.received: dict[int, int] = {}

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
        return 0

    @abc.abstractmethod
    def write(self, index: int, data: bytes) -> None:
        """Adds bytes to those that there are of a segment."""

    @abc.abstractmethod
    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes of the archive from `position` on; none if they are missing."""

    @abc.abstractmethod
    def close(self, *, keep: bool) -> None:
        """Ends it.

        Args:
            keep: whether another attempt, by any process, may resume with the segments that are
                complete.
        """


class Spools(Protocol):
    """What can keep received bytes for another attempt."""

    def leftover(self) -> Spool | None:
        """What an earlier attempt has received of an archive, to resume if it is the same."""

    def spool(self, identity: Identity) -> Spool | None:
        """A place for an archive's bytes, empty. It replaces what an earlier attempt has left.

        Returns:
            None if they can't be kept.

        Raises:
            OSError: if the store refuses.
        """


class MemorySpool(Spool):
    """Keeps a few segments, in memory, until they are read."""

    window = 32 << 20

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity)
        self._segments: dict[int, bytearray] = {}

    def write(self, index: int, data: bytes) -> None:
        self._segments.setdefault(index, bytearray()).extend(data)
        self.received[index] = self.received.get(index, 0) + len(data)

    def read(self, position: int, size: int) -> bytes:
        index, offset = divmod(position, self.segment)
        with memoryview(self._segments.get(index, b"")) as there:
            data = bytes(there[offset : offset + size])
        if position + len(data) == self.stop(index):
            self._segments.pop(index, None)
        return data

    def close(self, *, keep: bool) -> None:
        self._segments.clear()
