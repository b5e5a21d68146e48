"""Entries: what a file system or a descriptor says of times is a time, or unknown, but no error."""

from __future__ import annotations

import datetime

from entries import key_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tfhub_cache.fetching.eviction import last_use
from tfhub_cache.notation import format_age
from tfhub_cache.store.entry import Entry, at, describe

HANDLE = "https://example.com/m/1"
KEY = key_of(HANDLE)
many = settings(derandomize=True, deadline=None, database=None)


def check(time: datetime.datetime) -> None:
    """What commands do with a time."""
    assert time.isoformat(timespec="seconds")
    age = datetime.datetime.now(datetime.timezone.utc) - time
    assert format_age(age.total_seconds())
    assert last_use(Entry(KEY, "", used=time)) == time.timestamp()


@many
@given(st.floats() | st.integers(-(1 << 63), 1 << 63).map(float) | st.sampled_from([1e12, -1e12]))
def test_any_time_of_a_file_system_can_be_shown_and_compared(timestamp: float) -> None:
    time = at(timestamp)
    check(time)
    if 0 <= timestamp <= 253_000_000_000:
        assert abs(time.timestamp() - timestamp) < 0.001


@many
@given(st.datetimes().map(str) | st.text() | st.sampled_from(["0001-01-01", "9999-12-31T23:59:59"]))
def test_any_time_of_a_descriptor_can_be_shown_and_compared_or_is_unknown(text: str) -> None:
    lines = f"Module: {HANDLE}\nDownload Time: {text}\n"
    entry = describe(KEY, "", {}, None, descriptor=lines)
    assert entry.handle in (HANDLE, None)
    if entry.downloaded is not None:
        check(entry.downloaded)
