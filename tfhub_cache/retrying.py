"""Trying again: how often, and with which pauses."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

Pause: TypeAlias = "Callable[[float], object] | None"
"""Waits for so many seconds before something is attempted again; None: it is not."""

_FIRST_PAUSE = 0.25


def pause_after(attempt: int, attempts: int = 5) -> float | None:
    """How many seconds to wait before something that failed is attempted again.

    It is random between a half and the whole of 0.25 seconds, and twice as many after each further
    attempt, so that those who failed together do not try again together.

    Args:
        attempt: the attempt that failed, counted from 1.
        attempts: how many there are at most.

    Returns:
        The seconds; None after the last attempt.
    """
    if attempt >= attempts:
        return None
    longest = _FIRST_PAUSE * 2 ** (attempt - 1)
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret
