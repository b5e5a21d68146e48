"""The session: connections that are reused, and carry URLs byte for byte."""

from __future__ import annotations

import contextlib
import functools
import http.client
import io
import math
import os
import ssl
import sys
import time
from typing import Any

import requests
import requests.adapters
import urllib3
from absl import logging
from requests.adapters import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.response import assert_header_parsing

from tfhub_cache.urls import request_target
from tfhub_cache.version import __version__

CONNECT_TIMEOUT = 10.0
MAX_INTERIM_ANSWERS = 20
_TUNNEL_RATE, _LONGEST_TUNNEL = 100.0, 256e3
"""Bytes per second, and bytes, of a proxy's answer to CONNECT, which http.client does not bound."""
OURS = "X-Tfhub-Cache"
"""A header for the connections below, which don't send it: the least rate in bytes per second, for
how many seconds it is measured, and the target."""

_SYSTEM_FILES = (
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
)
"""Where distributions of Linux keep the CA certificates that the system trusts."""
_INTERIM = frozenset(range(100, 200)) - {101}  # which switches to another protocol
_USER_AGENT = f"tfhub-cache/{__version__} {requests.utils.default_user_agent()}"


@functools.lru_cache(maxsize=1)
def shared_session(pid: int) -> requests.Session:
    """The session of this process; a forked child makes its own, as sockets can't be shared."""
    session = requests.Session()
    session.headers.update(
        {"User-Agent": _USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    )
    # Without a limit, urllib3 keeps all connections for the next download, and warns of none.
    adapter = _Adapter(pool_maxsize=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class TooSlowError(http.client.HTTPException):
    """The server sends so slowly that it is not waited for."""


class _Measured(io.RawIOBase):
    """What a server sends, as long as it sends enough while it is waited for."""

    def __init__(
        self, received: io.RawIOBase, min_rate: float, window: float, most: float = math.inf
    ) -> None:
        self._raw = received
        self._min_rate = min_rate
        self._window = window
        self._left = most
        self._bytes = 0
        self._waited = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        count = self._raw.readinto(buffer)
        # Only the time in here counts: while the reader does something else, the server can't send.
        self._waited += time.monotonic() - began
        self._bytes += count or 0
        self._left -= count or 0
        if self._left < 0:
            raise TooSlowError("it does not come to an end")
        if self._waited >= self._window:
            if self._bytes < self._min_rate * self._waited:
                raise TooSlowError(
                    f"it sent {self._bytes} bytes in {self._waited:.3g} seconds, and "
                    f"TFHUB_HTTP_MIN_RATE asks for {self._min_rate:g} a second"
                )
            self._bytes, self._waited = 0, 0.0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer with a bounded head and end; http.client would wait for them for ever."""

    def begin(self) -> None:
        super().begin()
        try:
            assert_header_parsing(self.msg)
        except urllib3.exceptions.HeaderParsingError:
            # urllib3 would log what it could not read, and a signature with it.
            logging.warning(
                "A server sent a header that can't be read. What follows it is ignored."
            )
            self.msg.defects.clear()
            self.msg.set_payload("")
        for name in "Set-Cookie", "Set-Cookie2":  # requests would warn about odd ones
            del self.msg[name]

    def _read_status(self) -> Any:
        for _ in range(MAX_INTERIM_ANSWERS):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            # http.client skips 100 only, without a bound.
            if status not in _INTERIM:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("it announces an answer again and again")

    def _read_and_discard_trailer(self) -> None:
        http.client.parse_headers(self.fp)  # which has bounds


class _Connection:
    """What is added to the connections of urllib3.

    The target of a request is taken byte for byte from a header field that never leaves this
    process: urllib3 would normalise its escapes.
    """

    timeout: float | None
    _ours: str | None = None

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        headers = dict(kwargs.pop("headers"))
        self._ours = headers.pop(OURS)
        super().request(method, url, *args, headers=headers, **kwargs)  # type: ignore[misc]

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        assert self._ours is not None
        target = self._ours.split()[-1]
        # Through a plain-http proxy the target is the whole URL.
        if not url.startswith("/"):
            target = url.removesuffix(request_target(url)) + target
        super().putrequest(method, target, *args, **kwargs)  # type: ignore[misc]

    def response_class(self, *args: Any, **kwargs: Any) -> _Answer:
        answer = _Answer(*args, **kwargs)
        # If nothing has been requested yet, a proxy answers to CONNECT.
        bounds = (_TUNNEL_RATE, 3 * (self.timeout or CONNECT_TIMEOUT), _LONGEST_TUNNEL)
        if self._ours is not None:
            rate, seconds, _ = self._ours.split()
            bounds = (float(rate), float(seconds), math.inf)
        answer.fp = io.BufferedReader(_Measured(answer.fp.detach(), *bounds))
        return answer


class _HTTPConnection(_Connection, urllib3.connection.HTTPConnection):  # type: ignore[misc]
    pass


class _HTTPSConnection(_Connection, urllib3.connection.HTTPSConnection):  # type: ignore[misc]
    def connect(self) -> None:
        super().connect()
        # `http` warns once if it is not. urllib3 would warn at each request, which can only be
        # turned off for the whole process.
        self.is_verified = True


class _TrustingConnection(_HTTPSConnection):
    """A connection for which the user has named no CA certificates."""

    def connect(self) -> None:
        self.ssl_context = _system_context()
        if self.proxy_config is not None:
            self.proxy_config = self.proxy_config._replace(ssl_context=self.ssl_context)
        self.ca_certs = None  # which would be loaded for each connection
        super().connect()


def _system_context() -> ssl.SSLContext:
    """A context that trusts what the system and certifi trust."""
    if sys.platform in ("darwin", "win32"):
        import truststore

        # One for each connection: while one connects, another thread must not use its context.
        # https://github.com/sethmlarson/truststore/issues/209
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        return context
    return _context_of_openssl()


@functools.cache
def _context_of_openssl() -> ssl.SSLContext:
    """The context where OpenSSL knows the system's store. It takes long to load."""
    context = ssl.create_default_context()
    known = ssl.get_default_verify_paths()
    # The system's is not known where Python has an OpenSSL of its own, as that of conda and uv, or
    # where SSL_CERT_FILE is empty or names a file that is not there.
    files = {DEFAULT_CA_BUNDLE_PATH, known.openssl_cafile, *_SYSTEM_FILES}
    for file in {*map(os.path.realpath, files)} - {os.path.realpath(known.cafile or "")}:
        with contextlib.suppress(OSError):
            context.load_verify_locations(file)
    return context


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter with the connections above, with and without a proxy."""

    def get_connection_with_tls_context(
        self, request: Any, verify: bool | str | None, *args: Any, **kwargs: Any
    ) -> Any:
        pool: Any = super().get_connection_with_tls_context(request, verify, *args, **kwargs)
        https = _TrustingConnection if verify is True else _HTTPSConnection
        pool.ConnectionCls = https if pool.scheme == "https" else _HTTPConnection
        return pool
