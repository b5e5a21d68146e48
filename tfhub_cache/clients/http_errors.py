"""What went wrong with a request, in words that name the cause and the way out."""

from __future__ import annotations

import http.client

import requests
import urllib3

from tfhub_cache.clients.session import TooSlowError
from tfhub_cache.errors import DownloadError
from tfhub_cache.urls import redact

_LONGEST = 300
"""Characters of what a server says that are shown."""
_LOGIN = (
    "The model may need a login or your consent to its licence: open its page in a browser, and "
    "put the host's credentials into ~/.netrc. If the address is a signed one, it may have expired"
)
_ABSENT = "There is no such model or version: check its page in a browser"
_PROXY_LOGIN = (
    "Put its user name and password into HTTP_PROXY and HTTPS_PROXY, as in "
    "http://user:password@proxy.example.com:3128"
)
_ADVICE = {
    401: _LOGIN,
    403: _LOGIN,
    404: _ABSENT,
    410: _ABSENT,
    407: _PROXY_LOGIN,
    429: "The server asks for fewer requests: wait, then try again",
}


def refusal(handle: str, url: str, status: int, phrase: str) -> DownloadError:
    """What is raised after an answer that is not a success."""
    trouble = "The server is in trouble: try again later"
    otherwise = trouble if status >= 500 else "Check the handle in a browser"
    advice = _ADVICE.get(status, otherwise)
    reply = f"the server answered {status} {phrase[:_LONGEST]}".rstrip()
    if status == 407:
        reply = reply.replace("server", "proxy", 1)
    return failure(handle, url, f"{reply}. {advice}", status)


def failure(handle: str, url: str, what: str, status: int | None = None) -> DownloadError:
    """What is raised when `url` could not be fetched, with both it and the handle redacted.

    `what` may quote the server, so what a terminal would obey is escaped.
    """
    shown_handle, shown_url = redact(handle), redact(url)
    origin_of_trouble = "" if shown_url == shown_handle else f" from {shown_url}"
    return DownloadError(
        f"Could not download {shown_handle}{origin_of_trouble}",
        cause=what,
        handle=shown_handle,
        url=shown_url,
        status=status,
    )


def is_passing(error: Exception) -> bool:
    """Whether a request that failed with this may succeed when it is repeated.

    A failure of TLS stays, and so does a refusal of the proxy.
    """
    if isinstance(error, requests.exceptions.SSLError):
        return False
    if isinstance(error, requests.exceptions.ProxyError):
        return isinstance(_root(error), urllib3.exceptions.TimeoutError)
    return isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.Timeout)


def diagnosis(error: Exception, verify: bool | str) -> str:
    """What went wrong before there was an answer, and the way out.

    Args:
        error: what was raised.
        verify: see `Access`.
    """
    detail, root = reason(error), _root(error)
    if isinstance(error, requests.exceptions.ProxyError | requests.exceptions.InvalidProxyURL):
        advice = _PROXY_LOGIN if " 407 " in detail else "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
        return f"the proxy failed: {detail}. {advice}"
    if "SOCKS" in detail:
        return "the proxy needs SOCKS. Install it with: pip install 'requests[socks]'"
    if isinstance(error, requests.exceptions.SSLError):
        is_alone = isinstance(verify, str)
        alone = f"Of CA certificates only those in {verify} count. " if is_alone else ""
        return (
            f"TLS failed: {detail}. {alone}Check that the host speaks https at this port. Behind a "
            "company's proxy, let the system trust its CA certificate, or point SSL_CERT_FILE or "
            "REQUESTS_CA_BUNDLE to a file with it"
        )
    if isinstance(root, TooSlowError):
        return f"the server is too slow: {detail}"
    # For urllib3, having failed to connect is a kind of timeout.
    no_connection = isinstance(root, urllib3.exceptions.NewConnectionError)
    if isinstance(root, urllib3.exceptions.TimeoutError) and not no_connection:
        return f"the server did not answer: {detail}. Try again, or raise TFHUB_HTTP_TIMEOUT"
    if isinstance(root, http.client.HTTPException | urllib3.exceptions.HeaderParsingError):
        return f"the server's answer makes no sense: {detail}. Try again later"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"no connection: {detail}. Check the network and the host's name"
    if isinstance(error, requests.RequestException | ValueError):  # their texts quote the URL
        kind = type(error).__name__
        return f"the request can't be made ({kind}). Check the handle, HTTP_PROXY and HTTPS_PROXY"
    return f"{detail}. Check REQUESTS_CA_BUNDLE and the network"


def reason(error: BaseException) -> str:
    """What lies at the bottom of an error of requests or urllib3, in its own words."""
    root = _root(error)
    return (str(root).rpartition("): ")[2] or type(root).__name__)[:_LONGEST].rstrip(".")


def _root(error: BaseException) -> BaseException:
    deeper = getattr(error, "reason", None) or next(
        (arg for arg in reversed(error.args) if isinstance(arg, BaseException)), None
    )
    return _root(deeper) if isinstance(deeper, BaseException) else error
