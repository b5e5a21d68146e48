"""Reading ahead: a thread reads a stream, and what is done on the way to it, before it is asked.

Receiving and digesting, inflating, and writing each get a core of their own that way, if there are
as many.
"""

from __future__ import annotations

import queue
import threading

from tfhub_cache.source import ByteStream

_CHUNK = 1 << 20
_MOST_WAITING = 4
"""Chunks that may wait to be read."""


class ReadAhead:
    """A `ByteStream` of another one's bytes, for one reader."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._chunk = b""
        self._error: Exception | None = None
        self._closed = False
        # Simple ones, as waiting at each chunk is most of what this costs.
        self._chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_MOST_WAITING):
            self._room.put(None)
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        if not self._chunk:
            self._chunk = self._chunks.get()
            self._room.put(None)
        if not self._chunk:
            self._chunks.put(b"")  # for whoever asks once more
            if self._error is not None:
                raise self._error
        data, self._chunk = self._chunk[:size], self._chunk[size:]
        return data

    def close(self) -> None:
        self._closed = True
        self._room.put(None)
        self._stream.close()
        self._thread.join(1.0)

    def _read_all(self) -> None:
        try:
            while data := self._stream.read(_CHUNK):
                self._room.get()
                if self._closed:
                    raise ValueError("the stream is closed")
                self._chunks.put(data)
        except Exception as error:  # raised to the reader
            self._error = error
        self._chunks.put(b"")
