"""The plan: which connection brings which bytes of an archive. It knows no threads and no network.

The reader needs the bytes in order, so pieces are handed out from the front. Two things must not
hold it up:

- A new connection may never bring anything: the server may refuse it, not answer, or have another
  version of the archive. So its first piece lies ahead of what is needed next, and whoever gets
  there first, with a stream that just goes on, takes the piece over.
- A connection may be far slower than the others. What it has not brought is given to another.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Who = TypeVar("Who")

_SMALLEST, _LARGEST = 1 << 20, 8 << 20
_ROUNDS = 4
"""How many pieces each connection would get of what is left: the last ones are small, so that
all connections end at about the same time."""
_AHEAD = 1.0
"""Seconds that a new connection has to bring its first byte before another is where it begins."""
_SLOW = 8
"""How many times slower than others a connection is that has to give up its piece..."""
_PATIENCE = 2.0
"""... after so many seconds."""


@dataclass
class _Piece:
    """Bytes `[position, stop)` that a connection is bringing, and what it has brought of them."""

    position: int
    stop: int
    began: float
    brought: int = 0
    rests_since: float | None = None

    def rate(self, now: float) -> float:
        return self.brought / max(now - self.began, 1e-3)


class Plan(Generic[Who]):
    """Who brings which bytes. Connections can be anything that is hashable."""

    def __init__(self, missing: Iterable[tuple[int, int]], window: int | None) -> None:
        """Begins with nobody.

        Args:
            missing: the ranges `[start, stop)` to bring.
            window: how far beyond the reader bytes may be brought; None: any number.
        """
        self._missing = sorted(missing)
        self._window = window
        self._largest = _LARGEST if window is None else min(_LARGEST, window // 16)
        self._held: dict[Who, _Piece] = {}
        self._proven: set[Who] = set()  # of those that are still there
        self._usual_rate = 0.0

    def take(self, who: Who, at: int | None, connections: int, now: float) -> int | None:
        """Gives a connection its next piece.

        Args:
            who: the connection.
            at: the byte that its stream brings next, if it has one that goes on.
            connections: how many share the work.
            now: the time in seconds.

        Returns:
            The first byte of the piece; None if there is nothing for it to do.
        """
        for other, piece in self._held.items():
            if other not in self._proven and other != who and at == piece.position:
                self.give_back(other)
                break
        if not self._missing and not self._give_back_slow(who, now):
            return None
        first = self._missing[0][0]
        if self._proven and who not in self._proven and at is None:
            start, stop = self._cut_ahead(connections)
        else:
            start, stop = self._cut(first, self._size(connections))
        self._held[who] = _Piece(start, stop, now)
        return start

    def piece(self, who: Who) -> tuple[int, int] | None:
        """What a connection has still to bring of its piece; None if that was given to another."""
        piece = self._held.get(who)
        return None if piece is None else (piece.position, piece.stop)

    def brought(self, who: Who, size: int, now: float) -> None:
        """Is told of bytes that a connection has brought."""
        piece = self._held[who]
        self._proven.add(who)
        piece.position += size
        piece.brought += size
        if piece.position == piece.stop:
            del self._held[who]
            rate = piece.rate(now)
            self._usual_rate = 0.7 * self._usual_rate + 0.3 * rate if self._usual_rate else rate

    def give_back(self, who: Who) -> None:
        """Lets others bring what a connection has not brought of its piece."""
        piece = self._held.pop(who, None)
        if piece is not None:
            bisect.insort(self._missing, (piece.position, piece.stop))

    def leave(self, who: Who) -> None:
        """Is told that a connection has gone, or counts for nothing any more."""
        self.give_back(who)
        self._proven.discard(who)

    def expect_less(self) -> None:
        """Is told that a slow one is sent away, so that this ends if all have become slow."""
        self._usual_rate /= 2

    def rest(self, who: Who, now: float) -> None:
        """Is told that a connection waits for the reader, which does not make it a slow one."""
        self._held[who].rests_since = now

    def go_on(self, who: Who, now: float) -> None:
        """Is told that it waits no longer, if it still has its piece."""
        piece = self._held.get(who)
        if piece is not None and piece.rests_since is not None:
            piece.began += now - piece.rests_since
            piece.rests_since = None

    def slow(self, position: int, now: float) -> Who | None:
        """The connection that has yet to bring this byte, if another could do better."""
        for who, piece in self._held.items():
            if piece.position == position:
                return who if self._is_slow(piece, now) else None
        return None

    def is_proven(self, who: Who) -> bool:
        """Whether a connection has brought anything."""
        return who in self._proven

    def first(self) -> int | None:
        """The first byte that nobody is bringing."""
        return self._missing[0][0] if self._missing else None

    def left(self) -> int:
        """How many bytes nobody is bringing."""
        return sum(stop - start for start, stop in self._missing)

    def end(self) -> None:
        """Is told that there is nothing more to bring."""
        self._missing.clear()
        self._held.clear()

    def _size(self, connections: int) -> int:
        share = self.left() // (_ROUNDS * connections)
        return min(max(share, _SMALLEST), self._largest)

    def _cut(self, first: int, size: int) -> tuple[int, int]:
        """Takes a piece out of what is missing, from a byte on that is missing."""
        index = bisect.bisect_right(self._missing, first, key=lambda one: one[0]) - 1
        start, stop = self._missing.pop(index)
        end = min(stop, first + size)
        rest = [one for one in ((start, first), (end, stop)) if one[0] < one[1]]
        self._missing[index:index] = rest
        return first, end

    def _cut_ahead(self, connections: int) -> tuple[int, int]:
        """A small piece as far ahead as the others get in a second; the last if there is less."""
        ahead = int(max(self._usual_rate * _AHEAD * max(connections - 1, 1), 2 * _SMALLEST))
        if self._window is not None:
            ahead = min(ahead, self._window // 4)
        for start, stop in self._missing:
            if ahead < stop - start:
                return self._cut(start + ahead, _SMALLEST)
            ahead -= stop - start
        start, stop = self._missing[-1]
        return self._cut(max(start, stop - _SMALLEST), _SMALLEST)

    def _give_back_slow(self, taker: Who, now: float) -> bool:
        """Takes the piece from a connection that is slow, or has yet to bring anything."""
        for who, piece in self._held.items():
            is_idle = who not in self._proven and taker in self._proven
            if who != taker and (is_idle or self._is_slow(piece, now)):
                self.give_back(who)
                return True
        return False

    def _is_slow(self, piece: _Piece, now: float) -> bool:
        if piece.rests_since is not None:
            return False
        return now - piece.began > _PATIENCE and piece.rate(now) < self._usual_rate / _SLOW
