"""Trying again: how often, and with which pauses."""

from __future__ import annotations

import random
from typing import NamedTuple


class Policy(NamedTuple):
    """How often something is attempted, and how long the pauses in between are.

    Attributes:
        attempts: how many there are at most.
        first_pause: seconds after the first attempt; twice as many after each further one.
        longest_pause: seconds that no pause exceeds.
    """

    attempts: int
    first_pause: float
    longest_pause: float

    def pause_after(self, attempt: int) -> float | None:
        """How many seconds to wait after an attempt, counted from 1; None after the last one.

        It is random between a half and the whole, so that those who failed together do not try
        again together.
        """
        if attempt >= self.attempts:
            return None
        longest = min(self.first_pause * 2 ** (attempt - 1), self.longest_pause)
        return random.uniform(longest / 2, longest)  # noqa: S311 - no secret


NETWORK = Policy(attempts=5, first_pause=0.25, longest_pause=2.0)
"""For a request that failed, and a download that broke off."""
