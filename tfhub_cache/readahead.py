"""Reading ahead: a thread reads a stream, and what is done on the way to it, before it is asked.

It takes what it costs to receive and to digest off the thread that inflates, which alone keeps a
core busy.
"""

from __future__ import annotations

import contextlib
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
        self._end: Exception | None = None
        self._queue: queue.Queue[bytes | Exception] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        if not self._chunk and self._end is None:
            item = self._queue.get()
            if isinstance(item, Exception):
                self._end = item
            else:
                self._chunk = item
        if self._end is not None and not isinstance(self._end, EOFError):
            raise self._end
        chunk, self._chunk = self._chunk, b""
        if len(chunk) > size:
            chunk, self._chunk = chunk[:size], chunk[size:]
        return chunk

    def close(self) -> None:
        self._stream.close()
        while self._thread.is_alive():  # it may wait for room in the queue
            with contextlib.suppress(queue.Empty):
                self._queue.get(timeout=0.01)
        self._queue.put(ValueError("the stream is closed"))  # for a reader that waits

    def _read_all(self) -> None:
        try:
            while data := self._stream.read(_CHUNK):
                self._queue.put(data)
            self._queue.put(EOFError())
        except Exception as error:  # raised to the reader
            self._queue.put(error)
