"""Where received bytes wait: the rules, without a network."""

from __future__ import annotations

import os
import random
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from tfhub_cache.store.disk.part import open_part
from tfhub_cache.transfer.spool import Identity, Spool


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """An archive's size, and in which portions which segment's bytes arrive."""
    size = draw(st.integers(1, 4 << 20))
    segments = Identity("h", size, "v")
    portions = []
    for index in draw(st.permutations(range(segments.count))):
        left = segments.stop(index) - index * segments.segment
        while left:
            portions.append((index, part := draw(st.integers(min(left, 1 << 18), left))))
            left -= part
    return size, portions


@settings(max_examples=25, deadline=None)
@given(arrivals(), st.booleans(), st.data())
def test_what_arrives_in_any_order_is_read_in_order(
    arrived: tuple[int, list[tuple[int, int]]], on_disk: bool, data: st.DataObject
) -> None:
    size, portions = arrived
    content = random.Random(size).randbytes(size)
    identity = Identity("h", size, "v")
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.join(folder, "entry")
        spool = open_part(base, identity, lambda: False) if on_disk else Spool(identity)
        read = b""
        for index, part in portions:
            start = spool.missing(index)
            spool.write(index, content[start : start + part])
            if data.draw(st.booleans()):
                read += spool.read(len(read), data.draw(st.integers(1, size)))
        while more := spool.read(len(read), 1 << 20):
            read += more
        assert read == content
        spool.close(keep=False)
        assert os.listdir(folder) == []


@settings(max_examples=25, deadline=None)
@given(arrivals(), st.data())
def test_a_part_file_has_every_segment_that_was_complete_when_its_process_died(
    arrived: tuple[int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    size, portions = arrived
    content = random.Random(size).randbytes(size)
    identity = Identity("h", size, "v")
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.join(folder, "entry")
        spool = open_part(base, identity, lambda: False)
        for index, part in portions[: data.draw(st.integers(0, len(portions)))]:
            start = spool.missing(index)
            spool.write(index, content[start : start + part])
        complete = {index for index in range(spool.count) if spool.is_complete(index)}
        again = open_part(base, identity, lambda: False)
        assert set(again.received) == complete
        missing = min(set(range(spool.count)) - complete, default=None)
        assert again.first_missing() == (size if missing is None else missing * spool.segment)
        for index in complete:
            position = index * again.segment
            assert again.read(position, size) == content[position : again.stop(index)]
        again.close(keep=True)
        spool.close(keep=True)
        assert bool(os.listdir(folder)) == bool(complete)
