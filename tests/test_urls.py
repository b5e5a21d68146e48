"""URLs as text: what is appended, and what is never shown."""

from urllib.parse import urlsplit

import pytest
import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from tfhub_cache.urls import append_query, encode, origin, redact


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
        # None where it is not plain which host is meant, or where the password ends.
        (r"http://evil\@host/m", "http://..."),
        (r"http://me\:password@host/m", "http://..."),
        ("https://me:pass/word@host/m", "https://..."),
        ("https://%65vil/m", "https://..."),
        ("https://h/m\x1b[2J\n\u202e", "https://h/m\\x1b[2J\\n\\u202e"),
    ],
)
def test_signatures_and_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_the_same_host_is_known_by_scheme_name_and_port() -> None:
    assert origin("https://h/a") == origin("HTTPS://me:pw@H:443/b?c")
    assert origin("https://h/a") != origin("http://h/a")
    assert origin("https://h/a") != origin("https://h:8443/a")
    assert origin("https://h/a") != origin("https://other/a")


@pytest.mark.parametrize(
    ("url", "flaw"),
    [
        (r"http://evil\@host/m", "backslash"),
        (r"http://host/a\b", "backslash"),
        ("http://me@evil@host/m", "more than one @"),
        ("http://host\t/m", "control character"),
        ("http://host/m\x1b[2J", "control character"),
        ("http://host/m\x85", "control character"),
        ("http://host/m 1", "a space"),
        ("http://host/\udc80", "surrogate"),
        ("http://%65vil/m", "as it is written"),
        ("http://b\u00fccher.example/m", "as it is written"),
        ("http://host\uff0fevil/m", "no sense"),
        ("http://[fe80::1%25eth0]/m", "as it is written"),
        ("http://host:8\u0663/m", "no sense"),
        ("//host/m", "neither http:// nor https://"),
        ("ftp://host/m", "neither http:// nor https://"),
    ],
)
def test_a_url_that_two_programs_could_read_differently_is_refused(url: str, flaw: str) -> None:
    with pytest.raises(ValueError, match=flaw):
        origin(url)


_ODD = st.sampled_from(
    [*"abA0.:@/\\?#%[]!-_~ \t\n\x00\x1b\x7f\u00fc\uff0f\u3002\udc80", "%65", "%40"]
)
_AUTHORITIES = st.lists(
    st.one_of(
        st.sampled_from(["host", "evil.example", "me:pw@", "[::1]", ":80", "127.0.0.1"]), _ODD
    ),
    max_size=6,
).map("".join)
_PATHS = st.lists(st.one_of(_ODD, st.sampled_from(["/m", "?sig=1", "#f"])), max_size=6).map("".join)


@given(
    st.sampled_from(["http://", "https://", "HTTPS://", "http:/", "http:\\\\"]),
    _AUTHORITIES,
    _PATHS,
)
@example("http://", "evil\\@host", "/")
@example("http://", "corp.host:@evil", "/")
def test_where_a_url_leads_to_is_read_as_by_everything_that_connects(
    scheme: str, authority: str, path: str
) -> None:
    url = scheme + authority + path
    try:
        where = origin(url)
    except ValueError:
        return
    asked = requests.Request("GET", encode(url)).prepare().url
    assert asked is not None
    for text in url, encode(url), asked:
        read = urllib3.util.parse_url(text)
        assert (read.scheme, read.host) == (where.scheme, where.host)
        assert where.port == (read.port or {"http": 80, "https": 443}[where.scheme])
        assert urlsplit(text).hostname == where.host.strip("[]")
    assert redact(url).lower().startswith(f"{where.scheme}://{where.host}")
    assert "pw@" not in redact(url).partition("://")[2].partition("/")[0]
