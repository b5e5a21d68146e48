"""How values are written: sizes, durations, counts, booleans and lists of mirrors.

A parser takes the text of a setting, a flag or an option, which is not empty. Upper and lower case
mean the same, and white space around the text is ignored. For invalid text it raises a ValueError
that quotes the text and says what is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from tfhub_cache.urls import origin

DIRECT = "direct"
"""In a list of mirrors: the host that the handle names."""
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})
_BYTES = {"": 1}
for _power, _letter in enumerate("kmgtp", 1):
    _BYTES |= {_letter: 1000**_power, f"{_letter}i": 1024**_power}
# Not m for minutes, which could be a month.
_UNITS = {1: "sec second", 60: "min minute", 3600: "h hour", 86400: "d day", 604800: "w week"}
_SECONDS = {name: seconds for seconds, names in _UNITS.items() for name in names.split()}
_SECONDS[""] = 1
# The number of digits is limited, since converting takes time that grows with its square.
_NUMBER = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?|\.\d{1,18})\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(text: str) -> int:
    """Parse a size.

    Args:
        text: a number of bytes, or a number and a unit: `B`; `kB`, `MB`, `GB`, `TB`, `PB`, which
            are powers of 1000; or `KiB`, `MiB`, `GiB`, `TiB`, `PiB`, which are powers of 1024. The
            `B` may be left out.

    Returns:
        The number of bytes.

    Raises:
        ValueError: if it is not a size.

    Example:
        ```python
        assert parse_size("20GB") == parse_size("20G") == parse_size("20000000000")
        assert parse_size("1.5GiB") == 1_610_612_736
        ```
    """
    match = _NUMBER.fullmatch(text)
    factor = _BYTES.get(match[2].lower().removesuffix("b")) if match else None
    # A fraction of a byte does not exist, so in 1.5 the unit is missing.
    if match is None or factor is None or (factor == 1 and float(match[1]) % 1):
        raise ValueError(
            f"invalid size {text!r}: write a number of bytes, or a number and a unit, such as 20GB "
            "(10^9 bytes each) or 500MiB (2^20 bytes each)"
        )
    # A float would round large whole numbers.
    return round(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor


def parse_duration(text: str) -> float:
    """Parse a duration.

    Args:
        text: a number of seconds, or a number and a unit: `s`, `min`, `h`, `d` (24 hours) or `w`
            (7 days), or `second`, `minute`, `hour`, `day`, `week` and their plurals.

    Returns:
        The number of seconds.

    Raises:
        ValueError: if it is not a duration.

    Example:
        ```python
        assert parse_duration("12h") == parse_duration("43200")
        ```
    """
    match = _NUMBER.fullmatch(text)
    factor = _SECONDS.get(match[2].lower().removesuffix("s")) if match else None
    if match is None or factor is None:
        raise ValueError(
            f"invalid duration {text!r}: write a number of seconds, or a number and a unit of s, "
            "min, h, d or w, such as 30d or 12h"
        )
    return float(match[1]) * factor


def parse_count(text: str) -> int:
    """Parse a whole number of at least 1.

    Raises:
        ValueError: if it is not such a number.
    """
    if not re.fullmatch(r"\s*0*[1-9][0-9]{0,14}\s*", text):
        raise ValueError(f"invalid number {text!r}: write a whole number of at least 1")
    return int(text)


def parse_boolean(text: str) -> bool:
    """Parse a boolean: `1`, `true`, `yes` or `on`; `0`, `false`, `no` or `off`.

    Raises:
        ValueError: if it is none of these words.
    """
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise ValueError(
            f"invalid value {text!r}: write 1, true, yes or on, or else 0, false, no or off"
        )
    return word in _YES


def is_not_no(text: str) -> bool:
    """Whether the text is anything but one of the words for no."""
    return text.strip().lower() not in _NO


def parse_path(text: str) -> str:
    """Read a path on this machine, in which `~` is the home folder.

    Raises:
        ValueError: if there is no such home folder.
    """
    path = os.path.expanduser(text)
    if path.startswith("~"):
        home = path.partition("/")[0]
        raise ValueError(
            f"invalid path {text!r}: there is no home folder {home!r} here (HOME is not set, or "
            "there is no such user); write the path without it"
        )
    return path


def parse_mirrors(text: str) -> tuple[str, ...]:
    """Parse a list of mirrors: http(s) URLs and `direct`, separated by commas.

    Returns:
        The parts in their order, each once; URLs without a slash at their end.

    Raises:
        ValueError: if a part is neither. The message quotes nothing of it, which may be secret.
    """
    mirrors: dict[str, None] = {}
    for number, part in enumerate(map(str.strip, text.split(",")), 1):
        try:
            if part not in ("", DIRECT):
                origin(part)
            if "?" in part or "#" in part:
                raise ValueError("a mirror has a path at most, and no query")
        except ValueError as error:
            raise ValueError(f"part {number} is neither a URL nor {DIRECT!r}: {error}") from None
        if part:
            mirrors[part.rstrip("/")] = None
    if not mirrors:
        raise ValueError("it names no mirror")
    return tuple(mirrors)


def parse_patterns(text: str) -> tuple[re.Pattern[str], ...]:
    """Parse patterns of handles, separated by commas: handles in which `*` is any text.

    Raises:
        ValueError: if a pattern names no host, or a path that is not absolute.
    """
    patterns = [pattern for pattern in map(str.strip, text.split(",")) if pattern]
    return tuple(parse_pattern(one, f"pattern {n}") for n, one in enumerate(patterns, 1))


def parse_pattern(text: str, what: str) -> re.Pattern[str]:
    """Parse a pattern of handles, which `what` names in an error.

    Raises:
        ValueError: if it names no host, or a path that is not absolute.
    """
    begin, star, _ = text.partition("*")
    if star and not re.match(r"file:///|[\w.+-]+://[^/]+/|/", begin):
        raise ValueError(
            f"{what} names no host: write what comes before the first * "
            "as far as the slash after the host, such as https://tfhub.dev/google/*"
        )
    return re.compile(re.escape(text).replace(r"\*", ".*"), re.DOTALL)


def format_size(size: int) -> str:
    """Write a number of bytes in powers of 1000: `0 B`, `999 B`, `1.2 GB`."""
    value = float(size)
    for unit in "B", "kB", "MB", "GB", "TB", "PB":
        # What would be shown as 1000 is 1 of the next unit.
        if value < 999.5 or unit == "PB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def format_age(seconds: float) -> str:
    """Write how long ago something was: `just now`, `5 min ago`, `3 days ago`."""
    for least, unit, name in (172800, 86400, "days"), (3600, 3600, "h"), (60, 60, "min"):
        if seconds >= least:
            return f"{seconds // unit:.0f} {name} ago"
    return "just now"


def shorten(text: str, width: int, beginning: int = 0) -> str:
    """Write text in a number of columns: its end, and so much of its beginning, around `…`.

    Example:
        ```python
        assert shorten("https://tfhub.dev/google/spice/2", 9) == "…/spice/2"
        ```
    """
    if len(text) <= width:
        return text
    end = text[len(text) - max(1, width - beginning - 1) :]
    slash = end.find("/")
    if not beginning and 0 < slash < len(end) // 2:
        end = end[slash:]
    return f"{text[:beginning]}…{end}"


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A question after what is most like a mistyped word; empty if nothing is."""
    import difflib  # only for typing errors

    similar = difflib.get_close_matches(word, known, 1)
    return f"Did you mean {similar[0]}?" if similar else ""


def abridged(names: Sequence[str]) -> list[str]:
    """The first ten, and how many more there are."""
    rest = [f"and {len(names) - 10} more"] if len(names) > 10 else []
    return [*names[:10], *rest]
