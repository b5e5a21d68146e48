"""Sizes and durations as people write them: `20GB`, `500MiB`, `30d`, `12h`."""

from __future__ import annotations

import math
import re

_BYTES: dict[str, int] = {
    "": 1,
    **{letter: 1000**power for power, letter in enumerate("KMGTP", 1)},
    **{f"{letter}I": 1024**power for power, letter in enumerate("KMGTP", 1)},
}
_UNITS = {
    1: ("", "s", "sec", "secs", "second", "seconds"),
    60: ("min", "mins", "minute", "minutes"),  # no m, which may be a month
    3600: ("h", "hour", "hours"),
    86400: ("d", "day", "days"),
    7 * 86400: ("w", "week", "weeks"),
}
_SECONDS = {name: seconds for seconds, names in _UNITS.items() for name in names}
_NUMBER = re.compile(
    # With as many digits as can be reckoned with.
    r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?|\.[0-9]{1,18})\s*([A-Za-z]*)\s*",
    re.ASCII,
)


def parse_size(text: str) -> int:
    """The number of bytes that a text means.

    Args:
        text: a number of bytes, or a number and a unit: `B`; `kB`, `MB`, `GB`, `TB`, `PB`, which
            are powers of 1000; or `KiB`, `MiB`, `GiB`, `TiB`, `PiB`, which are powers of 1024. The
            `B` may be left out. Upper and lower case mean the same.

    Raises:
        ValueError: if it is nothing of this.

    Example:
        ```python
        assert parse_size("20GB") == parse_size("20G") == parse_size("20000000000")
        assert parse_size("1.5GiB") == 1_610_612_736
        ```
    """
    match = _NUMBER.fullmatch(text)
    factor = _BYTES.get(match[2].upper().removesuffix("B")) if match else None
    # There is no half of a byte: who writes 1.5 has forgotten the unit.
    if match is None or factor is None or (factor == 1 and float(match[1]) % 1):
        raise ValueError(
            f"invalid size {text!r}: write a number of bytes, or a number and a unit, such as 20GB "
            "(10^9 bytes each) or 500MiB (2^20 bytes each)"
        )
    number = match[1]
    # Whole numbers without a detour over floats, which would round large ones.
    return round(float(number) * factor) if "." in number else int(number) * factor


def parse_duration(text: str) -> float:
    """The number of seconds that a text means.

    Args:
        text: a number of seconds, or a number and a unit: `s`, `min`, `h`, `d` (24 hours) or `w`
            (7 days), or `second`, `minute`, `hour`, `day`, `week` and their plurals.

    Raises:
        ValueError: if it is nothing of this.

    Example:
        ```python
        assert parse_duration("12h") == parse_duration("43200")
        ```
    """
    match = _NUMBER.fullmatch(text)
    factor = _SECONDS.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"invalid duration {text!r}: write a number of seconds, or a number and a unit of s, "
            "min, h, d or w, such as 30d or 12h"
        )
    return float(match[1]) * factor


def format_size(size: int) -> str:
    """A number of bytes for people, in powers of 1000: `0 B`, `999 B`, `1.2 GB`."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in "kB", "MB", "GB", "TB", "PB":
        value /= 1000
        # What would be shown as 1000 is 1 of the next unit.
        if value < 999.5 or unit == "PB":
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"


def format_age(seconds: float) -> str:
    """How long ago something was, for people: `just now`, `5 min ago`, `3 days ago`."""
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{math.floor(seconds / 60)} min ago"
    if seconds < 2 * 86400:
        return f"{math.floor(seconds / 3600)} h ago"
    return f"{math.floor(seconds / 86400)} days ago"
