"""One connection of a transfer: an answer of the server, or the next one where that breaks off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import NETWORK
from tfhub_cache.source.contract import ByteStream, Download, Source
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
        shown: the handle as it may be shown.
        is_resumable: whether it can be asked for the rest of the archive.
        is_divisible: whether the server has said that it sends parts of the archive.
        is_proven: whether it has brought anything.
        segment: what it is bringing, if there are segments, whose lock guards it.
        since: when it began with that.
    """

    def __init__(
        self,
        handle: str,
        source: Source,
        download: Download,
        pause: Callable[[float], object],
        opened: contextlib.ExitStack | None = None,
    ) -> None:
        """A connection, which asks when it is first used.

        Args:
            handle: what it is for.
            source: where the archive is.
            download: what the server has said of the archive.
            pause: waits for so many seconds before the server is asked once more.
            opened: closes the download's stream, if this connection is to read that one.
        """
        self.shown = redact(handle)
        self.is_resumable = download.version is not None and download.size is not None
        self.is_divisible = download.divisible
        self.is_proven = False
        self.segment: int | None = None
        self.since = 0.0
        self._source = source
        self._download = download
        self._pause = pause
        self._opened = opened or contextlib.ExitStack()
        self._stream: ByteStream | None = None if opened is None else download.stream
        self._position = download.first
        self._stop = download.size  # of the stream; None: not known
        self._failures = 0
        self._since_failure = 0
        self._last_byte = time.monotonic()
        self._closed = False

    def is_at(self, position: int) -> bool:
        """Whether its stream brings this byte next."""
        return (
            self._stream is not None and self._position == position and self._stop != self._position
        )

    def open(self, first: int, stop: int | None, *, alone: bool) -> None:
        """Asks for the bytes from `first` to `stop`, or to the archive's end.

        Args:
            first: the first byte that is wanted.
            stop: the first one that is not; None: all to the end.
            alone: whether there is no other connection, so that the server is asked repeatedly.

        Raises:
            DownloadError: if there is no answer.
            CannotResumeError: if the answer is not of these bytes.
        """
        self.drop()
        self._last_byte = time.monotonic()
        version = self._download.version
        download = self._opened.enter_context(
            self._source.open(first, stop, version, pause=self._wait if alone else None)
        )
        if (download.version, download.size) != (version, self._download.size):
            raise self.failure(
                "the archive has changed while it was being received", CannotResumeError
            )
        if download.first != first:
            raise self.failure(
                "the download broke off, and the server sends no parts", CannotResumeError
            )
        self._stream, self._position = download.stream, first
        self._stop = download.size if stop is None else stop
        if self._closed:
            self._stream.close()

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end of an archive of unknown size only.

        Raises:
            DownloadError: if it breaks off.
        """
        assert self._stream is not None
        data = self._stream.read(size)
        if not data and self._stop is not None:
            raise self.failure("the download broke off too early")
        self._last_byte = time.monotonic()
        self._since_failure += len(data)
        self._position += len(data)
        return data

    def fail(self, error: DownloadError, *, alone: bool) -> float | None:
        """Drops the answer after a failure, and decides whether to ask again.

        Args:
            error: what it was.
            alone: as in `open`.

        Returns:
            Seconds to wait before; None if it is of no use.
        """
        self.drop()
        if self._since_failure >= _PROGRESS:
            self._failures = 0
        self._since_failure = 0
        # One that has waited for long is repeated half as often.
        self._failures += 2 if time.monotonic() - self._last_byte > _LONG_SILENCE else 1
        if (
            not self.is_resumable
            or isinstance(error, CannotResumeError)
            or (alone and is_refusal(error))
        ):
            return None
        return NETWORK.pause_after(self._failures)

    def failure(self, what: str, kind: type[DownloadError] = DownloadError) -> DownloadError:
        """What is raised when the archive can't be received."""
        return kind(f"Could not download {self.shown}", cause=what, handle=self.shown)

    def final_error(self, error: DownloadError, kept: int) -> DownloadError:
        """The error, and what becomes of the bytes that have arrived."""
        note = (
            f"{kept} of {self._download.size} bytes are kept: try again to resume from there."
            if kept and not isinstance(error, CannotResumeError)
            else "Nothing of it was kept; try again."
        )
        return type(error)(
            f"{error} {note}", handle=error.handle, url=error.url, status=error.status
        )

    def close(self) -> None:
        """Ends it for good, from any thread."""
        self._closed = True
        if (stream := self._stream) is not None:
            stream.close()

    def drop(self) -> None:
        """Gives up the answer, in the thread that uses it."""
        self._stream = None
        self._opened.close()

    def _wait(self, seconds: float) -> None:
        self.since += seconds  # it is not late for that
        self._pause(seconds)


def is_refusal(error: DownloadError) -> bool:
    """Whether it is an answer of the server that says no."""
    return (error.status or 0) >= _ERROR
