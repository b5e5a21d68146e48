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
    """What the server sends is not the rest of the bytes that are there."""


class Work(Protocol):
    """What the connections of a transfer share."""

    def take(self, connection: Connection, at: int | None) -> tuple[int, bool] | None:
        """The first byte of the next piece to bring, and whether others bring pieces, too.

        Args:
            connection: who asks.
            at: the byte that its stream brings next, if it has one.

        Returns:
            None if the connection is not needed any more; it must end then.
        """

    def piece(self, connection: Connection) -> tuple[int, int] | None:
        """What is left of its piece; None if another brings it now."""

    def put(self, connection: Connection, data: bytes) -> bool:
        """Takes the next bytes of its piece; False if they are not wanted any more."""

    def end(self, connection: Connection) -> None:
        """Is told that the archive ends where the connection is."""

    def fail(self, connection: Connection, error: DownloadError, failures: int) -> None:
        """Takes back the rest of a piece that failed, for the so manieth time in a row."""

    def pause(self, seconds: float) -> None:
        """Waits, as long as the transfer goes on."""


class Connection:
    """What one thread does. It asks for pieces until there are none."""

    def __init__(
        self, handle: str, work: Work, source: Source, version: str | None, size: int | None
    ) -> None:
        self._handle = redact(handle)
        self._work = work
        self._source = source
        self._version = version
        self._size = size
        self._opened = contextlib.ExitStack()
        self._stream: ByteStream | None = None
        self._position = 0
        self._end: int | None = None  # of the stream; None: not known
        self._failures = 0
        self._since_failure = 0
        self._closed = False

    def adopt(self, opened: contextlib.ExitStack, download: Download) -> None:
        """Takes over an answer that has been asked for already, to the archive's end."""
        self._opened = opened
        self._stream = download.stream
        self._position = download.first
        self._end = self._size

    def run(self) -> None:
        """Brings pieces until there are none, or the transfer ends."""
        try:
            while (taken := self._work.take(self, self._goes_on_at())) is not None:
                self._bring(*taken)
        finally:
            self._drop()

    def close(self) -> None:
        """Ends what it is receiving, from another thread; it asks for another piece then."""
        if (stream := self._stream) is not None:
            stream.close()

    def end(self) -> None:
        """Ends it for good, from another thread."""
        self._closed = True
        self.close()

    def _goes_on_at(self) -> int | None:
        has_more = self._stream is not None and self._position != self._end
        return self._position if has_more else None

    def _bring(self, start: int, is_shared: bool) -> None:
        last_byte = time.monotonic()
        try:
            if self._goes_on_at() != start:
                self._open(start, is_shared)
            while (piece := self._work.piece(self)) is not None:
                position, stop = piece
                assert self._stream is not None
                data = self._stream.read(min(_READ, stop - position))
                if not data and self._size is None:
                    self._work.end(self)
                    return
                if not data:
                    raise self._failure(DownloadError, "the download broke off too early")
                if not self._work.put(self, data):
                    break
                last_byte = time.monotonic()
                self._since_failure += len(data)
                self._position += len(data)
                if self._position == stop:
                    return
            self._drop()  # its stream is not where it was any more
        except DownloadError as error:
            self._drop()
            if self._since_failure >= _PROGRESS:
                self._failures = 0
            self._since_failure = 0
            # Who has waited for long is not patient as many times.
            self._failures += 2 if time.monotonic() - last_byte > _LONG_SILENCE else 1
            self._work.fail(self, error, self._failures)

    def _open(self, start: int, is_shared: bool) -> None:
        """Asks for a piece, or, alone, for all from there on: the next piece is what follows."""
        self._drop()
        piece = self._work.piece(self)
        if piece is None:
            return
        stop = piece[1] if is_shared else None
        retries = 0 if is_shared else 4
        download = self._opened.enter_context(
            self._source.open(start, stop, self._version, retries=retries, pause=self._work.pause)
        )
        if (download.version, download.size) != (self._version, self._size):
            raise self._failure(
                CannotResumeError, "the archive has changed while it was being received"
            )
        if download.first != start:
            raise self._failure(
                CannotResumeError, "the download broke off, and the server sends no parts"
            )
        self._stream, self._position = download.stream, start
        self._end = self._size if stop is None else stop
        if self._closed:
            self._stream.close()

    def _failure(self, kind: type[DownloadError], what: str) -> DownloadError:
        return kind(f"Could not download {self._handle}: {what}.", handle=self._handle)

    def _drop(self) -> None:
        self._stream = None
        self._opened.close()
