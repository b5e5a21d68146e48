"""URLs as text: what is appended, and what is never shown."""

import pytest

from tfhub_cache.urls import append_query, origin, redact


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://h/m/1", "https://h/m/1?tf-hub-format=compressed"),
        ("https://h/m/1?b=2&a=1", "https://h/m/1?b=2&a=1&tf-hub-format=compressed"),
        ("https://h/m/1?", "https://h/m/1?tf-hub-format=compressed"),
        ("https://h/m.tgz?x=%7e%2b", "https://h/m.tgz?x=%7e%2b&tf-hub-format=compressed"),
        ("https://h/m/1#usage", "https://h/m/1?tf-hub-format=compressed"),
    ],
)
def test_the_parameter_comes_after_those_that_the_handle_has(url: str, asked: str) -> None:
    assert append_query(url, "tf-hub-format", "compressed") == asked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/m/1", "https://h/m/1"),
        ("https://h:8080/m/1?X-Goog-Signature=abc", "https://h:8080/m/1"),
        ("https://me:password@h/m/1", "https://h/m/1"),
        ("https://me:p@ss@h", "https://h"),
        ("https://h/a@b/1?t=1#f", "https://h/a@b/1"),
        ("gs://bucket/folder", "gs://bucket/folder"),
        ("/a/path?with#anything", "/a/path?with#anything"),
    ],
)
def test_signatures_and_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_the_same_host_is_told_by_scheme_name_and_port() -> None:
    assert origin("https://h/a") == origin("https://me:pw@H:443/b?c")
    assert origin("https://h/a") != origin("http://h/a")
    assert origin("https://h/a") != origin("https://h:8443/a")
    assert origin("https://h/a") != origin("https://other/a")
