"""Receiving an archive in segments, over one connection at first, over more as long as that pays.

Each connection is a thread that brings one segment after another into a spool, the nearest to the
reader first. The reader takes the bytes out of it in order, and while it has to wait, it looks
after the connections.

More connections help where a server, or the network on the way, limits each of them. Where one
uses the whole bandwidth, or is faster than the archive is unpacked, others would only load the
server. So they are made while the reader waits, and only if the last ones have made the download
faster.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from tfhub_cache.errors import DownloadError
from tfhub_cache.transfer.connection import Connection
from tfhub_cache.transfer.spool import Spool

_LEAD = 8 << 20
"""Bytes that a connection that is alone may be ahead of the reader. More would only take processor
time from the reader, and what is read at once is still in the processor's cache."""
LEAST_DIVIDED = 4 << 20
"""Bytes of an archive, or of what is missing of it, that are worth dividing."""
_AHEAD = 4
"""How many segments ahead a new connection begins, if another brings what is needed next."""
_READ = 256 << 10
_POLL = 0.05
_PATIENCE = 2.0
"""Seconds after which a segment that the reader waits for is late. Twice as long after each."""
_WINDOW = 0.15
"""Seconds of measuring before a decision on the number of connections."""
_STARVED = 0.2
"""The network is the bottleneck if there was nothing to unpack for this share of that time."""
_WORTHWHILE = 1.2
"""How many times faster it must have become since the number of connections was last doubled."""


class Segments:
    """The segments of an archive: a `ByteStream` for one reader.

    A new connection may never bring anything: the server may refuse it, not answer, or have another
    version. So its first segment lies ahead of what is needed next, if another connection brings
    that, and until it has brought a byte of it, it keeps no other connection from bringing it.

    Attributes:
        spool: where they are put.
    """

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
        self.spool = spool
        self._connect = connect
        self._first = first
        self._report = report
        self._changed = threading.Condition()  # guards all that follows, and the spool
        self._connections: list[Connection] = []
        self._threads: list[threading.Thread] = []
        self._error: Exception | None = None
        self._closed = False
        self._position = 0
        self._begun_at = spool.first_missing() // spool.segment
        self._received = sum(spool.received.values())
        self._waited = 0.0
        self._patience = _PATIENCE
        self._most = most
        self._wanted = 1
        self._rate = 0.0  # bytes a second, when the number of connections was last doubled
        self._measured = time.monotonic(), self._received, self._waited

    def begin(self) -> None:
        """Begins to receive; `end` must follow, however this is interrupted."""
        with self._changed:
            self._start(self._first)

    def read(self, size: int, /) -> bytes:
        with self._changed:
            while not self._closed:
                if data := self.spool.read(self._position, size):
                    self._position += len(data)
                    if self._position % self.spool.segment < len(data):
                        self._changed.notify_all()  # connections may be too far ahead
                    return data
                if self._position == self.spool.identity.size:
                    return b""
                if self._error is not None:
                    raise self._error
                self._changed.notify_all()  # what was kept may have turned out to be damaged
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
            for connection in self._connections:
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
                self.spool.close(keep=keep or not is_over)

    def _look_after_connections(self) -> None:
        """Ends one for which the reader has waited too long, and starts those that are wanted."""
        needed, now = self._position // self.spool.segment, time.monotonic()
        self._decide(now)
        for connection in self._connections:
            is_awaited = connection.segment == needed or not connection.is_proven
            # One that was always alone can't be compared with others: the network is slow.
            if is_awaited and now - connection.since > self._patience and len(self._threads) > 1:
                self._patience *= 2
                # Not waited for, as it may hang in a call that can't be interrupted.
                self._dismiss(connection)
                connection.close()
                break
        missing = self.spool.identity.size - self._received
        wanted = self._wanted if missing >= LEAST_DIVIDED else 1
        while len(self._connections) < wanted and self._start(self._connect()):
            pass

    def _decide(self, now: float) -> None:
        """Wants twice as many connections if the reader waits, and the last ones were of use."""
        began, received, waited = self._measured
        duration = now - began
        if sum(connection.is_proven for connection in self._connections) >= self._wanted:
            if duration < _WINDOW:
                return
            rate = (self._received - received) / duration
            is_starved = self._waited - waited > _STARVED * duration
            if is_starved and rate >= _WORTHWHILE * self._rate:
                self._wanted, self._rate = min(2 * self._wanted, self._most), rate
        self._measured = now, self._received, self._waited

    def _start(self, connection: Connection) -> bool:
        """Starts a connection's thread, if there is a segment for it."""
        if not self._give(connection):
            connection.drop()
            return False
        self._connections.append(connection)
        thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads for us
            connection.drop()
            self._dismiss(connection, connection.failure(str(error)))
            return False
        self._threads.append(thread)
        return True

    def _give(self, connection: Connection) -> bool:
        """Gives a connection the missing segment that is nearest to the reader, if there is one."""
        spool = self.spool
        others = [one for one in self._connections if one is not connection]
        held = {one.segment for one in others if one.is_proven or not connection.is_proven}
        first = self._position // spool.segment
        stop = first + spool.window // spool.segment
        if not others:
            stop = min(stop, max(first, self._begun_at) + _LEAD // spool.segment)
        free = (
            index
            for index in range(first, min(stop, spool.count))
            if index not in held and not spool.is_complete(index)
        )
        is_ahead = first in held and not connection.is_proven
        nearest = list(itertools.islice(free, _AHEAD if is_ahead else 1))
        if not nearest:
            return False
        for other in others:
            if other.segment == nearest[-1]:
                other.segment = None
        connection.segment, connection.since = nearest[-1], time.monotonic()
        return True

    def _dismiss(self, connection: Connection, error: Exception | None = None) -> None:
        """Counts a connection no longer; what it has not brought is for others.

        If it failed, there will be no more than they are. If there are none, that is the end.
        """
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        connection.segment = None
        if error is not None:
            self._most = self._wanted = max(1, len(self._connections))
            if not self._connections or not isinstance(error, DownloadError):
                self._error = self._error or error
        self._changed.notify_all()

    # What follows is called by the connections' threads.

    def _run(self, connection: Connection) -> None:
        failure = None
        try:
            while (taken := self._take(connection)) is not None:
                try:
                    self._bring(connection, *taken)
                except DownloadError as error:
                    connection.recover(error, alone=taken[-1])
        except Exception as error:
            failure = error
        finally:
            connection.drop()
            with self._changed:
                self._dismiss(connection, failure)

    def _take(self, connection: Connection) -> tuple[int, int, bool] | None:
        """The next segment to bring.

        Returns:
            Its index; up to which byte to ask; and whether no other connection has brought
            anything. None if the connection is not needed any more; it must end then.
        """
        with self._changed:
            while not self._closed and self._error is None and connection in self._connections:
                index = connection.segment
                if index is None or self.spool.is_complete(index):
                    connection.segment = None
                    if not self._give(connection):
                        self._changed.wait()
                    continue
                proven = {one for one in self._connections if one.is_proven} - {connection}
                if proven:
                    return index, self.spool.stop(index), False
                # Alone, it asks for all segments up to the next one that is complete.
                there = (other for other in self.spool.received if other > index)
                last = min(there, default=self.spool.count) - 1
                return index, self.spool.stop(last), True
            return None

    def _bring(self, connection: Connection, index: int, asked: int, alone: bool) -> None:
        position, stop = self.spool.missing(index), self.spool.stop(index)
        while position < stop:
            data = connection.read(position, asked, min(_READ, stop - position), alone=alone)
            with self._changed:
                if self._closed or connection.segment != index:
                    connection.drop()  # its stream has gone past these bytes
                    return
                self.spool.write(index, data)
                self._received += len(data)
                connection.is_proven = True
                self._changed.notify_all()
            position += len(data)
            self._report(self._received, self.spool.identity.size)
