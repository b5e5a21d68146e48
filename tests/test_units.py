"""Sizes and ages as people write them."""

import pytest

from tfhub_cache.units import format_age, format_size, parse_age, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0.0", 0),
        ("10B", 10),
        ("1kB", 1000),
        ("20GB", 20 * 10**9),
        ("20gb", 20 * 10**9),
        (" 1.5 GiB ", 3 << 29),
        ("500MiB", 500 << 20),
        (".5TB", 5 * 10**11),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_sizes_are_powers_of_1000_or_with_an_i_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "20",
        "0.5",
        "9" * 400 + ".5GB",
        "9" * 5000 + "B",
        "",
        "GB",
        "-1GB",
        "20G",
        "1.2.3GB",
        "1e9",
        "many",
        "2 0GB",
        "٣GB",
    ],
)
def test_what_is_no_size_is_an_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"write a number and a unit, such as 20GB") as error:
        parse_size(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0d", 0), ("90s", 90), ("5min", 300), ("12h", 43200), ("30d", 2592000), ("1.5W", 907200)],
)
def test_ages_have_units_from_seconds_to_weeks(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["9" * 5000 + "d", "", "30", "-1d", "1m", "1y", "d", "soon"])
def test_what_is_no_age_is_an_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 30d or 12h") as error:
        parse_age(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (20 * 10**9, "20 GB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_sizes_are_shown_with_two_or_three_digits(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3600, "1 h ago"),
        (172_799, "47 h ago"),
        (172_800, "2 days ago"),
    ],
)
def test_ages_are_shown_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert format_age(seconds) == text
