"""How many connections a transfer has, and where bytes wait: the rules, without a network."""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tfhub_cache.store.disk.part import begin_part, open_part
from tfhub_cache.transfer.pace import Pace
from tfhub_cache.transfer.spool import Identity, Spool

# How many connections.


def paces(rate: Callable[[int, float], float], most: int = 8, seconds: float = 3.0) -> list[int]:
    """The number of connections over time, if `rate(connections, now)` is what they bring."""
    pace, received, now, waited = Pace(most, 0.0), 0.0, 0.0, 0.0
    numbers = [pace.wanted]
    while now < seconds:
        now += 0.05
        waited += 0.05
        received += 0.05 * rate(pace.wanted, now)
        numbers.append(pace.consider(now, int(received), waited, pace.wanted))
    return [number for number, _ in itertools.groupby(numbers)]


def test_connections_double_as_long_as_each_brings_as_much() -> None:
    assert paces(lambda connections, now: connections * 20e6) == [1, 2, 4, 8]


def test_there_are_never_more_connections_than_allowed() -> None:
    assert paces(lambda connections, now: connections * 20e6, most=3) == [1, 2, 3]


def test_connections_that_do_not_pay_are_given_up() -> None:
    assert paces(lambda connections, now: 20e6, seconds=1.0) == [1, 2, 1]


def test_connections_that_did_not_pay_are_tried_again_ever_more_rarely() -> None:
    numbers = paces(lambda connections, now: 20e6, seconds=30.0)
    assert numbers.count(2) == 5  # after 1, 2, 4, 8 and 16 seconds


def test_connections_are_added_when_it_pays_later() -> None:
    assert (
        paces(lambda connections, now: 20e6 * (connections if now > 2 else 1), seconds=10)[-1] == 8
    )


def test_connections_are_not_added_where_unpacking_is_what_is_slow() -> None:
    pace = Pace(8, 0.0)
    for step in range(1, 100):
        assert pace.consider(step * 0.05, step * 10_000_000, 0.0, 1) == 1


def test_connections_that_are_still_being_made_are_not_judged() -> None:
    pace = Pace(8, 0.0)
    assert pace.consider(0.2, 4_000_000, 0.2, 1) == 2
    for step in range(5, 40):  # up to two seconds: a far host
        assert pace.consider(step * 0.05, step * 1_000_000, step * 0.05, 1) == 2


# Where bytes wait.


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
        spool = begin_part(base, identity, lambda: False) if on_disk else Spool(identity)
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
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.join(folder, "entry")
        spool = begin_part(base, Identity("h", size, "v"), lambda: False)
        for index, part in portions[: data.draw(st.integers(0, len(portions)))]:
            start = spool.missing(index)
            spool.write(index, content[start : start + part])
        complete = {index for index in range(spool.count) if spool.is_complete(index)}
        again = open_part(base, lambda: False)
        assert again is not None
        assert set(again.received) == complete
        missing = min(set(range(spool.count)) - complete, default=None)
        assert again.first_missing() == (size if missing is None else missing * spool.segment)
        for index in complete:
            position = index * again.segment
            assert again.read(position, size) == content[position : again.stop(index)]
        again.close(keep=True)
        spool.close(keep=True)
        assert bool(os.listdir(folder)) == bool(complete)
