"""One connection of a transfer: an answer of the server, or the next one where that breaks off."""

from __future__ import annotations

import contextlib
import threading
import time

from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import pause_after
from tfhub_cache.source.contract import ByteStream, Download, Part, Source
from tfhub_cache.urls import redact

_LONG_SILENCE = 10.0
_PROGRESS = 1 << 20
"""Bytes after which earlier failures are forgotten."""
_ERROR = 400


class CannotResumeError(DownloadError):
    """What the server sends is not the rest of the bytes that are there."""


class Connection:
    """A connection, used by one thread, except for `close`.

    Attributes:
        is_proven: whether it has brought anything.
        segment: what it is bringing, if there are segments, whose lock guards it.
        since: when it began with that.
    """

    def __init__(
        self,
        handle: str,
        source: Source,
        download: Download,
        answer: contextlib.ExitStack | None = None,
    ) -> None:
        """A connection, which asks when it is first used.

        Args:
            handle: what it is for.
            source: where the archive is.
            download: what the server has said of the archive.
            answer: closes the download's stream, if this connection is to read that one.
        """
        self.is_proven = False
        self.segment: int | None = None
        self.since = 0.0
        self._handle = redact(handle)
        self._source = source
        self._download = download
        self._answer = answer or contextlib.ExitStack()
        self._stream: ByteStream | None = None if answer is None else download.stream
        self._position = download.first
        self._stop = download.size  # of the stream; None: not known
        self._failures = 0
        self._since_failure = 0
        self._last_byte = time.monotonic()
        self._closed = threading.Event()

    def read(self, first: int, stop: int | None, size: int, *, alone: bool) -> bytes:
        """Bytes of the archive, from its answer if that continues there, or else from another.

        Args:
            first: the first byte that is wanted.
            stop: up to which byte to ask, if it asks; None: all to the archive's end.
            size: how many bytes there may be.
            alone: whether no other connection has brought anything, so that the server is asked
                repeatedly.

        Returns:
            The bytes; none at the end of an archive of unknown size only.

        Raises:
            DownloadError: if there is no answer, or it breaks off.
            CannotResumeError: if the answer is not of these bytes.
        """
        if self._stream is None or self._position != first or self._position == self._stop:
            self._open(first, stop, alone)
        assert self._stream is not None
        data = self._stream.read(size)
        if not data and self._stop is not None:
            raise self.failure("the download broke off too early")
        self._last_byte = time.monotonic()
        self._since_failure += len(data)
        self._position += len(data)
        return data

    def _open(self, first: int, stop: int | None, alone: bool) -> None:
        self.drop()
        self._last_byte = time.monotonic()
        wanted = self._download
        pause = self._pause if alone else None
        got = self._answer.enter_context(
            self._source.open(Part(first, stop, wanted.version), pause)
        )
        if (got.version, got.size) != (wanted.version, wanted.size):
            raise self.failure("the archive has changed while it was received", CannotResumeError)
        if got.first != first:
            raise self.failure(
                "the download broke off, and the server sends no parts", CannotResumeError
            )
        self._stream, self._position = got.stream, first
        self._stop = wanted.size if stop is None else stop
        if self._closed.is_set():
            self._stream.close()

    def recover(self, error: DownloadError, *, alone: bool) -> None:
        """Drops the answer after a failure, and waits until it may be asked again.

        Args:
            error: what it was.
            alone: as in `read`.

        Raises:
            DownloadError: the error, if that is of no use.
        """
        self.drop()
        if self._since_failure >= _PROGRESS:
            self._failures = 0
        self._since_failure = 0
        # One that has waited for long is repeated half as often.
        self._failures += 2 if time.monotonic() - self._last_byte > _LONG_SILENCE else 1
        seconds = pause_after(self._failures)
        is_resumable = self._download.version is not None and self._download.size is not None
        # A refusal is final: of one that is alone it has been repeated, and others do without.
        is_refused = isinstance(error, CannotResumeError) or (error.status or 0) >= _ERROR
        if seconds is None or not is_resumable or is_refused or not (alone or self.is_proven):
            raise error
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        self.since += seconds  # it is not late for that
        if self._closed.wait(seconds):
            raise self.failure("the download was ended")

    def failure(self, what: str, kind: type[DownloadError] = DownloadError) -> DownloadError:
        """What is raised when the archive can't be received."""
        return kind(f"Could not download {self._handle}", cause=what, handle=self._handle)

    def close(self) -> None:
        """Ends it for good, from any thread."""
        self._closed.set()
        if (stream := self._stream) is not None:
            stream.close()

    def drop(self) -> None:
        """Gives up the answer, in the thread that uses it."""
        self._stream = None
        self._answer.close()
