"""What a server says in its headers, read with bounds: it may send anything."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

_LONGEST = 1000
"""Characters of a field. Longer ones are of no use to anything here."""
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


def field(headers: Mapping[str, str], name: str) -> str:
    """A field's value; empty if it is absent, or too long or too odd to be of use."""
    value = headers.get(name, "").strip()
    return value if len(value) <= _LONGEST and value.isprintable() else ""


def number(headers: Mapping[str, str], name: str) -> int | None:
    """A field's value as a number from 0 on; None if it is none."""
    value = field(headers, name)
    return int(value) if _NUMBER.fullmatch(value) else None


def date(headers: Mapping[str, str], name: str) -> float | None:
    """A field's date in seconds since 1970; None if it is none."""
    try:
        parsed = email.utils.parsedate_to_datetime(field(headers, name))
        return parsed.timestamp() if parsed.tzinfo is not None else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def content_range(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """The first byte of a part, and the size of the whole; None if that makes no sense."""
    match = _CONTENT_RANGE.fullmatch(field(headers, "Content-Range"))
    first, last, size = map(int, match.groups()) if match else (0, 0, 0)
    return (first, size) if first <= last < size else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """For how many seconds the server asks to wait; None if it does not."""
    seconds = number(headers, "Retry-After")
    if seconds is not None:
        return seconds
    until = date(headers, "Retry-After")
    return None if until is None else max(0.0, until - time.time())
