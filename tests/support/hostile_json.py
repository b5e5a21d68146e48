"""JSON as a hostile user who may write to a cache could write it, for what parses such files."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import strategies as st

TEXTS = st.sampled_from(
    [
        "",
        "a",
        "\0",
        "\n",
        "\ud800",
        "\udcff",
        "../x",
        "/etc/passwd",
        "a/../b",
        "x" * 70_000,
        "0" * 64,
    ]
) | st.text(st.characters(exclude_categories=()), max_size=8)
NUMBERS = st.sampled_from(
    [0, 1, -1, 1 << 63, (1 << 63) - 1, 10**18, 10**400, 0.5, float("inf"), float("nan"), True]
)
VALUES = st.recursive(
    st.none() | TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def written(value: Any) -> bytes:
    """A value as JSON, with numbers that Python does not write by itself."""
    return json.dumps(value).encode()


def changed(data: Any, numbers: random.Random, value: Any) -> Any:
    """The same with one part, at any depth, replaced, removed, or there twice."""
    copy = json.loads(json.dumps(data))
    inner: Any = copy
    while True:
        key = numbers.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if isinstance(inner[key], dict | list) and inner[key] and numbers.random() < 0.7:
            inner = inner[key]
            continue
        how = numbers.random()
        if how < 0.7:
            inner[key] = value
        elif how < 0.85:
            del inner[key]
        elif isinstance(inner, dict):
            inner["another"] = value
        else:
            inner.append(inner[key])
        return copy


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """A text with some bytes changed, cut out or put in."""
    content = bytearray(text)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        to = at + draw(st.integers(0, 8))
        content[at:to] = draw(st.binary(max_size=8) | st.sampled_from([b"[" * 5000, b"1" * 5000]))
    return bytes(content)
