"""Compression: whatever an archive is compressed with, its plain bytes come out.

It is told from the first bytes. isal inflates gzip, faster than zlib. What no decompressor guards
against is guarded against here: streams that go on without anything coming out of them, and those
that ask for more memory than honest ones do.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from tfhub_cache.errors import ArchiveError, ResolveError
from tfhub_cache.readahead import read_ahead
from tfhub_cache.source import ByteStream

_CHUNK = 1 << 20
_RECEIVE = 1 << 20
_BLOCK = 64 << 10
"""What is decompressed at once: what a stream leaves of it is copied at its end."""
_LONGEST_TRAILER = 16 << 20
_LONGEST_WITHOUT_OUTPUT = 32 << 20
"""More than the decompressors read ahead; endless padding is skipped within them."""
_MOST_EMPTY_STREAMS = 1000
_LARGEST_WINDOW = 256 << 20
"""Memory that xz may ask for; its strongest preset takes 65 MiB."""


def decompress(stream: ByteStream, parallel: bool) -> PlainStream:
    """The plain bytes of a stream that may be compressed with gzip, bzip2 or xz.

    Args:
        stream: read to its end, but for what follows the end of the compressed bytes.
        parallel: whether to decompress in a thread of its own.

    Returns:
        A context manager with `read`, which tells all damage as an `ArchiveError`.
    """
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    received = _Received(stream, head)
    reader = _decompressed(received, head)
    if reader is None:
        reader = io.BufferedReader(received, _CHUNK)
    elif parallel:
        reader = read_ahead(reader)
    return PlainStream(stream, received, reader)


def _decompressed(received: _Received, head: bytes) -> _Reader | None:
    """The plain bytes of a file, by its first bytes; None if it is not compressed."""
    if head.startswith(b"\x1f\x8b"):
        return _open_gzip(received)
    if head.startswith(b"BZh"):
        return _StreamsReader(received, bz2.BZ2Decompressor)
    if head.startswith(b"\xfd7zXZ\x00"):
        return _StreamsReader(received, _open_xz)
    return None


class _Received(io.RawIOBase):
    """The stream as a file: what was read ahead to look at first, then the rest."""

    def __init__(self, stream: ByteStream, head: bytes) -> None:
        self._stream = stream
        self._head = head
        self.count = 0
        self.without_output = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        # In small pieces, so that a thread that reads here can be stopped soon.
        data = self._head or self._stream.read(min(len(buffer), _RECEIVE))
        data, self._head = data[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(data)] = data
        self.count += len(data)
        self.without_output += len(data)
        if self.without_output > _LONGEST_WITHOUT_OUTPUT:
            raise ArchiveError("it goes on and on, and nothing comes out")
        return len(data)


class _Reader(Protocol):
    """What the decompressors have in common."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class PlainStream:
    """Decompressed bytes, whose damage is told as an `ArchiveError`."""

    def __init__(self, stream: ByteStream, received: _Received, reader: _Reader) -> None:
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
        while self._received.read(_RECEIVE):
            if self.received > wanted + _LONGEST_TRAILER:
                raise ArchiveError("it goes on and on after its end")

    def read(self, size: int) -> bytes:
        try:
            data = self._reader.read(size)
        except ResolveError:
            raise
        except Exception as error:  # each decompressor has errors of its own
            raise ArchiveError(str(error).rstrip(".") or type(error).__name__) from error
        if data:
            self._received.without_output = 0
        return data

    def __enter__(self) -> PlainStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            # First, as a thread that decompresses may be waiting for it, and the reader's own
            # `close` waits for that thread.
            self._stream.close()
        self._reader.close()


class _StreamsReader:
    """Decompressed streams, one behind the other, as the gzip and xz programs write them."""

    def __init__(self, file: _Received, new_stream: Callable[[], _Decompressor]) -> None:
        self._file = file
        self._new_stream = new_stream
        self._stream = new_stream()
        self._empty_streams = 0

    def read(self, size: int, /) -> bytes:
        while True:
            data = b""
            if self._stream.eof:
                data = self._stream.unused_data.lstrip(b"\0") or self._file.read(_BLOCK)
                if not data:
                    return b""
                if data.count(0) == len(data):
                    continue  # padding
                self._stream = self._new_stream()
                self._empty_streams += 1
                if self._empty_streams > _MOST_EMPTY_STREAMS:
                    raise ArchiveError("it goes on and on, and nothing comes out")
            elif self._stream.needs_input:
                data = self._file.read(_BLOCK)
                if not data:
                    raise EOFError("it ends too early")
            if plain := self._stream.decompress(data, size):
                self._empty_streams = 0
                return plain

    def close(self) -> None:
        pass


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


def _open_gzip(file: _Received) -> _Reader:
    try:
        from isal import igzip  # faster than zlib, up to three times
    except ImportError:  # no wheel for this machine
        return _StreamsReader(file, _Gunzip)
    reader: _Reader = igzip.open(file, "rb")
    return reader
