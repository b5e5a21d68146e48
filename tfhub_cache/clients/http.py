"""HTTP as every part of the library speaks it: safe redirects, retries, errors that help.

requests and urllib3 do the work: connection reuse, proxies, netrc, CA bundles, retries. What is
added is what the hosting protocol needs beyond them: URLs of redirects go out byte for byte, since
a signed URL is only valid as given (`session`); https never falls back to http; and nothing that is
a secret (query strings, passwords) gets into a message (`trouble`).
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote, urljoin

import requests
import urllib3
from absl import logging

from tfhub_cache.clients.headers import retry_after
from tfhub_cache.clients.http_errors import diagnosis, failure, reason
from tfhub_cache.clients.session import (
    CONNECT_TIMEOUT,
    MAX_RETRY_AFTER,
    PACE_HEADER,
    TARGET_HEADER,
    shared_session,
)
from tfhub_cache.urls import Origin, encode, origin, redact, request_target

MAX_REDIRECTS = 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({429, *range(500, 600)} - {501, 505, 511})
"""Statuses that say that the trouble will pass."""
_TOO_LARGE = 413
_FIRST_PAUSE = 0.25
_TIMEOUTS = 5
"""For how many timeouts an answer is watched before it is judged as too slow."""

_PRINTABLE = "".join(map(chr, range(33, 127)))


class Address(NamedTuple):
    """Where an answer came from after all redirects: enough to ask there again.

    It holds secrets (a signed URL, credentials) and is kept in memory only.
    """

    url: str
    authorization: str | None = None


@contextmanager
def get(
    handle: str,
    address: str | Address,
    *,
    timeout: float,
    min_rate: float,
    verify: bool,
    redirects: frozenset[int] = REDIRECTS,
    headers: Mapping[str, str] | None = None,
    retries: int = 4,
    pause: Callable[[float], object] | None = None,
) -> Iterator[requests.Response]:
    """Requests an address, follows redirects, and yields the answer, its body still unread.

    Args:
        handle: the handle that is being resolved, for messages.
        address: where to ask first.
        timeout: seconds without a byte after which the request is given up.
        min_rate: bytes per second that have to come, on average over five times as long, of what
            is waited for; 0: any number.
        verify: whether TLS certificates are checked.
        redirects: the statuses that are followed when they come with a Location.
        headers: what to say besides, to every address on the way.
        retries: how often an answer that says that the trouble will pass is not taken for one.
        pause: waits for so many seconds between two tries; `time.sleep` unless given.

    Raises:
        DownloadError: if there is no answer at all, or the redirects lead nowhere.
    """
    if not verify:
        _warn_of_no_verification()
    url, authorization = address if isinstance(address, Address) else (address, None)
    url, asked = _checked(handle, url, "")
    for _ in range(MAX_REDIRECTS):
        fields = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
        fields[PACE_HEADER] = f"{min_rate} {_TIMEOUTS * timeout}"
        response = _send_until_answered(handle, url, fields, timeout, verify, retries, pause)
        response.url = url  # requests has normalised it, which breaks signatures
        location = response.headers.get("Location")
        if response.status_code not in redirects or location is None:
            try:
                yield response
            finally:
                response.close()
            return
        response.close()
        target, next_asked = _checked(
            handle, _join(url, location), "it was redirected to an address that "
        )
        if asked.scheme == "https" and next_asked.scheme != "https":
            raise failure(
                handle,
                target,
                "it was redirected from https to an address that is not, which is refused: "
                "anybody on the way could replace the model",
                response.status_code,
            )
        # requests sets Authorization from the URL and netrc, for each host on its own. What came
        # from the URL of this host has to be carried along by hand, and only to the same one.
        authorization = address_of(response).authorization if asked == next_asked else None
        url, asked = target, next_asked
    raise failure(handle, url, f"it was redirected more than {MAX_REDIRECTS} times")


def address_of(response: requests.Response) -> Address:
    """Where an answer came from."""
    return Address(response.url or "", response.request.headers.get("Authorization"))


def read(handle: str, response: requests.Response, size: int) -> bytes:
    """At most `size` bytes of the body as they were sent, as soon as there are any.

    Returns:
        The bytes; none at the body's end only.

    Raises:
        DownloadError: if the rest does not come.
    """
    try:
        # Not decoded: `Content-Encoding: gzip` on a .tar.gz labels the archive itself.
        data: bytes = response.raw.read1(size, decode_content=False)
        return data
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        broken = failure(
            handle,
            response.url or "",
            f"the download broke off: {reason(error)}",
            response.status_code,
        )
    raise broken


def shown_url(response: requests.Response) -> str:
    """The URL of an answer as it may be shown."""
    return redact(response.url or "")


def _send_until_answered(
    handle: str,
    url: str,
    headers: Mapping[str, str],
    timeout: float,
    verify: bool,
    retries: int,
    pause: Callable[[float], object] | None,
) -> requests.Response:
    """Sends a request, and again after answers that say that the trouble will pass."""
    tried = 0
    while True:
        response = _send(handle, url, headers, timeout, verify)
        status, wanted = response.status_code, retry_after(response.headers)
        is_busy = status in PASSING or (status == _TOO_LARGE and wanted is not None)
        if not is_busy or tried == retries:
            return response
        response.close()
        wait = min(wanted or _FIRST_PAUSE * 2**tried, MAX_RETRY_AFTER)
        (pause or time.sleep)(wait)
        tried += 1


def _send(
    handle: str, url: str, headers: Mapping[str, str], timeout: float, verify: bool
) -> requests.Response:
    try:
        shared = shared_session(os.getpid())
        request = shared.prepare_request(requests.Request("GET", url, headers=dict(headers)))
        request.headers[TARGET_HEADER] = request_target(url)
        environment = shared.merge_environment_settings(url, {}, True, verify, None)
        # Not session.send, which reads the whole body of a redirect, however long it is.
        return shared.get_adapter(url).send(
            request,
            stream=True,
            timeout=(min(CONNECT_TIMEOUT, timeout), timeout),
            verify=environment["verify"] or False,
            cert=environment["cert"],
            proxies=environment["proxies"],
        )
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        # requests' errors are OSErrors; so is a CA bundle that is not there.
        broken = failure(handle, url, diagnosis(error))
    # Outside of the handler, since what is raised in there refers to the original error, which
    # holds the whole URL, signature included.
    raise broken


def _checked(handle: str, url: str, what: str) -> tuple[str, Origin]:
    """The URL as it can be sent, and where it leads to, or the failure that says why it can't."""
    try:
        origin(handle)
        where = origin(url)
    except ValueError as error:
        cause = f"{what}can't be asked: {error}" if what else f"{error}. Check the handle"
        broken = failure(handle, url, cause)
    else:
        return encode(url), where
    raise broken


def _join(url: str, location: str) -> str:
    try:
        # Spaces and non-ASCII bytes can't be sent; all else stays as it is.
        return urljoin(url, quote(location.encode("latin-1", "replace"), safe=_PRINTABLE))
    except ValueError:
        return ""


@functools.cache
def _warn_of_no_verification() -> None:
    logging.warning("Disabled certificate validation for resolving handles.")
