"""Where received bytes wait until they are unpacked: in memory, or in a file that outlives us.

They may come in any order, over several connections, and are read in order, once.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

from tfhub_cache.ranges import ByteRanges

_LEAST_PIECE = 64 << 10


@dataclass(frozen=True)
class Identity:
    """Which archive bytes belong to.

    Attributes:
        handle: what it is for.
        size: the archive's size in bytes; None if it is not known.
        version: what tells it from other versions, as `Download.version`; None if nothing does.
        checksums: of the whole archive, as `Download.checksums`.
    """

    handle: str
    size: int | None
    version: str | None
    checksums: dict[str, bytes] = field(default_factory=dict)


class Spool(abc.ABC):
    """A place for received bytes. Its user sees to it that one thread at a time is in it.

    Attributes:
        identity: which archive they belong to.
        received: which bytes are there, or were and have been read.
        window: how many bytes beyond those that were read may be written; None: any number.
    """

    window: int | None = None

    def __init__(self, identity: Identity, received: ByteRanges) -> None:
        self.identity = identity
        self.received = received

    @abc.abstractmethod
    def write(self, position: int, data: bytes) -> None:
        """Takes bytes that are not there yet."""

    @abc.abstractmethod
    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on, where there are some.

        Returns:
            At least one byte; none if what was there is gone, or is not what was written.
        """

    @abc.abstractmethod
    def kept(self) -> int:
        """How many of the bytes would be kept for another attempt."""

    @abc.abstractmethod
    def close(self, *, keep: bool) -> None:
        """Ends it.

        Args:
            keep: whether another attempt, by whichever process, may go on with what is there.
        """


class MemorySpool(Spool):
    """Keeps a few bytes, in memory, until they are read."""

    window = 32 << 20

    def __init__(self, identity: Identity) -> None:
        super().__init__(identity, ByteRanges())
        self._pieces: dict[int, bytes | bytearray | memoryview] = {}
        self._ends: dict[int, int] = {}  # where a piece ends, and where it begins

    def write(self, position: int, data: bytes) -> None:
        start = self._ends.pop(position, position)
        piece = self._pieces.get(start)
        # Joined, since a server may send a byte at a time, each of which would cost a hundred.
        if isinstance(piece, bytearray) and len(piece) < _LEAST_PIECE:
            piece += data
        else:
            start = position
            self._pieces[start] = bytearray(data) if len(data) < _LEAST_PIECE else data
        stop = position + len(data)
        self._ends[stop] = start
        self.received.add(position, stop)

    def read(self, position: int, size: int) -> bytes:
        piece = self._pieces.pop(position)
        stop = position + len(piece)
        self._ends.pop(stop, None)
        if len(piece) > size:
            view = memoryview(piece)
            piece, self._pieces[position + size] = view[:size], view[size:]
            self._ends[stop] = position + size
        return bytes(piece)

    def kept(self) -> int:
        return 0

    def close(self, *, keep: bool) -> None:
        self._pieces.clear()
