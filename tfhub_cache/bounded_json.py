"""JSON from outside, parsed within bounds; every error is a `ValueError`."""

from __future__ import annotations

import json
import re
from typing import Any

from tfhub_cache.urls import redact

_LONGEST_NUMBER = 40
_LONGEST_TEXT = 1 << 16
_MOST = (1 << 63) - 1


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


def text(value: Any) -> str:
    """A text of a bounded length.

    Raises:
        ValueError: if it is anything else, as of the next two.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError("it has something in place of a text, or a text that is too long")
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
