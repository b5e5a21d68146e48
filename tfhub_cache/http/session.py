"""The session: connections that are reused, retried, and carry URLs byte for byte."""

from __future__ import annotations

import functools
import http.client
from typing import Any

import requests
import requests.adapters
import urllib3

from tfhub_cache.urls import request_target
from tfhub_cache.version import __version__

CONNECT_TIMEOUT = 10.0
MAX_RETRY_AFTER = 60.0
MAX_INTERIM_ANSWERS = 20

_USER_AGENT = f"tfhub-cache/{__version__} {requests.utils.default_user_agent()}"


@functools.lru_cache(maxsize=1)
def shared_session(pid: int) -> requests.Session:
    """The session of this process; a forked child makes its own, as sockets can't be shared."""
    session = requests.Session()
    session.headers.update(
        {"User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    )
    # Of connections only: to try again after an answer, it would read the answer to its end.
    adapter = _Adapter(
        max_retries=Retry(
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


class Retry(urllib3.Retry):
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


class ExactTarget:
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
            url = target if url.startswith("/") else url.removesuffix(request_target(url)) + target
        super().request(method, url, *args, headers=headers, **kwargs)  # type: ignore[misc]


class _HTTPConnection(ExactTarget, urllib3.connection.HTTPConnection):
    response_class = _Answer


class _HTTPSConnection(ExactTarget, urllib3.connection.HTTPSConnection):
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
