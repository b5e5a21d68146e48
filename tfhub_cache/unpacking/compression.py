"""Compression: the plain bytes of an archive that is compressed with gzip, bzip2, xz or nothing.

The first bytes say which compression it is. isal inflates gzip, up to three times as
fast as zlib. What no decompressor guards against is refused here, in one way for all of them: input
that produces no output, and streams that ask for more memory than usual ones do.
"""

from __future__ import annotations

import bz2
import functools
import lzma
from collections.abc import Callable
from typing import Any

from isal import igzip_lib

from tfhub_cache.errors import ArchiveError, OtherFileError, ResolveError
from tfhub_cache.source.contract import ByteStream
from tfhub_cache.unpacking.kinds import LONGEST_MAGIC, kind_of

_SMALLEST, _LARGEST = 64 << 10, 512 << 10
"""Bytes that are decompressed at once. They double as a stream is read, as large ones cost less,
but what a stream leaves of them is copied at its end, and there may be many short streams."""
_LONGEST_WITHOUT_OUTPUT = 32 << 20
_MOST_EMPTY_STREAMS = 1000
_LARGEST_WINDOW = 256 << 20
"""Memory that xz may ask for; its strongest preset takes 65 MiB."""


class PlainStream:
    """The plain bytes of a stream that may be compressed: a `ByteStream`.

    Several compressed streams may follow each other, as the gzip and xz programs write them.

    Attributes:
        is_compressed: whether it is compressed.
        received: how many bytes of the stream have been used.

    Raises:
        OtherFileError: if it is known what the stream is, and that is no archive.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._head = b""
        while (missing := LONGEST_MAGIC - len(self._head)) and (more := stream.read(missing)):
            self._head += more
        known = (new for magic, new in _DECOMPRESSORS.items() if self._head.startswith(magic))
        self._new = next(known, None)
        if self._new is None and (kind := kind_of(self._head)):
            raise OtherFileError(
                f"it is {kind.name}, not a SavedModel in a .tar.gz archive",
                advice=kind.use and f"Download the file with a browser or curl -L, and {kind.use}.",
            )
        self._decompressor: Any = None
        self._is_empty = True  # the stream that is being decompressed, so far
        self._empty_streams = 0
        self._block = _SMALLEST
        self.is_compressed = self._new is not None
        self.received = 0

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, and none at the end only.

        Raises:
            ArchiveError: if the stream is damaged.
            ResolveError: as the stream raises it.
        """
        try:
            return self._receive(size) if self._new is None else self._decompress(self._new, size)
        except ResolveError:
            raise
        except Exception as error:  # each decompressor has errors of its own
            raise ArchiveError(str(error).rstrip(".") or type(error).__name__) from error

    def close(self) -> None:
        self._stream.close()

    def _decompress(self, new: Callable[[], Any], size: int) -> bytes:
        self._decompressor = decompressor = self._decompressor or new()
        start = self.received
        while True:
            data = b""
            if decompressor.eof:
                data = decompressor.unused_data.lstrip(b"\0")  # behind the padding
                while not data and (more := self._receive_block(start)):
                    data = more.lstrip(b"\0")
                if not data:
                    return b""
                self._empty_streams += self._is_empty
                if self._empty_streams > _MOST_EMPTY_STREAMS:
                    raise ArchiveError(f"more than {_MOST_EMPTY_STREAMS} streams in it are empty")
                self._decompressor = decompressor = new()
                self._is_empty = True
                self._block = _SMALLEST
            elif decompressor.needs_input:
                data = self._receive_block(start)
                if not data:
                    raise EOFError("it ends too early")
            plain: bytes = decompressor.decompress(data, size)
            if plain:
                self._is_empty = False
                return plain

    def _receive_block(self, start: int) -> bytes:
        """The next bytes to decompress. There has been no output since `start`."""
        if self.received - start > _LONGEST_WITHOUT_OUTPUT:
            raise ArchiveError(f"{_LONGEST_WITHOUT_OUTPUT >> 20} MiB of it produce no output")
        block, self._block = self._block, min(2 * self._block, _LARGEST)
        return self._receive(block)

    def _receive(self, size: int) -> bytes:
        data = self._head or self._stream.read(size)
        data, self._head = data[:size], self._head[size:]
        self.received += len(data)
        return data


_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": functools.partial(igzip_lib.IgzipDecompressor, igzip_lib.DECOMP_GZIP),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": functools.partial(
        lzma.LZMADecompressor, lzma.FORMAT_XZ, memlimit=_LARGEST_WINDOW
    ),
}
"""How streams begin, and what decompresses one of them; all have the interface of bz2's."""
