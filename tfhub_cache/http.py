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
from tfhub_cache.urls import origin, redact
from tfhub_cache.version import __version__

CONNECT_TIMEOUT = 10.0
MAX_REDIRECTS = 20
MAX_RETRY_AFTER = 60.0
MAX_INTERIM_ANSWERS = 20
REDIRECTS = frozenset({301, 302, 303, 307, 308})

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
        try:
            target = urljoin(url, _printable(location))
            same_origin = origin(url) == origin(target)
        except ValueError:
            raise _failure(
                handle, url, "it was redirected to an address that makes no sense"
            ) from None
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
    retries: urllib3.Retry = _Retry(
        total=4, status_forcelist=(429, 500, 502, 503, 504), backoff_factor=0.25
    )
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
    session = _session(os.getpid())
    try:
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
    except requests.RequestException as error:
        # Not chained: the original message shows the whole URL, signature included.
        raise _failure(handle, url, _diagnosis(error)) from None


def _diagnosis(error: requests.RequestException) -> str:
    """What went wrong before there was an answer, and the way out."""
    detail = reason(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy failed: {detail}. Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    if isinstance(error, requests.exceptions.SSLError):
        return (
            f"TLS failed: {detail}. Behind a company's proxy, point REQUESTS_CA_BUNDLE to the "
            "file with its CA certificate"
        )
    root = _root(error)
    # For urllib3, having failed to connect is a kind of timeout.
    if isinstance(root, urllib3.exceptions.TimeoutError) and not isinstance(
        root, urllib3.exceptions.NewConnectionError
    ):
        return f"the server did not answer: {detail}. Try again, or raise TFHUB_HTTP_TIMEOUT"
    if isinstance(root, http.client.HTTPException | urllib3.exceptions.HeaderParsingError):
        return f"the server's answer makes no sense: {detail}. Try again later"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"no connection: {detail}. Check the network and the host's name"
    return f"the request can't be made: {detail or type(error).__name__}. Check the handle"


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


def _printable(location: str) -> str:
    """A Location as it can be sent: other than spaces and non-ASCII bytes, it stays as it is."""
    return quote(location.encode("latin-1", "replace"), safe="".join(map(chr, range(33, 127))))


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
        seconds = super().get_retry_after(response)
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
