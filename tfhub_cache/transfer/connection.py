"""One connection of a transfer: brings one piece of the archive after another."""

from __future__ import annotations

import contextlib
import time
from typing import Protocol

from tfhub_cache.errors import DownloadError
from tfhub_cache.source import ByteStream, Download, Source
from tfhub_cache.urls import redact

_READ = 256 << 10
_LONG_SILENCE = 10.0
_PROGRESS = 1 << 20
"""Bytes after which earlier failures are forgotten."""


class CannotResumeError(DownloadError):
    """What the server sends does not belong to the bytes that are there."""


class NoPartsError(CannotResumeError):
    """The server sends the whole archive, whatever part of it was asked for."""


class Work(Protocol):
    """What the connections of a transfer share."""

    def take(self, connection: Connection) -> tuple[int, int] | None:
        """The next piece `[start, stop)` to bring; None: the connection is not needed any more."""

    def put(self, position: int, data: bytes) -> bool:
        """Takes bytes; False if this piece is to be left for another."""

    def end(self, position: int) -> None:
        """Is told where the archive ends, if nobody knew."""

    def leave(self, start: int, stop: int) -> None:
        """Takes back the rest of a piece."""

    def fail(self, start: int, stop: int, error: DownloadError, failures: int) -> None:
        """Takes back the rest of a piece, and is told how often in a row this went wrong."""

    def pause(self, seconds: float) -> None:
        """Waits, as long as the transfer goes on."""

    def is_shared(self) -> bool:
        """Whether there are other connections."""


class Connection:
    """What one thread does. It asks for pieces until there are none."""

    def __init__(
        self, handle: str, work: Work, source: Source, version: str | None, size: int | None
    ) -> None:
        self.is_receiving = False
        self._handle = redact(handle)
        self._work = work
        self._source = source
        self._version = version
        self._size = size
        self._opened = contextlib.ExitStack()
        self._stream: ByteStream | None = None
        self._position = 0
        self._until: int | None = None
        self._failures = 0
        self._since_failure = 0
        self._closed = False

    def adopt(self, opened: contextlib.ExitStack, download: Download) -> None:
        """Takes over an answer that has been asked for already, to the archive's end."""
        self._opened = opened
        self._stream = download.stream
        self._position = download.first
        self._until = self._size

    def run(self) -> None:
        """Brings pieces until there are none, or the transfer ends."""
        try:
            while (piece := self._work.take(self)) is not None:
                self._bring(*piece)
        finally:
            self._drop()

    def close(self) -> None:
        """Ends it from another thread, soon."""
        self._closed = True
        if (stream := self._stream) is not None:
            stream.close()

    def _bring(self, start: int, stop: int) -> None:
        last_byte = time.monotonic()
        position = start
        try:
            stream = self._at(start, stop)
            while position < stop:
                data = stream.read(min(_READ, stop - position))
                if not data and self._size is None:
                    self._work.end(position)
                    return
                if not data:
                    raise self._failure(DownloadError, "the download broke off too early")
                if not self._work.put(position, data):
                    self._drop()
                    self._work.leave(position, stop)
                    return
                self.is_receiving = True
                last_byte = time.monotonic()
                self._since_failure += len(data)
                self._position = position = position + len(data)
        except DownloadError as error:
            self._drop()
            if self._since_failure >= _PROGRESS:
                self._failures = 0
            self._since_failure = 0
            # Who has waited for long is not patient as many times.
            self._failures += 2 if time.monotonic() - last_byte > _LONG_SILENCE else 1
            self._work.fail(position, stop, error, self._failures)

    def _at(self, start: int, stop: int) -> ByteStream:
        """The stream at a position: the one that is there already, or another."""
        if self._stream is not None and self._position == start and start != self._until:
            return self._stream
        self._drop()
        is_shared = self._work.is_shared()
        # Alone, it goes on to the end, as the next piece is the one that follows.
        until = stop if is_shared else self._size
        download = self._opened.enter_context(
            self._source.open(
                start,
                until if is_shared else None,
                self._version,
                retries=0 if is_shared else 4,
                pause=self._work.pause,
            )
        )
        if (download.version, download.size) != (self._version, self._size):
            raise self._failure(
                CannotResumeError, "the archive has changed while it was being received"
            )
        if download.first != start:
            raise self._failure(
                NoPartsError, "the download broke off, and the server sends no parts"
            )
        self._stream, self._position, self._until = download.stream, start, until
        if self._closed:
            self._stream.close()
        return download.stream

    def _failure(self, kind: type[DownloadError], what: str) -> DownloadError:
        return kind(f"Could not download {self._handle}: {what}.", handle=self._handle)

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None
        self._opened.close()
