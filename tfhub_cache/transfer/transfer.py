"""Receiving an archive: what the server answers is read in order, and resumed where it breaks off.

An archive that is small, or can't be resumed, is read from the answer as it comes. Any other is
received in segments (`segments`), which may be kept for another attempt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable

from tfhub_cache.errors import DownloadError
from tfhub_cache.source.contract import Download, Source
from tfhub_cache.transfer.connection import CannotResumeError, Connection
from tfhub_cache.transfer.segments import Segments
from tfhub_cache.transfer.spool import Identity, Spool, Spools

_LEAST_DIVIDED = 4 << 20
"""Bytes of an archive that are worth dividing and keeping."""


class Transfer:
    """An archive on its way: a context manager, and a `ByteStream` for one reader.

    The archive's bytes are read in order, all of one version by the server's word. Whether they
    are the right ones is checked by the reader.

    Attributes:
        download: what the server says of the archive.
        resumed: whether it resumes what an earlier attempt has received.
        takes_room: whether what is received is kept on the cache's disk.
    """

    download: Download
    resumed: bool = False
    takes_room: bool = False

    def __init__(
        self,
        handle: str,
        source: Source,
        claim: Spools,
        connections: int,
        report: Callable[[int, int | None], object],
        *,
        pause: Callable[[float], object],
        in_memory: bool = False,
    ) -> None:
        """Prepares a transfer; entering it begins it.

        Args:
            handle: what it is for.
            source: where the archive is.
            claim: where bytes are kept, and may be of an earlier attempt.
            connections: how many there may be at most.
            report: is called with the number of bytes received, and their number in all.
            pause: waits for so many seconds before the archive is asked for once more.
            in_memory: whether to take no room on the disk.
        """
        self._handle = handle
        self._source = source
        self._claim = claim
        self._most = connections
        self._report = report
        self._ask_again_after = pause
        self._in_memory = in_memory
        self._closed = threading.Event()
        self._position = 0
        self._error: Exception | None = None

    def __enter__(self) -> Transfer:
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as undo:
            self.download, spool = self._open(opened, undo)
            connect = functools.partial(
                Connection, self._handle, self._source, self.download, self._pause
            )
            self._connection = first = connect(opened.pop_all())
            self._segments = None
            if spool is not None:
                self.takes_room = spool.is_kept
                self._segments = Segments(spool, connect, first, self._most, self._report)
                undo.pop_all()  # the segments close the spool
                undo.callback(first.drop)
                undo.callback(self._segments.end, keep=True)
                self._segments.begin()
            undo.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._closed.set()
        if self._segments is None:
            if error is not None:
                self._connection.close()  # another thread may still be reading
            self._connection.drop()
        else:
            is_interruption = error is not None and not isinstance(error, Exception)
            self._segments.end(keep=is_interruption or (error is not None and self.broke_off))

    @property
    def broke_off(self) -> bool:
        """Whether the network failed for good, and a later attempt can resume."""
        error = self._error if self._segments is None else self._segments.error
        return (
            self._connection.is_resumable
            and isinstance(error, DownloadError)
            and not isinstance(error, CannotResumeError)
        )

    def read(self, size: int, /) -> bytes:
        if self._segments is not None:
            return self._segments.read(size)
        connection = self._connection
        while self._position != self.download.size:
            try:
                if not connection.is_at(self._position):
                    connection.open(self._position, None, alone=True)
                data = connection.read(size)
            except DownloadError as error:
                seconds = connection.fail(error, alone=True)
                if seconds is None:
                    self._error = connection.final_error(error, 0)
                    raise self._error from error
                self._pause(seconds)
            else:
                self._position += len(data)
                self._report(self._position, self.download.size)
                return data
        return b""

    def close(self) -> None:
        self._closed.set()
        if self._segments is None:
            self._connection.close()
        else:
            self._segments.close()

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise self._connection.failure("the download was ended")

    def _open(
        self, opened: contextlib.ExitStack, undo: contextlib.ExitStack
    ) -> tuple[Download, Spool | None]:
        """Asks for what an earlier attempt has not received, or else for the whole archive."""
        leftover = None if self._in_memory else self._claim.leftover()
        if leftover is not None:
            undo.callback(leftover.close, keep=True)
            if (rest := self._open_rest(leftover, opened)) is not None:
                self.resumed = True
                return rest, leftover
        download = opened.enter_context(self._source.open(pause=self._ask_again_after))
        size, version = download.size, download.version
        if size is None or version is None or size < _LEAST_DIVIDED or download.is_web_page:
            if leftover is not None:
                undo.pop_all()
                leftover.close(keep=download.is_web_page)  # which may be a captive portal's
            return download, None
        undo.close()
        identity = Identity(self._handle, size, version, dict(download.checksums))
        spool = None if self._in_memory else self._claim.spool(identity)
        if spool is None and download.divisible and self._most > 1:
            spool = Spool(identity)
        if spool is not None:
            undo.callback(spool.close, keep=False)
        return download, spool

    def _open_rest(self, leftover: Spool, opened: contextlib.ExitStack) -> Download | None:
        """Asks for what is missing of a spool; None if that is of no use."""
        identity = leftover.identity
        # If nothing is missing, the last byte shows whether it is still the same archive.
        first = min(leftover.first_missing(), identity.size - 1)
        expected = first, identity.version, identity.size
        with contextlib.ExitStack() as undo:
            undo.callback(opened.close)
            # Whatever the error, the server may only lack parts: the whole is asked for next.
            with contextlib.suppress(DownloadError):
                download = opened.enter_context(
                    self._source.open(first, None, identity.version, pause=self._ask_again_after)
                )
                if (download.first, download.version, download.size) == expected:
                    undo.pop_all()
                    # An answer with a part may say less of the whole than one with all.
                    checksums = {**identity.checksums, **download.checksums}
                    return dataclasses.replace(download, checksums=checksums)
        return None
