"""Transfer: an archive's bytes, received over one or several connections, and read in order.

Each connection is a thread that brings one piece of the archive after another into a spool. The
reader, who unpacks, takes the bytes out of it in order. When they run short, more connections are
made, as long as that pays (`pace`); who brings what is in the `plan`. One that breaks off goes on
where it was, and so does a new process (`opening`).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tfhub_cache.errors import CacheError, DownloadError
from tfhub_cache.source import Download, Source
from tfhub_cache.store import Claim
from tfhub_cache.transfer.connection import CannotResumeError, Connection
from tfhub_cache.transfer.opening import open_archive
from tfhub_cache.transfer.pace import Pace
from tfhub_cache.transfer.plan import Plan
from tfhub_cache.urls import redact

_LEAST_DIVIDED = 4 << 20
"""Bytes still to be asked for that are worth another connection."""
_LEAD = 8 << 20
"""Bytes that a connection that is alone may be ahead of the reader, once that one has read what an
earlier attempt has kept. More would only take processor time from the reader, and what is read soon
is still in the processor's cache."""
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
        resumed: whether it goes on with what an earlier attempt has received.
    """

    download: Download
    resumed: bool

    def __init__(
        self,
        handle: str,
        source: Source,
        claim: Claim,
        connections: int,
        tell: Callable[[int, int | None], object],
        *,
        pause: Callable[[float], object],
        in_memory: bool = False,
    ) -> None:
        """Prepares a transfer; entering it begins it.

        Args:
            handle: what it is for.
            source: where the archive is.
            claim: where it is unpacked to, and may have left bytes of an earlier attempt.
            connections: how many there may be at most.
            tell: is called with the number of bytes received, and their number in all.
            pause: waits for so many seconds before the archive is asked for once more.
            in_memory: whether to take no room on the disk.
        """
        self._ask_again_after = pause
        self._handle = handle
        self._source = source
        self._claim = claim
        self._tell = tell
        self._in_memory = in_memory
        self._pace = Pace(connections, time.monotonic())
        self._changed = threading.Condition()  # guards all that follows
        self._position = 0
        self._waited = 0.0
        self._connections: dict[Connection, threading.Thread] = {}
        self._was_shared = False
        self._error: Exception | None = None
        self._is_damaged = False
        self._closed = False

    def __enter__(self) -> Transfer:
        with contextlib.ExitStack() as opened, contextlib.ExitStack() as undo:
            self.download, self._spool = open_archive(
                self._handle,
                self._source,
                self._claim,
                opened,
                pause=self._ask_again_after,
                in_memory=self._in_memory,
            )
            undo.callback(self._spool.close, keep=True)
            self.resumed = self._spool.received.total() > 0
            self._kept_until = self._spool.received.end_of_run(0)
            self._size = self.download.size
            end = sys.maxsize if self._size is None else self._size
            missing = self._spool.received.missing(end)
            self._plan: Plan[Connection] = Plan(missing, self._spool.window)
            self._received = self._spool.received.total()
            if not (self.download.divisible and self._is_resumable):
                self._pace.settle(1)
            self._connect(opened)
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        threads = list(self._connections.values())
        keep = True  # if this is interrupted
        try:
            self.close()
            for thread in threads:
                thread.join(1.0)  # one that is still connecting ends later, and touches nothing
            is_interruption = error is not None and not isinstance(error, Exception)
            keep = is_interruption or (error is not None and self.broke_off)
        finally:
            self.close()
            with self._changed:
                self._spool.close(keep=keep)

    @property
    def broke_off(self) -> bool:
        """Whether the network failed for good, and a later attempt can go on where it was."""
        return (
            self._is_resumable
            and not self._is_damaged
            and isinstance(self._error, DownloadError)
            and not isinstance(self._error, CannotResumeError)
        )

    @property
    def takes_room(self) -> bool:
        """Whether what was received is on the cache's disk."""
        return self._spool.window is None

    def read(self, size: int, /) -> bytes:
        with self._changed:
            while True:
                if self._closed:
                    raise DownloadError(f"The download of {self._shown} was ended.")
                if self._spool.received.end_of_run(self._position) > self._position:
                    data = self._spool.read(self._position, size)
                    if not data:
                        self._is_damaged = True
                        raise DownloadError(
                            f"What was kept of {self._shown} is damaged: {self._position} of "
                            "its bytes could be read.",
                            handle=self._shown,
                        )
                    self._position += len(data)
                    self._changed.notify_all()
                    return data
                if self._position == self._size:
                    return b""
                if self._error is not None:
                    raise self._error
                began = time.monotonic()
                self._changed.wait(_POLL)
                self._waited += time.monotonic() - began
                self._look_after_connections()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            connections = list(self._connections)
        for connection in connections:
            connection.end()

    @property
    def _shown(self) -> str:
        return redact(self._handle)

    @property
    def _is_resumable(self) -> bool:
        return self.download.version is not None and self._size is not None

    def _look_after_connections(self) -> None:
        """Makes more if bytes run short and more have paid so far; ends one that is too slow."""
        now = time.monotonic()
        # One that has always been alone can't be slower than others, only the network can.
        missing = self._spool.received.end_of_run(self._position)
        slow = self._plan.slow(missing, now) if self._was_shared else None
        if slow is not None:
            # Not waited for: it may hang in what can't be interrupted. What it does later is void.
            self._plan.expect_less()
            self._dismiss(slow)
            slow.end()
            self._pace.settle(len(self._connections))
        wanted = self._pace.consider(now, self._received, self._waited, self._proven())
        while len(self._connections) < wanted:
            is_worth_it = self._plan.left() >= _LEAST_DIVIDED or not self._connections
            if not is_worth_it or not self._connect(None):
                break

    def _proven(self) -> int:
        """How many connections have brought anything."""
        return sum(self._plan.is_proven(connection) for connection in self._connections)

    def _connect(self, opened: contextlib.ExitStack | None) -> bool:
        """Starts a connection, the first one with the answer that is there."""
        connection = Connection(self._handle, self, self._source, self.download.version, self._size)
        if opened is not None:
            connection.adopt(opened.pop_all(), self.download)
        thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        with self._changed:
            self._connections[connection] = thread
            self._was_shared = len(self._connections) > 1 or self._was_shared
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more threads for us
                del self._connections[connection]
                connection.close()
                if opened is not None:
                    raise DownloadError(f"Could not download {self._shown}: {error}.") from error
                self._pace.settle(len(self._connections))
                return False
        return True

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
                self._dismiss(connection)

    def take(self, connection: Connection, at: int | None) -> tuple[int, bool] | None:
        with self._changed:
            if connection not in self._connections:
                return None
            count = len(self._connections)
            start = None
            if not self._closed and self._error is None and not self._is_superfluous(connection):
                start = self._plan.take(connection, at, count, time.monotonic())
            if start is None:
                # At once, and not when its thread ends: two must not leave where one is too many.
                self._dismiss(connection)
                return None
            return start, count > 1

    def piece(self, connection: Connection) -> tuple[int, int] | None:
        with self._changed:
            return None if self._closed else self._plan.piece(connection)

    def put(self, connection: Connection, data: bytes) -> bool:
        with self._changed:
            while True:
                piece = self._plan.piece(connection)
                if self._closed or piece is None:
                    return False
                position, _ = piece
                if not self._is_too_far_ahead(position + len(data)):
                    break
                first = self._plan.first()
                if first is not None and first < position:
                    self._plan.give_back(connection)
                    return False  # what is needed next waits for somebody to bring it
                self._plan.rest(connection, time.monotonic())
                self._changed.wait()
                self._plan.go_on(connection, time.monotonic())
            try:
                self._spool.write(position, data)
            except OSError as error:
                failure = CacheError(
                    f"Could not keep what was received of {self._shown}: "
                    f"{error.strerror or error}. Check the cache's free space and permissions."
                )
                failure.errno = error.errno
                raise failure from error
            self._plan.brought(connection, len(data), time.monotonic())
            self._received += len(data)
            self._changed.notify_all()
        self._tell(self._received, self._size)
        return True

    def end(self, connection: Connection) -> None:
        with self._changed:
            piece = self._plan.piece(connection)
            assert piece is not None
            self._size = piece[0]
            self._plan.end()
            self._changed.notify_all()

    def fail(self, connection: Connection, error: DownloadError, failures: int) -> None:
        with self._changed:
            self._plan.give_back(connection)
            self._changed.notify_all()
            if self._closed or connection not in self._connections:
                return
            others = len(self._connections) - 1
            is_proven = self._plan.is_proven(connection)
            is_refused = (error.status or 0) >= _ERROR
            # One of several asks once, and may be refused for that; one that is alone has insisted.
            is_final = (
                failures > _MOST_FAILURES
                or isinstance(error, CannotResumeError)
                or (is_refused and not others)
            )
            # The others may do without it, if they have brought anything or it has not.
            is_spared = not is_proven or (is_refused and self._proven() > 1)
            if others and (is_final or is_spared):
                self._pace.settle(others)
                self._dismiss(connection)
                return
            if is_final or not self._is_resumable:
                self._error = self._told(error)
                return
        self.pause(_FIRST_PAUSE * 2 ** (failures - 1))

    def _dismiss(self, connection: Connection) -> None:
        """Counts a connection no longer; what it has not brought is for others."""
        self._connections.pop(connection, None)
        self._plan.leave(connection)
        self._changed.notify_all()

    def pause(self, seconds: float) -> None:
        with self._changed:
            if self._changed.wait_for(lambda: self._closed, seconds):
                raise DownloadError(f"The download of {self._shown} was ended.")

    def _is_superfluous(self, connection: Connection) -> bool:
        """Whether a connection is one too many. New ones, which may be stuck, don't count."""
        if not self._plan.is_proven(connection):
            return len(self._connections) > self._pace.wanted
        return self._proven() > self._pace.wanted

    def _is_too_far_ahead(self, stop: int) -> bool:
        """Whether bytes up to there have to wait until the reader has come closer."""
        window = self._spool.window
        if len(self._connections) == 1 and self._position >= self._kept_until:
            window = _LEAD
        return window is not None and stop > self._position + window

    def _told(self, error: DownloadError) -> DownloadError:
        """The error, and what becomes of the bytes that have arrived."""
        is_lost = not self._is_resumable or isinstance(error, CannotResumeError)
        kept = 0 if is_lost else self._spool.kept()
        note = (
            f"{kept} of {self._size} bytes are kept: try again, and it goes on from there."
            if kept
            else "Nothing of it was kept; try again."
        )
        return type(error)(
            f"{error} {note}", handle=error.handle, url=error.url, status=error.status
        )
