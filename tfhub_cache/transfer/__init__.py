"""Transfer: an archive's bytes, received over one or several connections, and read in order.

Each connection is a thread that brings one piece of the archive after another into a spool. The
reader, who unpacks, takes the bytes out of it in order. When they run short, more connections are
made, as long as that pays (`pace`). One that breaks off goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tfhub_cache.errors import CacheError, DownloadError
from tfhub_cache.ranges import ByteRanges
from tfhub_cache.source import Download, Source
from tfhub_cache.store import Claim
from tfhub_cache.store.spool import Identity
from tfhub_cache.transfer.connection import CannotResumeError, Connection, NoPartsError
from tfhub_cache.transfer.pace import Pace
from tfhub_cache.transfer.pieces import Pieces
from tfhub_cache.urls import redact

_LEAST_DIVIDED = 4 << 20
"""Bytes still to be asked for that are worth another connection."""
_MOST_FAILURES = 4
"""How often in a row a connection may fail."""
_FIRST_PAUSE = 0.25
_ERROR = 400
_POLL = 0.05


class Transfer:
    """An archive on its way: a context manager, and a `ByteStream` for one reader.

    What is read are the archive's bytes in order, as far as the server's word on its versions
    goes. Whether they are the right ones is checked by whoever reads them.

    Attributes:
        download: what the server says of the archive.
    """

    download: Download

    def __init__(
        self,
        handle: str,
        source: Source,
        claim: Claim,
        connections: int,
        tell: Callable[[int, int | None], object],
    ) -> None:
        """Prepares a transfer; entering it begins it.

        Args:
            handle: what it is for.
            source: where the archive is.
            claim: where it is unpacked to, and may have left bytes of an earlier attempt.
            connections: how many there may be at most.
            tell: is called with the number of bytes received, and their number in all.
        """
        self._handle = handle
        self._source = source
        self._claim = claim
        self._tell = tell
        self._pace = Pace(connections, time.monotonic())
        self._changed = threading.Condition()  # guards all that follows
        self._position = 0
        self._waited = 0.0
        self._connections: dict[Connection, threading.Thread] = {}
        self._error: Exception | None = None
        self._closed = False

    def __enter__(self) -> Transfer:
        with contextlib.ExitStack() as opened:
            self.download, received = self._ask(opened)
            self._size = self.download.size
            identity = Identity(self._size, self.download.version, dict(self.download.checksums))
            self._spool = self._claim.spool(identity, received)
            end = sys.maxsize if self._size is None else self._size
            self._pieces = Pieces(self._spool.received.missing(end), self._spool.window)
            self._received = self._spool.received.total()
            if not (self.download.divisible and self._can_resume):
                self._pace.settle(1)
            self._connect(opened.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        threads = list(self._connections.values())
        self.close()
        for thread in threads:
            thread.join(1.0)  # one that is still connecting ends later, and touches nothing
        is_interruption = error is not None and not isinstance(error, Exception)
        with self._changed:
            self._spool.close(keep=is_interruption or (error is not None and self.broke_off))

    @property
    def broke_off(self) -> bool:
        """Whether the connection failed for good, and a later attempt can go on where it was."""
        return (
            self._can_resume
            and isinstance(self._error, DownloadError)
            and not isinstance(self._error, CannotResumeError)
        )

    def read(self, size: int, /) -> bytes:
        with self._changed:
            while True:
                if self._spool.received.end_of_run(self._position) > self._position:
                    data = self._spool.read(self._position, size)
                    if not data:
                        raise CacheError(f"What was received of {self._shown} has disappeared.")
                    self._position += len(data)
                    self._changed.notify_all()
                    return data
                if self._position == self._size:
                    return b""
                if self._error is not None:
                    raise self._error
                if self._closed:
                    raise DownloadError(f"The download of {self._shown} was ended.")
                began = time.monotonic()
                self._changed.wait(_POLL)
                self._waited += time.monotonic() - began
                self._consider_more()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    @property
    def _shown(self) -> str:
        return redact(self._handle)

    @property
    def _can_resume(self) -> bool:
        return self.download.version is not None and self._size is not None

    def _ask(self, opened: contextlib.ExitStack) -> tuple[Download, ByteRanges | None]:
        """Asks for what is missing; what is there is None if it is of no use."""
        leftover = self._claim.leftover()
        if leftover is None:
            return opened.enter_context(self._source.open()), None
        identity, received = leftover
        assert identity.size is not None
        # If nothing is missing, the last byte tells whether it is still the same archive.
        first = min(received.end_of_run(0), identity.size - 1)
        download = opened.enter_context(self._source.open(first, version=identity.version))
        told = download.first, download.version, download.size
        if told == (first, identity.version, identity.size):
            # An answer with a part may say less of the whole than the one that began.
            checksums = {**identity.checksums, **download.checksums}
            return dataclasses.replace(download, checksums=checksums), received
        if download.first:  # by a server that looks at Range and not at If-Range
            opened.close()
            download = opened.enter_context(self._source.open())
        return download, None

    def _consider_more(self) -> None:
        """Makes more connections if bytes run short, and more have paid so far."""
        receiving = sum(connection.is_receiving for connection in self._connections)
        wanted = self._pace.consider(time.monotonic(), self._received, self._waited, receiving)
        while len(self._connections) < wanted and self._pieces.left() >= _LEAST_DIVIDED:
            self._connect(None)

    def _connect(self, opened: contextlib.ExitStack | None) -> None:
        connection = Connection(self._handle, self, self._source, self.download.version, self._size)
        if opened is not None:
            connection.adopt(opened, self.download)
        thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        with self._changed:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads for us
            with self._changed:
                del self._connections[connection]
                self._pace.settle(len(self._connections))
            if opened is not None:
                raise

    # What follows is called by the connections' threads.

    def _run(self, connection: Connection) -> None:
        try:
            connection.run()
        except Exception as error:  # told to the reader
            with self._changed:
                if not self._closed:
                    self._error = self._error or error
        finally:
            with self._changed:
                self._connections.pop(connection, None)
                self._changed.notify_all()

    def take(self, connection: Connection) -> tuple[int, int] | None:
        with self._changed:
            count = len(self._connections)
            is_over = self._closed or self._error is not None or count > self._pace.wanted
            piece = None if is_over else self._pieces.take(count)
            if piece is None:
                del self._connections[connection]  # at once, lest two leave instead of one
            return piece

    def put(self, position: int, data: bytes) -> bool:
        stop = position + len(data)
        with self._changed:
            while not self._closed and self._is_beyond_window(stop):
                first = self._pieces.first()
                if first is not None and first < position:
                    return False  # what is needed next waits for somebody to bring it
                self._changed.wait()
            if self._closed:
                return False
            try:
                self._spool.write(position, data)
            except OSError as error:
                raise CacheError(
                    f"Could not keep what was received of {self._shown}: "
                    f"{error.strerror or error}. Check the cache's free space and permissions."
                ) from error
            self._received += len(data)
            received = self._received
            self._changed.notify_all()
        self._tell(received, self._size)
        return True

    def end(self, position: int) -> None:
        with self._changed:
            self._size = position
            self._pieces = Pieces((), None)
            self._changed.notify_all()

    def leave(self, start: int, stop: int) -> None:
        with self._changed:
            self._pieces.give_back(start, stop)
            self._changed.notify_all()

    def fail(self, start: int, stop: int, error: DownloadError, failures: int) -> None:
        with self._changed:
            self._pieces.give_back(start, stop)
            self._changed.notify_all()
            others = len(self._connections) - 1
            is_refusal = isinstance(error, NoPartsError) or (error.status or 0) >= _ERROR
            if self._closed:
                return
            if others and (is_refusal or failures > _MOST_FAILURES):
                self._pace.settle(others)  # the server has had enough of them
                return
            can_go_on = (
                self._can_resume and not is_refusal and not isinstance(error, CannotResumeError)
            )
            if not can_go_on or failures > _MOST_FAILURES:
                self._error = self._told(error)
                return
        self.pause(_FIRST_PAUSE * 2 ** (failures - 1))

    def pause(self, seconds: float) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._closed, seconds):
                raise DownloadError(f"The download of {self._shown} was ended.")

    def is_shared(self) -> bool:
        with self._changed:
            return len(self._connections) > 1

    def _is_beyond_window(self, stop: int) -> bool:
        window = self._spool.window
        return window is not None and stop > self._position + window

    def _told(self, error: DownloadError) -> DownloadError:
        """The error, and what becomes of the bytes that have arrived."""
        kept = (
            self._spool.kept()
            if self._can_resume and not isinstance(error, CannotResumeError)
            else 0
        )
        note = (
            f"{kept} of {self._size} bytes are kept: try again, and it goes on from there."
            if kept
            else "Nothing of it was kept; try again."
        )
        return type(error)(
            f"{error} {note}", handle=error.handle, url=error.url, status=error.status
        )
