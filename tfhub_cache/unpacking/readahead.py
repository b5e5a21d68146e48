"""Reading ahead: a thread reads a stream, with what is done on the way, before the reader needs it.

Receiving, inflating and writing each use a core of their own that way, if there are as many.
"""

from __future__ import annotations

import queue
import threading
from typing import TypeVar

from tfhub_cache.source.contract import ByteStream

_Stream = TypeVar("_Stream", bound=ByteStream)

_CHUNK = 512 << 10
_MOST_WAITING = 4
"""Chunks that may wait to be read."""


def read_ahead(stream: _Stream) -> _Stream | ReadAhead:
    """A stream's bytes, read ahead for one reader; the stream itself if there is no thread left."""
    try:
        return ReadAhead(stream)
    except RuntimeError:  # the system has no more threads for us
        return stream


class ReadAhead:
    """A `ByteStream` of another one's bytes. See `read_ahead`."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._chunk, self._position = b"", 0
        self._error: BaseException | None = None
        self._closed = False
        # A queue and the room in it, as queue.Queue can't wake a thread that waits to put.
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._room = threading.Semaphore(_MOST_WAITING)
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        if self._position == len(self._chunk):
            self._chunk, self._position = self._chunks.get(), 0
            self._room.release()
        if not self._chunk:
            self._chunks.put(b"")  # for the next call
            if self._error is not None:
                raise self._error
        data = self._chunk[self._position : self._position + size]
        self._position += len(data)
        return data

    def close(self) -> None:
        self._closed = True
        self._room.release()
        self._stream.close()
        self._thread.join(1.0)

    def _read_all(self) -> None:
        try:
            while data := self._stream.read(_CHUNK):
                self._room.acquire()
                if self._closed:
                    raise ValueError("the stream is closed")
                self._chunks.put(data)
        except BaseException as error:  # raised to the reader
            self._error = error
        self._chunks.put(b"")  # the end, where the reader looks for an error
