"""Which bytes of an archive are there."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tfhub_cache.ranges import ByteRanges

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)))


@given(RANGES)
def test_ranges_are_what_a_set_of_numbers_is(ranges: list[tuple[int, int]]) -> None:
    received = ByteRanges(ranges)
    there = {byte for start, stop in ranges for byte in range(start, stop)}
    assert received.total() == len(there)
    missing = {byte for start, stop in received.missing(50) for byte in range(start, stop)}
    assert missing == set(range(50)) - there
    for position in range(60):
        end = received.end_of_run(position)
        assert end not in there
        assert there.issuperset(range(position, end))


@given(RANGES)
def test_what_is_missing_is_told_in_as_few_ranges_as_there_are(
    ranges: list[tuple[int, int]],
) -> None:
    missing = list(ByteRanges(ranges).missing(50))
    assert missing == sorted(missing)
    assert all(start < stop for start, stop in missing)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(missing))
