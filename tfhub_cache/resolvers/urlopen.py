"""Archives that are downloaded with a program's own function, in place of ours.

Programs written for tensorflow_hub replace `HttpResolverBase._call_urlopen`, to switch off the
checks of certificates or to add headers.
"""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import Pause
from tfhub_cache.source.contract import Download, Part, Source
from tfhub_cache.urls import redact


class OpenedArchive(Source):
    """An archive at a URL, over one connection from its first byte to its last."""

    def __init__(self, handle: str, url: str, urlopen: Callable[[Any], Any]) -> None:
        """An archive.

        Args:
            handle: the handle that it belongs to, for messages.
            url: where it is.
            urlopen: takes a `urllib.request.Request` and returns a response.
        """
        self._handle = handle
        self._url = url
        self._urlopen = urlopen
        self.shown = redact(url)

    @contextlib.contextmanager
    def open(self, part: Part, pause: Pause) -> Iterator[Download]:
        try:
            request = urllib.request.Request(self._url)  # noqa: S310
            response = self._urlopen(request)
        except OSError as error:
            raise DownloadError(
                f"Downloading {redact(self._handle)} failed",
                cause=f"the program's own _call_urlopen raised {error}",
                url=self.shown,
            ) from error
        with contextlib.closing(response):
            headers = getattr(response, "headers", {})  # a file has none
            size = headers.get("Content-Length") or ""
            yield Download(
                stream=response,
                url=self.shown,
                size=int(size) if size.isascii() and size.isdigit() else None,
            )
