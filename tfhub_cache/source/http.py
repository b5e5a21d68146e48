"""Archives over HTTP(S)."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping

import requests

from tfhub_cache.clients import http
from tfhub_cache.clients.headers import content_range, date, field, number
from tfhub_cache.clients.http_errors import failure, refusal
from tfhub_cache.errors import DownloadError
from tfhub_cache.source.contract import Download, Source
from tfhub_cache.urls import redact

_VALIDATORS = ("ETag", "Last-Modified", "x-goog-generation", "x-goog-hash")
_EXPIRED = frozenset({400, 401, 403, 404, 410})
"""How a server answers to a signed URL when its time is over."""
_SERVER_ERROR = 500
_PARTIAL_CONTENT = 206
_NOT_SATISFIABLE = 416
_SETTLED = 60.0
"""How many seconds ago it must have been modified: much can happen in the second of a date."""


class HttpArchive(Source):
    """An archive behind a URL, which may redirect to a signed one that expires."""

    def __init__(
        self,
        handle: str,
        url: str,
        *,
        timeout: float,
        min_rate: float,
        verify: bool,
        is_mirror: bool = False,
    ) -> None:
        """An archive.

        Args:
            handle: the handle that it belongs to, for messages.
            url: where to ask; redirects are followed.
            timeout: seconds without a byte after which it is given up.
            min_rate: bytes per second that an answer has to bring, see `http.get`.
            verify: whether TLS certificates are checked.
            is_mirror: whether the URL is not of the handle's own host.
        """
        self._handle = handle
        self._url = url
        self._timeout = timeout
        self._min_rate = min_rate
        self._verify = verify
        self.shown = redact(url)
        self.is_mirror = is_mirror
        self._lock = threading.Lock()
        self._address: http.Address | None = None

    @contextlib.contextmanager
    def open(
        self,
        first: int = 0,
        stop: int | None = None,
        version: str | None = None,
        *,
        retries: int = 4,
        pause: Callable[[float], object] | None = None,
    ) -> Iterator[Download]:
        headers = {}
        if first or stop is not None:
            headers["Range"] = f"bytes={first}-{'' if stop is None else stop - 1}"
            if version is not None:
                headers["If-Range"] = version
        with contextlib.ExitStack() as stack:
            response = stack.enter_context(self._ask(headers, retries, pause))
            if response.status_code == _NOT_SATISFIABLE:  # it is shorter by now
                response = stack.enter_context(self._ask({}, retries, pause))
            yield self._download(response, first, version)

    @contextlib.contextmanager
    def _ask(
        self, headers: Mapping[str, str], retries: int, pause: Callable[[float], object] | None
    ) -> Iterator[requests.Response]:
        """Asks where the archive was found the last time, or as if for the first time."""
        with self._lock:
            known = self._address
        with contextlib.ExitStack() as stack:
            response = None
            if known is not None and known.url != self._url:
                # If that host is down, the handle may lead to another by now.
                with contextlib.suppress(DownloadError):
                    response = stack.enter_context(self._get(known, headers, retries, pause))
            if response is not None and self._is_over(response, retries):
                stack.close()
                response = None
            if response is None:
                response = stack.enter_context(self._get(self._url, headers, retries, pause))
                with self._lock:
                    self._address = http.address_of(response)
            yield response

    def _get(
        self,
        address: str | http.Address,
        headers: Mapping[str, str],
        retries: int,
        pause: Callable[[float], object] | None,
    ) -> contextlib.AbstractContextManager[requests.Response]:
        return http.get(
            self._handle,
            address,
            timeout=self._timeout,
            min_rate=self._min_rate,
            verify=self._verify,
            headers=headers,
            retries=retries,
            pause=pause,
        )

    def _is_over(self, response: requests.Response, retries: int) -> bool:
        """Whether an address is of no use any more. Who is not patient has no say in that."""
        status = response.status_code
        return status in _EXPIRED or (status >= _SERVER_ERROR and retries > 0)

    def _download(self, response: requests.Response, asked: int, version: str | None) -> Download:
        headers = response.headers
        is_part = response.status_code == _PARTIAL_CONTENT
        first, size = self._part(response) if is_part else (0, _size(headers))
        if is_part and first != asked:
            raise self._nonsense(response, f"byte {first}, and was asked for byte {asked}")
        if not is_part and response.status_code != requests.codes.ok:
            raise refusal(self._handle, response)
        found = _version(headers)
        if found is None and is_part and version is not None and not _is_etag(version):
            found = version  # a part need not repeat the date, but must repeat the ETag
        return Download(
            stream=_Body(self._handle, response),
            url=http.shown_url(response),
            size=size,
            media_type=field(headers, "Content-Type").partition(";")[0].strip().lower(),
            checksums=_checksums(headers, is_whole=not is_part),
            validators={name: value for name in _VALIDATORS if (value := field(headers, name))},
            first=first,
            version=found,
            divisible=is_part or field(headers, "Accept-Ranges").lower() == "bytes",
        )

    def _part(self, response: requests.Response) -> tuple[int, int]:
        """The first byte of a partial answer, and the size of the whole."""
        part = content_range(response.headers)
        if part is None:
            told = field(response.headers, "Content-Range")
            raise self._nonsense(response, f"a part of it as {told[:100]!r}")
        return part

    def _nonsense(self, response: requests.Response, what: str) -> DownloadError:
        return failure(
            self._handle,
            response.url or "",
            f"the server's answer makes no sense: it sends {what}. Try again later",
            response.status_code,
        )


def _size(headers: Mapping[str, str]) -> int | None:
    return None if "Transfer-Encoding" in headers else number(headers, "Content-Length")


def _version(headers: Mapping[str, str]) -> str | None:
    """What If-Range takes: a strong ETag, or else a date that is one version's only.

    See https://www.rfc-editor.org/rfc/rfc9110#name-if-range
    """
    if headers.get("ETag"):
        etag = field(headers, "ETag")
        return etag if _is_etag(etag) else None
    modified, now = date(headers, "Last-Modified"), date(headers, "Date")
    if modified is None or now is None or now - modified < _SETTLED:
        return None
    return field(headers, "Last-Modified")


def _is_etag(version: str) -> bool:
    return version.startswith('"')


def _checksums(headers: Mapping[str, str], *, is_whole: bool) -> dict[str, bytes]:
    """The checksums of the archive, from a response's headers.

    `x-goog-hash` is of the bytes as Google Cloud Storage keeps them; where it decompressed them
    on the way, that is not what was received. `Content-MD5` is of the body, which may be a part.
    See https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    """
    found: dict[str, bytes] = {}
    stored = headers.get("x-goog-stored-content-encoding", "identity")
    if stored == headers.get("Content-Encoding", "identity"):
        for part in field(headers, "x-goog-hash").split(","):
            name, _, value = part.strip().partition("=")
            _add_checksum(found, name, value)
    if is_whole:
        _add_checksum(found, "md5", field(headers, "Content-MD5"))
    return found


def _add_checksum(found: dict[str, bytes], name: str, value: str) -> None:
    length = {"md5": 16, "crc32c": 4}.get(name)
    try:
        decoded = base64.b64decode(value, validate=True)
    except ValueError:
        return
    if len(decoded) == length:
        found[name] = decoded


class _Body:
    """A response's bytes as sent, with the network's errors told in our words."""

    def __init__(self, handle: str, response: requests.Response) -> None:
        self._handle = handle
        self._response = response

    def read(self, size: int, /) -> bytes:
        return http.read(self._handle, self._response, size)

    def close(self) -> None:
        # Not closed, which is for the thread that reads: urllib3 is not made for two at once. The
        # end of the connection ends its waiting.
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.raw.shutdown()
