"""Compression: whatever an archive is compressed with, its plain bytes come out.

The first bytes say which compression it is. isal inflates gzip, faster than zlib. What no
decompressor guards against is refused here, in one way for all of them: input that produces no
output, and streams that ask for more memory than honest ones do.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from tfhub_cache.errors import ArchiveError, ResolveError
from tfhub_cache.source.contract import ByteStream
from tfhub_cache.unpacking.readahead import read_ahead

_SMALLEST, _LARGEST = 64 << 10, 512 << 10
"""Bytes that are decompressed at once. They double while a stream goes on, as large ones cost less,
but what a stream leaves of them is copied at its end, and there may be many short streams."""
_LONGEST_TRAILER = 16 << 20
_LONGEST_WITHOUT_OUTPUT = 32 << 20
_MOST_EMPTY_STREAMS = 1000
_LARGEST_WINDOW = 256 << 20
"""Memory that xz may ask for; its strongest preset takes 65 MiB."""


def decompress(stream: ByteStream, parallel: bool) -> PlainStream:
    """The plain bytes of a stream that may be compressed with gzip, bzip2 or xz.

    Args:
        stream: read to its end, except for what follows the end of the compressed bytes.
        parallel: whether to decompress in a thread of its own.

    Returns:
        A context manager with `read`, which raises all damage as an `ArchiveError`.
    """
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    received = _Received(stream, head)
    new_stream = _decompressor(head)
    if new_stream is None:
        return PlainStream(stream, received, received)
    reader = _Decompressed(received, new_stream)
    return PlainStream(stream, received, read_ahead(reader) if parallel else reader)


def _decompressor(head: bytes) -> Callable[[], _Decompressor] | None:
    """What decompresses a stream that begins like this; None if it is not compressed."""
    if head.startswith(b"\x1f\x8b"):
        return _open_gzip
    if head.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    if head.startswith(b"\xfd7zXZ\x00"):
        return _open_xz
    return None


class _Received:
    """The stream as it came: what was read ahead to look at first, then the rest."""

    def __init__(self, stream: ByteStream, head: bytes) -> None:
        self._stream = stream
        self._head = head
        self.count = 0

    def read(self, size: int, /) -> bytes:
        data = self._head or self._stream.read(size)
        data, self._head = data[:size], self._head[size:]
        self.count += len(data)
        return data

    def close(self) -> None:
        pass


class PlainStream:
    """Decompressed bytes, whose damage is raised as an `ArchiveError`."""

    def __init__(self, stream: ByteStream, received: _Received, reader: ByteStream) -> None:
        self._stream = stream
        self._received = received
        self._reader = reader

    @property
    def received(self) -> int:
        """How many compressed bytes have arrived."""
        return self._received.count

    def exhaust(self) -> None:
        """Reads what the decompressor did not want, since the stream is checked at its end."""
        wanted = self.received
        while self._received.read(_LARGEST):
            if self.received > wanted + _LONGEST_TRAILER:
                raise ArchiveError(f"it has more than {_LONGEST_TRAILER >> 20} MiB after its end")

    def read(self, size: int) -> bytes:
        """At most `size` bytes, and none at the end only."""
        try:
            return self._reader.read(size)
        except ResolveError:
            raise
        except Exception as error:  # each decompressor has errors of its own
            raise ArchiveError(str(error).rstrip(".") or type(error).__name__) from error

    def __enter__(self) -> PlainStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # First, as a thread that decompresses may be waiting for it, and the reader's own
            # `close` waits for that thread.
            self._stream.close()
        self._reader.close()


class _Decompressed:
    """Decompressed streams, one behind the other, as the gzip and xz programs write them."""

    def __init__(self, received: _Received, new_stream: Callable[[], _Decompressor]) -> None:
        self._received = received
        self._new_stream = new_stream
        self._stream = new_stream()
        self._block = _SMALLEST
        self._start = 0

    def read(self, size: int, /) -> bytes:
        self._start = self._received.count
        streams = 0
        while True:
            data = b""
            if self._stream.eof:
                data = self._next_stream()
                if not data:
                    return b""
                streams += 1
                if streams > _MOST_EMPTY_STREAMS:
                    raise ArchiveError(f"more than {_MOST_EMPTY_STREAMS} streams in it are empty")
                self._stream, self._block = self._new_stream(), _SMALLEST
            elif self._stream.needs_input:
                data = self._receive()
                if not data:
                    raise EOFError("it ends too early")
            if plain := self._stream.decompress(data, size):
                return plain

    def close(self) -> None:
        pass

    def _next_stream(self) -> bytes:
        """The first bytes of what follows a stream and its padding; none at the end."""
        data = self._stream.unused_data.lstrip(b"\0")
        while not data and (more := self._receive()):
            data = more.lstrip(b"\0")
        return data

    def _receive(self) -> bytes:
        if self._received.count - self._start > _LONGEST_WITHOUT_OUTPUT:
            raise ArchiveError(f"{_LONGEST_WITHOUT_OUTPUT >> 20} MiB of it produce no output")
        block, self._block = self._block, min(2 * self._block, _LARGEST)
        return self._received.read(block)


class _Decompressor(Protocol):
    """One compressed stream: what lzma and bz2 offer."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gunzip:
    """zlib, in the form of the other decompressors."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def _open_xz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LARGEST_WINDOW)


def _open_gzip() -> _Decompressor:
    try:
        from isal import igzip_lib  # faster than zlib, up to three times
    except ImportError:  # no wheel for this machine
        return _Gunzip()
    stream: _Decompressor = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
    return stream
