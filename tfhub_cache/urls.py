"""URLs as text: adding a query parameter, and hiding what must not be shown.

Nothing here is parsed and put together again where it can be avoided: a signed URL is only valid
byte for byte.
"""

from __future__ import annotations

from urllib.parse import urlsplit


def append_query(url: str, name: str, value: str) -> str:
    """`url` with a parameter after those it has; a fragment, which servers never see, goes."""
    url = url.partition("#")[0]
    separator = "" if url.endswith(("?", "&")) else "&" if "?" in url else "?"
    return f"{url}{separator}{name}={value}"


def redact(url: str) -> str:
    """`url` as it may be shown: signatures stand in queries, passwords before the host."""
    if "://" not in url:
        return url
    url = url.partition("#")[0].partition("?")[0]
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: where a URL's credentials may be sent."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port
