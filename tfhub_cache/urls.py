"""URLs as text: adding a query parameter, and hiding what must not be shown.

Nothing here is parsed and put together again where it can be avoided: a signed URL is only valid
byte for byte.
"""

from __future__ import annotations

import shlex
from urllib.parse import quote, urlsplit

from tfhub_cache.printing import printable

_LONGEST_SHOWN = 500


def append_query(url: str, name: str, value: str) -> str:
    """`url` with a parameter after those it has; a fragment, which servers never see, goes."""
    url = url.partition("#")[0]
    separator = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{separator}{name}={value}"


def redact(url: str) -> str:
    """`url` as it may be shown, on one line and without secrets."""
    return printable(without_secrets(url))


def argument(handle: str) -> str | None:
    """`handle` as a word for a shell; None if it holds what is not shown, or would be an option."""
    is_shown = redact(handle) == handle and not handle.startswith("-")
    return shlex.quote(handle) if is_shown else None


def as_meant(handle: str) -> str:
    """`handle` without white space around it, as the end of a line that was read from a file.

    A path on a disk stays as it is, since names of folders may end in a blank.
    """
    meant = handle.strip()
    scheme, separator, _ = meant.partition("://")
    return meant if separator and scheme.lower() != "file" else handle


def without_secrets(url: str) -> str:
    """`url` without secrets: signatures stand in queries, passwords before the host."""
    if "://" not in url:
        return url
    url = url.partition("#")[0].partition("?")[0]
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    shown = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."


def request_target(url: str) -> str:
    """The part of a URL that goes into the request line."""
    path = url.partition("://")[2].partition("#")[0]
    for index, character in enumerate(path):
        if character in "/?":
            return path[index:] if character == "/" else "/" + path[index:]
    return "/"


def flaw_of(url: str) -> str | None:
    """Why an http(s) URL can't be asked, in words that quote nothing of it; None if it can."""
    if any(character <= " " or character == "\x7f" for character in url):
        return "it contains a space or a control character; a space is written %20"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        if parts.scheme not in ("http", "https"):
            return "it is neither http:// nor https://"
        if (
            not host
            or len(host) > 253
            or any(not 0 < len(label) < 64 for label in host.rstrip(".").split("."))
        ):
            return "it has no host that could be looked up"
    except ValueError:
        return "its host or port makes no sense"
    return None


def encode(url: str) -> str:
    """`url` with all but ASCII percent-encoded, and the rest as it is."""
    return quote(url, safe="".join(map(chr, range(33, 127))))


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: where a URL's credentials may be sent."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port
