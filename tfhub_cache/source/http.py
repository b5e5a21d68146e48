"""Archives over HTTP(S)."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping

import requests

from tfhub_cache import http
from tfhub_cache.source import Download

_VALIDATORS = ("ETag", "Last-Modified", "x-goog-generation", "x-goog-hash")


@contextlib.contextmanager
def open_archive(handle: str, url: str, *, timeout: float, verify: bool) -> Iterator[Download]:
    """Asks for the archive at `url` and yields what is being received.

    Args:
        handle: the handle that it belongs to, for messages.
        url: where to ask; redirects are followed.
        timeout: seconds without a byte after which it is given up.
        verify: whether TLS certificates are checked.

    Raises:
        DownloadError: if there is no answer, or one that is no success.
    """
    with http.get(handle, url, timeout=timeout, verify=verify) as response:
        if response.status_code != 200:
            raise http.refusal(handle, response)
        headers = response.headers
        yield Download(
            stream=_Body(handle, response),
            url=http.shown_url(response),
            size=_size(headers),
            media_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            checksums=_checksums(headers),
            validators={name: headers[name] for name in _VALIDATORS if name in headers},
        )


def _size(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    if "Transfer-Encoding" in headers or not length.isdecimal() or len(length) > 18:
        return None
    return int(length)


def _checksums(headers: Mapping[str, str]) -> dict[str, bytes]:
    """The checksums of a response's body, from its headers.

    `x-goog-hash` is of the bytes as Google Cloud Storage keeps them; where it decompressed them
    on the way, that is not what was received.
    See https://cloud.google.com/storage/docs/xml-api/reference-headers#xgooghash
    """
    found: dict[str, bytes] = {}
    stored = headers.get("x-goog-stored-content-encoding", "identity")
    if stored == headers.get("Content-Encoding", "identity"):
        for part in headers.get("x-goog-hash", "").split(","):
            name, _, value = part.strip().partition("=")
            _add_checksum(found, name, value)
    _add_checksum(found, "md5", headers.get("Content-MD5", ""))
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
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            # Closing alone would leave a thread that waits for bytes waiting.
            self._response.raw.shutdown()
        self._response.close()
