"""Receiving an archive in segments, over one connection at first, over more as long as that pays.

Each connection is a thread that brings one segment after another into a spool, the nearest to the
reader first. The reader takes the bytes out of it in order, and while it has to wait, it looks
after the connections.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tfhub_cache.errors import CacheError, DownloadError
from tfhub_cache.transfer.connection import Connection, is_refusal
from tfhub_cache.transfer.pace import Pace
from tfhub_cache.transfer.spool import Spool

_LEAD = 8 << 20
"""Bytes that a connection that is alone may be ahead of the reader. More would only take processor
time from the reader, and what is read at once is still in the processor's cache."""
_LEAST_DIVIDED = 4 << 20
"""Bytes not received yet that are worth another connection."""
_READ = 256 << 10
_POLL = 0.05
_PATIENCE = 2.0
"""Seconds that a segment may take before it can be late. Longer after each that was."""
_LATE = 4
"""How many times as long as others a segment takes that is late."""


class Segments:
    """The segments of an archive: a `ByteStream` for one reader.

    A new connection may never bring anything: the server may refuse it, not answer, or have another
    version. So its first segment lies ahead of what is needed next, and a connection that gets
    there first, with an answer that continues there, takes the segment over.

    Attributes:
        error: what has ended it, if anything has.
    """

    error: Exception | None = None

    def __init__(
        self,
        spool: Spool,
        connect: Callable[[], Connection],
        first: Connection,
        most: int,
        report: Callable[[int, int | None], object],
    ) -> None:
        """Prepares to receive; `begin` begins.

        Args:
            spool: where the segments are put, and may be already.
            connect: makes another connection.
            first: a connection with an answer from the first missing segment on.
            most: how many connections there may be.
            report: is called with the number of bytes received, and their number in all.
        """
        self._spool = spool
        self._connect = connect
        self._first = first
        self._report = report
        self._changed = threading.Condition()  # guards all that follows, and the spool
        self._pace = Pace(most if first.is_divisible else 1, time.monotonic())
        self._position = 0
        self._waited = 0.0
        self._received = sum(spool.received.values())
        self._begun_at = spool.first_missing()
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._usual = 0.0  # seconds that a segment takes; 0: not known
        self._patience = _PATIENCE
        self._not_before = 0.0  # when a segment without a connection may be asked for again
        self._closed = False

    def begin(self) -> None:
        """Begins to receive; `end` must follow, however this is interrupted.

        Raises:
            DownloadError: if no thread can be started.
        """
        if not self._start(self._first):
            self._first.drop()
            if self.error is not None:
                raise self.error

    def read(self, size: int, /) -> bytes:
        with self._changed:
            while not self._closed:
                if data := self._spool.read(self._position, size):
                    self._position += len(data)
                    if self._position % self._spool.segment < len(data):
                        self._changed.notify_all()  # connections may be too far ahead
                    return data
                if self._position == self._spool.identity.size:
                    return b""
                if self.error is not None:
                    raise self.error
                began = time.monotonic()
                self._changed.wait(_POLL)
                self._waited += time.monotonic() - began
                self._look_after_connections()
        raise self._first.failure("the download was ended")

    def close(self) -> None:
        """Stops receiving; may be called by any thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            connections = list(self._connections)
        for connection in connections:
            connection.close()

    def end(self, *, keep: bool) -> None:
        """Waits for the connections, and closes the spool, however it is interrupted.

        Args:
            keep: whether a later attempt may resume.
        """
        is_over = False
        try:
            self.close()
            for thread in self._threads:
                thread.join(1.0)  # one that is still connecting ends later, and touches nothing
            is_over = True
        finally:
            self.close()
            with self._changed:
                self._spool.close(keep=keep or not is_over)

    def _look_after_connections(self) -> None:
        """Ends one that is late, and starts more if the reader waits and more have paid so far."""
        now = time.monotonic()
        needed = self._position // self._spool.segment
        holder = self._holder(needed)
        if holder is not None and self._is_late(holder, now):
            self._end(holder)
            self._patience *= 2
            self._pace.settle(len(self._connections))
        proven = self._proven()
        wanted = self._pace.consider(now, self._received, self._waited, proven)
        if proven > wanted:  # new ones, which may be stuck, don't count
            self._end(max(self._connections, key=lambda one: (one.is_proven, one.since)))
        if self._spool.identity.size - self._received < _LEAST_DIVIDED:
            wanted = 1
        while len(self._connections) < wanted and self._start(self._connect()):
            pass
        if not proven and self._holder(needed) is None and now > self._not_before:
            self._not_before = now + self._patience
            self._patience *= 2
            self._start(self._connect())

    def _is_late(self, connection: Connection, now: float) -> bool:
        taken = now - connection.since
        is_slow = 0 < _LATE * self._usual < taken or not connection.is_proven
        # A connection that was always alone can't be compared with others: the network is slow.
        return len(self._threads) > 1 and is_slow and taken > self._patience

    def _proven(self) -> int:
        """How many connections have brought anything."""
        return sum(connection.is_proven for connection in self._connections)

    def _start(self, connection: Connection) -> bool:
        """Starts a connection's thread, if there is a segment for it."""
        index = self._nearest(connection)
        if index is None:
            return False
        thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        with self._changed:
            self._connections.add(connection)
            self._give(connection, index)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more threads for us
                self._dismiss(connection)
                self._pace.settle(len(self._connections))
                if not self._connections:
                    self.error = connection.failure(str(error))
                return False
        self._threads.append(thread)
        return True

    def _holder(self, index: int) -> Connection | None:
        """The connection that brings a segment."""
        return next((one for one in self._connections if one.segment == index), None)

    def _nearest(self, connection: Connection) -> int | None:
        """The segment that a connection should bring next; None if there is none."""
        spool = self._spool
        skipped = 0
        if not connection.is_proven and (others := self._proven()):
            # As many as the others bring in a second.
            skipped = max(1, int(others / self._usual)) if self._usual else 1
            skipped = min(skipped, spool.window // spool.segment // 2)
        nearest = None
        for index in range(self._position // spool.segment, spool.count):
            holder = self._holder(index)
            if spool.is_complete(index):
                continue
            if holder is not None:
                if not holder.is_proven and connection.is_at(spool.missing(index)):
                    return index
                continue
            nearest = index
            if not skipped:
                break
            skipped -= 1
        return nearest

    def _give(self, connection: Connection, index: int) -> None:
        """Gives a segment to a connection, which takes it over from another that may have it."""
        holder = self._holder(index)
        if holder is not None:
            holder.segment = None
        connection.segment = index
        connection.since = time.monotonic()

    def _dismiss(self, connection: Connection) -> None:
        """Counts a connection no longer; what it has not brought is for others."""
        self._connections.discard(connection)
        connection.segment = None
        self._changed.notify_all()

    def _end(self, connection: Connection) -> None:
        # Not waited for, as it may hang in a call that can't be interrupted; `_put` ignores it.
        self._dismiss(connection)
        connection.close()

    # What follows is called by the connections' threads.

    def _run(self, connection: Connection) -> None:
        try:
            while (taken := self._take(connection)) is not None:
                try:
                    self._bring(connection, *taken)
                except DownloadError as error:
                    self._fail(connection, error)
        except Exception as error:  # raised to the reader
            with self._changed:
                if not self._closed and connection in self._connections:
                    self.error = self.error or error
        finally:
            connection.drop()
            with self._changed:
                self._dismiss(connection)

    def _take(self, connection: Connection) -> tuple[int, int, bool] | None:
        """The next segment to bring.

        Returns:
            Its index; up to which byte to ask; and whether there is no other connection. None if
            the connection is not needed any more; it must end then.
        """
        with self._changed:
            while True:
                if self._closed or self.error is not None or connection not in self._connections:
                    return None
                index = connection.segment  # it may have it still, or have lost it to another
                if index is not None and not self._spool.is_complete(index):
                    break
                connection.segment = None
                index = self._nearest(connection)
                if index is None:
                    return None
                if self._is_too_far_ahead(index):
                    self._changed.wait()
                else:
                    self._give(connection, index)
            if len(self._connections) > 1:
                return index, self._spool.stop(index), False
            # Alone, it asks for all segments up to the next one that is complete.
            there = (other for other in self._spool.received if other > index)
            return index, self._spool.stop(min(there, default=self._spool.count) - 1), True

    def _bring(self, connection: Connection, index: int, asked: int, alone: bool) -> None:
        position, stop = self._spool.missing(index), self._spool.stop(index)
        if not connection.is_at(position):
            connection.open(position, asked, alone=alone)
        while position < stop:
            data = connection.read(min(_READ, stop - position))
            if not self._put(connection, index, data):
                connection.drop()  # its stream has gone past these bytes
                return
            position += len(data)
            self._report(self._received, self._spool.identity.size)

    def _put(self, connection: Connection, index: int, data: bytes) -> bool:
        """Takes the next bytes of a segment; False if they are not wanted any more."""
        with self._changed:
            if self._closed or connection.segment != index:
                return False
            try:
                self._spool.write(index, data)
            except OSError as error:
                failure = CacheError(
                    f"Could not keep what was received of {self._first.shown}: "
                    f"{error.strerror or error}. Check the cache's free space and permissions."
                )
                failure.errno = error.errno
                raise failure from error
            connection.is_proven = True
            self._received += len(data)
            if self._spool.is_complete(index):
                taken = time.monotonic() - connection.since
                self._usual = 0.7 * self._usual + 0.3 * taken if self._usual else taken
            self._changed.notify_all()
        return True

    def _fail(self, connection: Connection, error: DownloadError) -> None:
        """Gives back the segment of a connection that failed, which then asks again, or ends."""
        with self._changed:
            if self._closed or connection not in self._connections:
                return
            others = self._connections - {connection}
            if others:
                connection.segment = None
            seconds = connection.fail(error, alone=not others)
            # The others may do without it, if they have brought anything or it has not.
            is_spared = not connection.is_proven or (
                is_refusal(error) and any(other.is_proven for other in others)
            )
            if others and (seconds is None or is_spared):
                self._pace.settle(len(others))
                self._dismiss(connection)
            elif seconds is None:
                self.error = connection.final_error(error, self._spool.kept())
                self._changed.notify_all()
            else:
                connection.since += seconds
                self._changed.wait_for(lambda: self._closed, seconds)

    def _is_too_far_ahead(self, index: int) -> bool:
        """Whether a segment has to wait until the reader has come closer."""
        segment = self._spool.segment
        ahead = self._spool.stop(index) - max(self._position // segment * segment, self._begun_at)
        window = _LEAD if len(self._connections) == 1 else self._spool.window
        return ahead > min(window, self._spool.window)
