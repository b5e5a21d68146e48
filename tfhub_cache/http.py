"""HTTP as every part of the library speaks it: one session, safe redirects, errors that help.

requests and urllib3 do the work: connection reuse, proxies, netrc, CA bundles, retries. What is
added is what the hosting protocol needs beyond them: URLs of redirects go out byte for byte, since
a signed URL is only valid as given; https never falls back to http; and nothing that is a secret
(query strings, passwords) gets into a message.
"""

from __future__ import annotations

import functools
import http.client
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urljoin

import requests
import requests.adapters
import urllib3
from absl import logging

from tfhub_cache.errors import DownloadError
from tfhub_cache.urls import encode, flaw_of, origin, redact
from tfhub_cache.version import __version__

CONNECT_TIMEOUT = 10.0
MAX_REDIRECTS = 20
MAX_RETRY_AFTER = 60.0
MAX_INTERIM_ANSWERS = 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_PRINTABLE = "".join(map(chr, range(33, 127)))
_PASSING = frozenset({429, *range(500, 600)} - {501, 505, 511})
_USER_AGENT = f"tfhub-cache/{__version__} {requests.utils.default_user_agent()}"


@contextmanager
def get(
    handle: str,
    url: str,
    *,
    timeout: float,
    verify: bool,
    redirects: frozenset[int] = REDIRECTS,
) -> Iterator[requests.Response]:
    """Requests `url`, follows redirects, and yields the answer, its body still unread.

    Args:
        handle: the handle that is being resolved, for messages.
        url: where to ask first.
        timeout: seconds without a byte after which the request is given up.
        verify: whether TLS certificates are checked.
        redirects: the statuses that are followed when they come with a Location.

    Raises:
        DownloadError: if there is no answer at all, or the redirects lead nowhere.
    """
    if not verify:
        _warn_of_no_verification()
    url = _checked(handle, url, "")
    authorization: str | None = None
    for _ in range(MAX_REDIRECTS):
        response = _send_until_answered(handle, url, authorization, timeout, verify)
        location = response.headers.get("Location")
        if response.status_code not in redirects or location is None:
            try:
                yield response
            finally:
                response.close()
            return
        response.close()
        target = _checked(handle, _join(url, location), "it was redirected to an address that ")
        if url.startswith("https:") and not target.startswith("https:"):
            raise _failure(
                handle,
                target,
                "it was redirected from https to an address that is not, which is refused: "
                "anybody on the way could replace the model",
                response.status_code,
            )
        # requests sets Authorization from the URL and netrc, for each host on its own. What came
        # from the URL of this host has to be carried along by hand, and only to the same one.
        same_origin = origin(url) == origin(target)
        authorization = response.request.headers.get("Authorization") if same_origin else None
        url = target
    raise _failure(handle, url, f"it was redirected more than {MAX_REDIRECTS} times")


def refusal(handle: str, response: requests.Response) -> DownloadError:
    """What to tell the user about an answer that is no success."""
    status = response.status_code
    if status in (401, 403):
        advice = (
            "The model may need a login or your consent to its licence: open its page in a "
            "browser, and put the host's credentials into ~/.netrc. If the address is a signed "
            "one, it may have expired"
        )
    elif status in (404, 410):
        advice = "There is no such model or version: check its page in a browser"
    elif status == 429:
        advice = "The server asks for fewer requests: wait, then try again"
    elif status >= 500:
        advice = "The server is in trouble: try again later"
    else:
        advice = "Check the handle in a browser"
    reply = f"the server answered {status} {response.reason or ''}".rstrip()
    return _failure(handle, response.url or "", f"{reply}. {advice}", status)


def read(handle: str, response: requests.Response, size: int) -> bytes:
    """At most `size` bytes of the body as they were sent; none at its end only.

    Raises:
        DownloadError: if the rest does not come.
    """
    try:
        # Not decoded: `Content-Encoding: gzip` on a .tar.gz labels the archive itself.
        data: bytes = response.raw.read(size, decode_content=False)
        return data
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        failure = _failure(
            handle,
            response.url or "",
            f"the download broke off: {reason(error)}. Nothing of it was kept; try again",
            response.status_code,
        )
    raise failure


def shown_url(response: requests.Response) -> str:
    """The URL of an answer as it may be shown."""
    return redact(response.url or "")


def reason(error: BaseException) -> str:
    """What lies at the bottom of an error of requests or urllib3, in its own words."""
    root = _root(error)
    return (str(root).rpartition("): ")[2] or type(root).__name__).rstrip(".")


def _root(error: BaseException) -> BaseException:
    deeper = getattr(error, "reason", None) or next(
        (arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None
    )
    return _root(deeper) if isinstance(deeper, BaseException) else error


def _send_until_answered(
    handle: str, url: str, authorization: str | None, timeout: float, verify: bool
) -> requests.Response:
    """Sends a request, and again after answers that say that the trouble will pass."""
    retries: urllib3.Retry = _Retry(total=4, status_forcelist=_PASSING, backoff_factor=0.25)
    while True:
        response = _send(handle, url, authorization, timeout, verify)
        has_retry_after = "Retry-After" in response.headers
        if not retries.is_retry("GET", response.status_code, has_retry_after):
            return response
        try:
            retries = retries.increment("GET", redact(url), response=response.raw)
        except urllib3.exceptions.MaxRetryError:
            return response
        response.close()
        retries.sleep(response.raw)


def _send(
    handle: str, url: str, authorization: str | None, timeout: float, verify: bool
) -> requests.Response:
    try:
        session = _session(os.getpid())
        headers = {"Authorization": authorization} if authorization else {}
        request = session.prepare_request(requests.Request("GET", url, headers=headers))
        request.headers[_ExactTarget.HEADER] = _target(url)
        environment = session.merge_environment_settings(url, {}, True, verify, None)
        # Not session.send, which reads the whole body of a redirect, however long it is.
        return session.get_adapter(url).send(
            request,
            stream=True,
            timeout=(min(CONNECT_TIMEOUT, timeout), timeout),
            verify=environment["verify"] or False,
            cert=environment["cert"],
            proxies=environment["proxies"],
        )
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
        # requests' errors are OSErrors; so is a CA bundle that is not there.
        failure = _failure(handle, url, _diagnosis(error))
    # Outside of the handler, since what is raised in there refers to the original error, which
    # holds the whole URL, signature included.
    raise failure


def _diagnosis(error: Exception) -> str:
    """What went wrong before there was an answer, and the way out."""
    detail = reason(error)
    root = _root(error)
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL):
        return f"the proxy failed: {detail}. Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if "SOCKS" in detail:
        return "the proxy needs SOCKS. Install it with: pip install 'requests[socks]'"
    if isinstance(error, requests.exceptions.SSLError):
        if "certificate verify failed" in detail:
            return (
                f"TLS failed: {detail}. Behind a company's proxy, point REQUESTS_CA_BUNDLE to "
                "the file with its CA certificate"
            )
        return f"TLS failed: {detail}. Check that the host speaks https at this port"
    # For urllib3, having failed to connect is a kind of timeout.
    if isinstance(root, urllib3.exceptions.TimeoutError) and not isinstance(
        root, urllib3.exceptions.NewConnectionError
    ):
        return f"the server did not answer: {detail}. Try again, or raise TFHUB_HTTP_TIMEOUT"
    if isinstance(root, http.client.HTTPException | urllib3.exceptions.HeaderParsingError):
        return f"the server's answer makes no sense: {detail}. Try again later"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"no connection: {detail}. Check the network and the host's name"
    if isinstance(error, requests.RequestException | ValueError):
        # Their texts quote the URL.
        kind = type(error).__name__
        return f"the request can't be made ({kind}). Check the handle, HTTP_PROXY and HTTPS_PROXY"
    return f"{detail}. Check REQUESTS_CA_BUNDLE and the network"


def _checked(handle: str, url: str, what: str) -> str:
    """The URL as it can be sent, or the failure that says why it can't."""
    flaw = flaw_of(handle) or flaw_of(url)
    if flaw is not None:
        cause = f"{what}can't be asked: {flaw}" if what else f"{flaw}. Check the handle"
        raise _failure(handle, url, cause)
    return encode(url)


def _join(url: str, location: str) -> str:
    try:
        # Spaces and non-ASCII bytes can't be sent; all else stays as it is.
        return urljoin(url, quote(location.encode("latin-1", "replace"), safe=_PRINTABLE))
    except ValueError:
        return ""


def _failure(handle: str, url: str, what: str, status: int | None = None) -> DownloadError:
    shown_handle, shown_url = redact(handle), redact(url)
    origin_of_trouble = "" if shown_url == shown_handle else f" from {shown_url}"
    return DownloadError(
        f"Could not download {shown_handle}{origin_of_trouble}: {what}.",
        handle=shown_handle,
        url=shown_url,
        status=status,
    )


@functools.lru_cache(maxsize=1)
def _session(pid: int) -> requests.Session:
    """The session of this process; a forked child makes its own, as sockets can't be shared."""
    session = requests.Session()
    session.headers.update(
        {"User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    )
    # Of connections only: to try again after an answer, it would read the answer to its end.
    adapter = _Adapter(
        max_retries=_Retry(
            total=4,
            connect=2,
            read=2,
            other=0,  # a TLS failure does not go away
            backoff_factor=0.25,
            respect_retry_after_header=False,
        )
    )
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


@functools.cache
def _warn_of_no_verification() -> None:
    logging.warning("Disabled certificate validation for resolving handles.")
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def _target(url: str) -> str:
    """The part of a URL that goes into the request line."""
    path = url.partition("://")[2].partition("#")[0]
    for index, character in enumerate(path):
        if character in "/?":
            return path[index:] if character == "/" else "/" + path[index:]
    return "/"


class _Retry(urllib3.Retry):
    """urllib3's retries, which would wait for hours if a server asked for it."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except urllib3.exceptions.InvalidHeader:
            return None
        return None if seconds is None else min(seconds, MAX_RETRY_AFTER)


class _Answer(http.client.HTTPResponse):
    """An answer that comes at last: http.client would wait for it for ever."""

    _statuses = 0

    def _read_status(self) -> Any:
        self._statuses += 1
        if self._statuses > MAX_INTERIM_ANSWERS:
            raise http.client.HTTPException("it says '100 Continue' and never goes on")
        return super()._read_status()  # type: ignore[misc]


class _ExactTarget:
    """A connection that sends the target which a header tells it, byte for byte.

    urllib3 would normalise its escapes. It is not shown the query at all, so that no log line
    and no error of its can show it either.
    """

    HEADER = "X-Tfhub-Cache-Target"

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        headers = dict(kwargs.pop("headers", None) or {})
        target = headers.pop(self.HEADER, None)
        if target is not None:
            # Through a plain-http proxy the target is the whole URL.
            url = target if url.startswith("/") else url.removesuffix(_target(url)) + target
        super().request(method, url, *args, headers=headers, **kwargs)  # type: ignore[misc]


class _HTTPConnection(_ExactTarget, urllib3.connection.HTTPConnection):
    response_class = _Answer


class _HTTPSConnection(_ExactTarget, urllib3.connection.HTTPSConnection):
    response_class = _Answer


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter with the connections above, with and without a proxy."""

    def request_url(self, *args: Any, **kwargs: Any) -> str:
        url: str = super().request_url(*args, **kwargs)
        return url.partition("?")[0]

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
