"""JSON from outside, parsed within bounds; every error is a `ValueError`."""

from __future__ import annotations

import json
from typing import Any

from tfhub_cache.urls import redact

_LONGEST_NUMBER = 40


def parse(text: str | bytes) -> Any:
    """Parse JSON, without what is ambiguous or takes long to parse.

    Raises:
        ValueError: if it is not JSON, is nested too deep for Python, has a number of more than 40
            characters, `NaN` or `Infinity`, or an object with the same name twice.
    """
    try:
        return json.loads(
            text,
            parse_int=lambda digits: int(_short(digits)),
            parse_float=lambda digits: float(_short(digits)),
            parse_constant=_refuse,
            object_pairs_hook=_without_doubles,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _short(digits: str) -> str:
    # Conversion takes time that grows with the square of the length, or Python refuses it.
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(digits)} characters")
    return digits


def _refuse(constant: str) -> None:
    raise ValueError(f"it has the number {constant}")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object with the same name twice, as a wrong merge leaves it."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{redact(name)} is in it twice")
        found[name] = value
    return found
