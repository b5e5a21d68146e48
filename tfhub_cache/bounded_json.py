"""JSON from outside, of bounded size, parsed strictly; every error is a `ValueError`."""

from __future__ import annotations

import json
import re
from typing import Any

from tfhub_cache.urls import redact

_MOST = (1 << 63) - 1


def parse(text: str | bytes) -> Any:
    """Parse JSON, without what is ambiguous.

    Raises:
        ValueError: if it is not JSON, is nested too deep for Python, has a number that is too long
            for it, `NaN` or `Infinity`, or an object with the same name twice.
    """
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_without_doubles)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def text(value: Any) -> str:
    """A text.

    Raises:
        ValueError: if it is anything else, as of the next two.
    """
    if not isinstance(value, str):
        raise ValueError("it has something in place of a text")
    return value


def number(value: Any) -> int:
    """A whole number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r:.100} is not a number from 0 to 2^63 - 1")
    return value


def sha256(value: Any) -> str:
    """A SHA-256 digest, in hex."""
    if not re.fullmatch("[0-9a-f]{64}", text(value)):
        raise ValueError(f"{value!r:.100} is not a SHA-256 digest")
    return str(value)


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
