"""How many connections: one at first, more while more of them bring more, fewer where they don't.

More connections help where a server, or the network on the way, limits each of them. Where one
connection uses the whole bandwidth, or is faster than the archive is unpacked, others would only
load the server. So connections are added while the reader waits for bytes, and only as long as the
last increase made the download faster.
"""

from __future__ import annotations

_WINDOW = 0.15
"""Seconds of measuring before a decision."""
_STARVED = 0.2
"""The network is the bottleneck if there was nothing to unpack for this share of that time."""
_WORTHWHILE = 1.2
"""How many times faster it must have become when the number of connections was doubled."""
_LONGEST_START = 5.0
"""Seconds that a new connection may take to bring its first byte before it is judged."""
_FIRST_REST, _LONGEST_REST = 1.0, 60.0
"""Seconds until more connections are tried again after they did not pay; longer each time."""


class Pace:
    """Decides on the number of connections. The time is an argument, so tests need not wait."""

    def __init__(self, most: int, now: float) -> None:
        """Begins with one connection.

        Args:
            most: how many there may be.
            now: the time in seconds, by any clock.
        """
        self.wanted = 1
        self._most = most
        self._rest = _FIRST_REST
        self._not_before = now
        self._rate_before = 0.0
        self._is_trial = False
        self._grown = now
        self._begin(now, 0, 0.0)

    def consider(self, now: float, received: int, waited: float, receiving: int) -> int:
        """Looks at what has happened since the last decision, and perhaps makes another.

        Args:
            now: the time in seconds.
            received: the number of bytes received so far.
            waited: for how many seconds, so far, the reader had nothing to unpack.
            receiving: how many connections have brought anything yet.

        Returns:
            How many connections there should be.
        """
        if self._is_trial and receiving < self.wanted and now - self._grown < _LONGEST_START:
            self._begin(now, received, waited)  # the new ones can't be judged yet
        duration = now - self._begun
        if duration < _WINDOW or now < self._not_before:
            return self.wanted
        rate = (received - self._received_before) / duration
        is_starved = waited - self._waited_before > _STARVED * duration
        was_trial, self._is_trial = self._is_trial, False
        if was_trial and rate < _WORTHWHILE * self._rate_before:
            self.wanted //= 2
            self._not_before = now + self._rest
            self._rest = min(2 * self._rest, _LONGEST_REST)
        elif is_starved and self.wanted < self._most:
            self.wanted = min(2 * self.wanted, self._most)
            self._rate_before = rate
            self._is_trial = True
            self._grown = now
        self._begin(now, received, waited)
        return self.wanted

    def settle(self, connections: int) -> None:
        """Allows no more than these from now on: the server, or the system, has refused others."""
        self.wanted = self._most = max(1, connections)
        self._is_trial = False

    def _begin(self, now: float, received: int, waited: float) -> None:
        self._begun = now
        self._received_before = received
        self._waited_before = waited
