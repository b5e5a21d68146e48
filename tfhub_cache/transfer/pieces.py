"""What is still to be received of an archive, in pieces for several connections."""

from __future__ import annotations

import bisect
from collections.abc import Iterable

_SMALLEST, _LARGEST = 1 << 20, 8 << 20
_ROUNDS = 4
"""How many pieces each connection would get of what is left: the last ones are small, so that
all connections end at about the same time."""


class Pieces:
    """Ranges `[start, stop)` of bytes that no connection has been told to bring, in order."""

    def __init__(self, missing: Iterable[tuple[int, int]], window: int | None) -> None:
        self._missing = sorted(missing)
        self._largest = _LARGEST if window is None else min(_LARGEST, window // 16)

    def take(self, connections: int) -> tuple[int, int] | None:
        """The next piece, if there is one.

        Args:
            connections: how many share the work.
        """
        if not self._missing:
            return None
        start, stop = self._missing.pop(0)
        share = self.left() // (_ROUNDS * connections)
        size = min(max(share, _SMALLEST), self._largest)
        if stop - start > size:
            self.give_back(start + size, stop)
            stop = start + size
        return start, stop

    def give_back(self, start: int, stop: int) -> None:
        """Takes back what a connection did not bring."""
        if start < stop:
            bisect.insort(self._missing, (start, stop))

    def first(self) -> int | None:
        """The first byte that nobody has been told to bring."""
        return self._missing[0][0] if self._missing else None

    def left(self) -> int:
        """How many bytes nobody has been told to bring."""
        return sum(stop - start for start, stop in self._missing)
