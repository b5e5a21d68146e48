"""JSON that others may have written: what is read is bounded, and only a `ValueError` comes out."""

from __future__ import annotations

import json
from typing import Any

from tfhub_cache.urls import redact

_LONGEST_NUMBER = 40


def parse(text: str | bytes) -> Any:
    """The value that a text is, without what JSON leaves open and what takes long to read.

    Raises:
        ValueError: if it is not JSON, nests deeper than Python reads it, has a number of more than
            40 characters, `NaN` or `Infinity`, or an object with the same name twice.
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
    # Python takes time that grows with the square of their number, or has a limit of its own.
    if len(digits) > _LONGEST_NUMBER:
        raise ValueError(f"it has a number of {len(digits)} characters")
    return digits


def _refuse(constant: str) -> None:
    raise ValueError(f"it has the number {constant}")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a name stand twice, as a careless merge leaves it; which one is meant?"""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{redact(name)} is in it twice")
        found[name] = value
    return found
