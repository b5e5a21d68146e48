"""Sizes, durations and ages as people write and read them."""

import pytest

from tfhub_cache.notation import (
    format_age,
    format_size,
    parse_duration,
    parse_patterns,
    parse_size,
    shorten,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0.0", 0),
        ("20", 20),
        ("10B", 10),
        ("10b", 10),
        ("1kB", 1000),
        ("20GB", 20 * 10**9),
        ("20gb", 20 * 10**9),
        ("20G", 20 * 10**9),
        ("20Gi", 20 << 30),
        ("20GiB", 20 << 30),
        (" 1.5 GiB ", 3 << 29),
        ("500MiB", 500 << 20),
        (".5TB", 5 * 10**11),
        ("9007199254740993B", 9007199254740993),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes_are_bytes_or_powers_of_1000_or_with_an_i_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "0.5",
        "1.5B",
        "9" * 400 + ".5GB",
        "9" * 5000 + "B",
        "",
        "GB",
        "-1GB",
        "20BB",
        "20GBB",
        "20I",
        "1.2.3GB",
        "1e9",
        "1_000",
        "many",
        "2 0GB",
        "٣GB",
    ],
)
def test_an_invalid_size_is_an_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"write a number of bytes, .* such as 20GB") as error:
        parse_size(text)
    assert f"invalid size {text!r}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0d", 0),
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("90 seconds", 90),
        ("5min", 300),
        ("1 minute", 60),
        ("12h", 43200),
        ("12 hours", 43200),
        ("30d", 2592000),
        ("30days", 2592000),
        ("1 Day", 86400),
        ("1.5W", 907200),
        ("2weeks", 1209600),
    ],
)
def test_durations_are_seconds_or_have_units_up_to_weeks(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["9" * 5000 + "d", "", "-1d", "1m", "1y", "d", "1h30min", "1 fortnight", "soon"]
)
def test_an_invalid_duration_is_an_error_that_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"write a number of seconds, .* 30d or 12h") as error:
        parse_duration(text)
    assert f"invalid duration {text!r}" in str(error.value)


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


@pytest.mark.parametrize(
    ("width", "beginning", "shown"),
    [
        (53, 0, "https://tfhub.dev/google/universal-sentence-encoder/4"),
        (30, 0, "…/universal-sentence-encoder/4"),
        (32, 0, "…/universal-sentence-encoder/4"),
        (20, 0, "…-sentence-encoder/4"),
        (34, 8, "https://…versal-sentence-encoder/4"),
        (3, 0, "…/4"),
        (1, 0, "…4"),
        (-5, 0, "…4"),
    ],
)
def test_a_name_that_is_too_long_keeps_its_end(width: int, beginning: int, shown: str) -> None:
    handle = "https://tfhub.dev/google/universal-sentence-encoder/4"
    assert shorten(handle, width, beginning) == shown


@pytest.mark.parametrize(
    ("text", "handle", "fits"),
    [
        ("https://tfhub.dev/google/*", "https://tfhub.dev/google/spice/2", True),
        ("https://tfhub.dev/google/*", "https://tfhub.dev/other/2", False),
        ("https://tfhub.dev/google/*", "https://tfhub.dev.example.com/google/2", False),
        (" /models/*/1 , /other ", "/models/a/b/1", True),
        (" /models/*/1 , /other ", "/other", True),
        (" /models/*/1 , /other ", "/other/1", False),
        ("file:///models/*", "file:///models/a", True),
        ("https://host/a.b?c", "https://host/a.b?c", True),
        ("https://host/a.b?c", "https://host/aXb?c", False),
    ],
)
def test_a_pattern_is_a_handle_in_which_a_star_is_any_text(
    text: str, handle: str, fits: bool
) -> None:
    patterns = parse_patterns(text)
    assert any(pattern.fullmatch(handle) for pattern in patterns) is fits


@pytest.mark.parametrize("text", ["*", "https://*", "https://tfhub.dev*", "models/*"])
def test_a_pattern_without_a_host_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="names no host"):
        parse_patterns(text)
