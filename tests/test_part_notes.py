"""The notes of a part file: whatever stands in them, they are resumed or ignored."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_json import VALUES, changed, damaged, written
from hypothesis import given, settings
from hypothesis import strategies as st

from tfhub_cache.store.disk.part import look_at_part, open_part
from tfhub_cache.transfer.spool import Identity

SIZE = 3 << 20
IDENTITY = Identity("https://example.com/m/1", SIZE, '"1"')
many = settings(derandomize=True, deadline=None, database=None, max_examples=100)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def notes(folder: Path) -> bytes:
    """The journal of a download of which two of three segments have arrived."""
    part = open_part(str(folder / "first"), IDENTITY, lambda: False)
    for index in range(2):
        part.write(index, os.urandom(1 << 20))
    part.close(keep=True)
    return (folder / "first.part.json").read_bytes()


def check(folder: Path, text: bytes) -> None:
    base = folder / "entry"
    (folder / "entry.part.json").write_bytes(text)
    with (folder / "entry.part").open("wb") as file:
        file.truncate(SIZE)
    seen = look_at_part(str(base))
    if seen is not None:
        identity, received = seen
        assert 0 < (identity.size or 0) < 1 << 63
        assert received >= 0
    part = open_part(str(base), IDENTITY, lambda: False)
    try:
        received = sum(part.received.values())
        assert received <= SIZE
        assert not received or seen == (IDENTITY, received)
    finally:
        part.close(keep=False)


@many
@given(st.integers(), VALUES)
def test_notes_with_anything_in_the_first_line_are_resumed_or_ignored(
    folder: Path, notes: bytes, seed: int, value: object
) -> None:
    first, _, rest = notes.strip().partition(b"\n")
    check(folder, written(changed(json.loads(first), random.Random(seed), value)) + b"\n" + rest)


@many
@given(st.data())
def test_bytes_in_place_of_notes_are_resumed_or_ignored(
    folder: Path, notes: bytes, data: st.DataObject
) -> None:
    check(folder, data.draw(st.binary() | damaged(notes) | VALUES.map(written)))


@many
@given(st.lists(st.lists(VALUES | st.integers(-1, SIZE + 1), max_size=4), max_size=20))
def test_lines_of_anything_count_only_if_they_are_segments(
    folder: Path, notes: bytes, lines: list
) -> None:
    first = notes.strip().partition(b"\n")[0]
    check(folder, b"\n".join([first, *map(written, lines)]))


@pytest.mark.parametrize(
    "text",
    [
        b'{"format": 4, "size": Infinity}',
        b"[" * 1_000_000,
        b'{"format": 4, "size": ' + b"1" * 5_000_000 + b"}",
        b"0\n" * (4 << 20),
        b"[0, 1, 0]\n" * (800 << 10),
        bytes(9 << 20),
        b"",
    ],
    ids=lambda text: text[:24].decode(),
)
def test_notes_that_are_none_are_none(folder: Path, text: bytes) -> None:
    base = folder / "none"
    (folder / "none.part.json").write_bytes(text)
    (folder / "none.part").write_bytes(bytes(100))
    assert look_at_part(str(base)) is None
    part = open_part(str(base), IDENTITY, lambda: False)
    assert not part.received
    part.close(keep=False)


def test_a_folder_in_place_of_a_part_file_is_replaced(tmp_path: Path) -> None:
    base = tmp_path / "entry"
    (tmp_path / "entry.part" / "below").mkdir(parents=True)
    (tmp_path / "entry.part.json").mkdir()
    part = open_part(str(base), IDENTITY, lambda: False)
    part.write(0, bytes(1 << 20))
    part.close(keep=True)
    seen = look_at_part(str(base))
    assert seen == (IDENTITY, 1 << 20)
