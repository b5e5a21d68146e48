"""What the text of a setting, a flag or an option means; `units` has sizes and durations.

A parser gets a text that is not empty. What is invalid is a `ValueError` that quotes it and says
what is allowed. White space around it does not matter, nor do upper and lower case.
"""

from __future__ import annotations

import re

from tfhub_cache.urls import flaw_of, redact

DIRECT = "direct"
"""In a list of mirrors: the host that the handle names."""
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


def parse_boolean(text: str) -> bool:
    """Yes or no.

    Raises:
        ValueError: if it is neither.
    """
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise ValueError(
            f"invalid value {text!r}: write 1, true, yes or on, or else 0, false, no or off"
        )
    return word in _YES


def is_not_no(text: str) -> bool:
    """Whether it is anything else than a no."""
    return text.strip().lower() not in _NO


def parse_count(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        ValueError: if it is none.
    """
    if not re.fullmatch(r"\s*0*[1-9][0-9]{0,14}\s*", text):
        raise ValueError(f"invalid number {text!r}: write a whole number of at least 1")
    return int(text)


def parse_mirrors(text: str) -> tuple[str, ...]:
    """A list of mirrors: http(s) URLs and `direct`, with commas between.

    Returns:
        The parts in their order, each once; URLs without a slash at their end.

    Raises:
        ValueError: if one is neither; it says which, and shows no password.
    """
    parts = [part.strip() for part in text.split(",")]
    for number, part in enumerate(parts, 1):
        flaw = flaw_of(part)
        if "?" in part or "#" in part:
            flaw = "a mirror has a path at most, and no query"
        if part and part != DIRECT and flaw:
            # It may be no URL, but have a password all the same, or half of one.
            shown = redact(part).partition("?")[0].rpartition("@")[2]
            shown = re.sub("(?<!/):(?!//)[^/]*", ":...", shown)
            raise ValueError(f"part {number}, {shown!r}, is neither a URL nor 'direct': {flaw}")
    mirrors = tuple(dict.fromkeys(part.rstrip("/") for part in parts if part))
    if not mirrors:
        raise ValueError("it names no mirror")
    return mirrors
