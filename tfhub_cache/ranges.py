"""Which bytes of an archive are there: a set of numbers, kept as ranges."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator


class ByteRanges:
    """Ranges `[start, stop)` that neither overlap nor touch, in order."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Adds the bytes from `start` up to, but not including, `stop`."""
        if start >= stop:
            return
        first = bisect.bisect_left(self._ranges, start, key=lambda other: other[1])
        last = bisect.bisect_right(self._ranges, stop, key=lambda other: other[0])
        touched = self._ranges[first:last]
        if touched:
            start, stop = min(start, touched[0][0]), max(stop, touched[-1][1])
        self._ranges[first:last] = [(start, stop)]

    def end_of_run(self, position: int) -> int:
        """The first byte from `position` on that is missing."""
        index = bisect.bisect_right(self._ranges, position, key=lambda other: other[0]) - 1
        return max(position, self._ranges[index][1]) if index >= 0 else position

    def missing(self, stop: int) -> Iterator[tuple[int, int]]:
        """The ranges before `stop` that are missing, in order."""
        position = 0
        for start, end in self._ranges:
            if start >= stop:
                break
            if position < start:
                yield position, start
            position = end
        if position < stop:
            yield position, stop

    def total(self) -> int:
        """How many bytes there are."""
        return sum(stop - start for start, stop in self._ranges)
