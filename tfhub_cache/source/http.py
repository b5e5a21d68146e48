"""Archives over HTTP(S)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import requests
import urllib3.exceptions

from tfhub_cache import http
from tfhub_cache.errors import DownloadError
from tfhub_cache.integrity import checksums
from tfhub_cache.source import Download
from tfhub_cache.urls import redact

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
            checksums=checksums(headers),
            validators={name: headers[name] for name in _VALIDATORS if name in headers},
        )


def _size(headers: Mapping[str, str]) -> int | None:
    length = headers.get("Content-Length", "")
    if "Transfer-Encoding" in headers or not length.isdecimal() or len(length) > 18:
        return None
    return int(length)


class _Body:
    """A response's bytes as sent, with the network's errors told in our words."""

    def __init__(self, handle: str, response: requests.Response) -> None:
        self._handle = handle
        self._response = response

    def read(self, size: int, /) -> bytes:
        try:
            # Not decoded: `Content-Encoding: gzip` on a .tar.gz labels the archive itself.
            data: bytes = self._response.raw.read(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            url = http.shown_url(self._response)
            raise DownloadError(
                f"The download of {redact(self._handle)} from {url} broke off: "
                f"{http.reason(error)}. Nothing of it was kept; try again.",
                handle=redact(self._handle),
                url=url,
                status=self._response.status_code,
            ) from None
        return data

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            # Closing alone would leave a thread that waits for bytes waiting.
            self._response.raw.shutdown()
        self._response.close()
