"""URLs: where they lead to, adding a query parameter, and what may be shown of them.

`printable` is for all other text from outside, too: handles, names of files and hosts, answers of
servers. Such text may hold line ends that make a false line, escape sequences that a terminal
obeys, and characters that reverse what follows them.

A URL is parsed once, by `origin`, with the parser of the library that connects. Nothing is put
together again from its parts: a signed URL is only valid byte for byte.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import NamedTuple
from urllib.parse import quote, urlsplit

_LONGEST_SHOWN = 500
_LONGEST_NAME = 253
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = r"(?:[\w.-]+|\[[\da-f:.]+\])"
_PLAIN_AUTHORITY = re.compile(rf"{_HOST}(?::\d{{0,5}})?", re.ASCII | re.IGNORECASE)
_END_OF_AUTHORITY = re.compile(r"[/\\?#]")
_NEVER_IN_A_URL = re.compile("[\0- \x7f-\x9f\ud800-\udfff\\\\]")
_INVISIBLE = "\u200b\u2060\ufeff"
_LABELS = re.compile(r"[^.]{1,63}(?:\.[^.]{1,63})*\.*")


class Origin(NamedTuple):
    """Where a URL leads to, and its credentials may be sent."""

    scheme: str
    host: str
    port: int


def origin(url: str) -> Origin:
    """Scheme, host and port of an http(s) URL, as the connection is made.

    Scheme and host are in lower case, as they mean the same in any (RFC 3986).

    Raises:
        ValueError: if it can't be asked, or another program could read it differently. The text
            says why, and quotes nothing of it.
    """
    from urllib3.util import parse_url  # slow to import, and only needed to ask somewhere

    if _NEVER_IN_A_URL.search(url):
        raise ValueError(
            "it contains a space, a control character, a surrogate or a backslash; escape a space "
            "as %20, and a backslash as %5C"
        )
    try:
        # Not the path, which has no influence on where it leads to; it is escaped for requests.
        parts, others = parse_url(url), urlsplit(url)
        is_the_same = (parts.host or "").strip("[]") == (others.hostname or "") and (
            parts.port == others.port
        )
    except ValueError:
        raise ValueError("its host or port makes no sense") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError("it is neither http:// nor https://")
    if others.netloc.count("@") > 1:
        raise ValueError("it has more than one @ before its path; in a password it is written %40")
    host = parts.host or ""
    if len(host) > _LONGEST_NAME or not _LABELS.fullmatch(host):
        raise ValueError("it has no host that could be looked up")
    if not is_the_same or not _PLAIN_AUTHORITY.fullmatch(others.netloc.rpartition("@")[2]):
        raise ValueError("its host can't be asked as it is written; letters like \u00fc need xn--")
    return Origin(parts.scheme, host, parts.port or _DEFAULT_PORTS[parts.scheme])


def host_of(url: str) -> str:
    """The host of an http(s) URL, in lower case; empty if it can't be asked at its usual port."""
    try:
        where = origin(url)
    except ValueError:
        return ""
    return where.host if where.port == _DEFAULT_PORTS[where.scheme] else ""


def append_query(url: str, name: str, value: str) -> str:
    """`url` with a parameter after those it has; a fragment, which servers never see, goes."""
    url = url.partition("#")[0]
    separator = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{separator}{name}={value}"


def printable(text: str) -> str:
    r"""`text` on one line, with other than printable characters escaped as in Python (`\n`)."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def redact(url: str) -> str:
    """`url` as it may be shown, on one line and without secrets."""
    return printable(without_secrets(url))


def argument(handle: str) -> str | None:
    """`handle` as a word for a shell; None if it holds what is not shown, or would be an option."""
    is_shown = redact(handle) == handle and not handle.startswith("-")
    return shlex.quote(handle) if is_shown else None


def key_of(handle: str) -> str:
    """The name of a handle's entry; as tensorflow_hub has it, the handle is not normalised."""
    return hashlib.sha1(handle.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def stripped(text: str) -> str:
    """`text` without white space around it, and without what web pages have there unseen."""
    return text.strip().strip(_INVISIBLE).strip()


def as_meant(handle: str) -> str:
    """`handle` without white space around it, as the end of a line that was read from a file.

    A path on a disk stays as it is, since names of folders may end in a blank. The scheme of a
    file system gets lower case, since TensorFlow's are told apart by case.
    """
    meant = stripped(handle)
    scheme, separator, rest = meant.partition("://")
    if separator and scheme.lower() == "file":
        return with_plain_scheme(handle)
    if separator and scheme.lower() == "gs":
        return f"gs://{rest}"
    return meant if separator else handle


def with_plain_scheme(url: str) -> str:
    """A URL of a file system with its scheme in lower case, which means the same (RFC 3986)."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() == "file" and rest.startswith("localhost/"):
        rest = rest.removeprefix("localhost")
    return f"{scheme.lower()}{separator}{rest}"


def request_target(url: str) -> str:
    """The part of a URL that goes into the request line."""
    path = url.partition("://")[2].partition("#")[0]
    start = re.search("[/?]", path)
    target = path[start.start() :] if start else ""
    return target if target.startswith("/") else f"/{target}"


def encode(url: str | bytes) -> str:
    """`url` with all but ASCII percent-encoded, and the rest as it is."""
    return quote(url, safe="".join(map(chr, range(33, 127))))


def without_secrets(url: str) -> str:
    """`url` without secrets: signatures stand in queries, passwords before the host.

    It shows the host that is connected to, and none where that is not plain.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    is_http = scheme.lower() in _DEFAULT_PORTS
    end = _END_OF_AUTHORITY.search(rest) if is_http else re.search("[/?#]", rest)
    authority, path = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    host = authority.rpartition("@")[2]
    if is_http and (path.startswith("\\") or not _PLAIN_AUTHORITY.fullmatch(host or "h")):
        return f"{scheme}://..."
    shown = f"{scheme}://{host}{re.split('[?#]', path, maxsplit=1)[0]}"
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."
