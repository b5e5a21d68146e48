"""Reading ahead: a thread reads a stream, and what is done on the way to it, before it is asked.

It takes what it costs to receive and to digest off the thread that inflates, which alone keeps a
core busy.
"""

from __future__ import annotations

import collections
import threading

from tfhub_cache.source import ByteStream

_CHUNK = 1 << 20
_MOST_WAITING = 4
"""Chunks that may wait to be read."""


class ReadAhead:
    """A `ByteStream` of another one's bytes, for one reader."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._changed = threading.Condition()  # guards all that follows
        self._chunks: collections.deque[bytes] = collections.deque()
        self._error: Exception | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._ended)
            if not self._chunks:
                if self._error is not None:
                    raise self._error
                return b""
            chunk = self._chunks.popleft()
            if len(chunk) > size:
                self._chunks.appendleft(chunk[size:])
                chunk = chunk[:size]
            self._changed.notify_all()
            return chunk

    def close(self) -> None:
        self._stream.close()
        with self._changed:
            self._chunks.clear()
            self._error = self._error or ValueError("the stream is closed")
            self._ended = True
            self._changed.notify_all()
        self._thread.join(1.0)

    def _read_all(self) -> None:
        try:
            while data := self._stream.read(_CHUNK):
                with self._changed:
                    self._changed.wait_for(lambda: len(self._chunks) < _MOST_WAITING or self._ended)
                    if self._ended:
                        return
                    self._chunks.append(data)
                    self._changed.notify_all()
            error = None
        except Exception as raised:  # raised to the reader
            error = raised
        with self._changed:
            self._error = self._error or error
            self._ended = True
            self._changed.notify_all()
