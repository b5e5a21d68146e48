"""Signs of life during a download: a bar where one was asked for, otherwise a log line at times."""

from __future__ import annotations

import time
from typing import Any

from absl import logging

from tfhub_cache.source import ByteStream, Download
from tfhub_cache.urls import redact

_LOG_EVERY_SECONDS = 15.0


class Progress:
    """A download's stream that tells how far it is. A context manager and a `ByteStream`."""

    def __init__(self, handle: str, download: Download, show_bar: bool) -> None:
        self._handle = redact(handle)
        self._stream: ByteStream = download.stream
        self._received = 0
        self._next_line = time.monotonic() + _LOG_EVERY_SECONDS
        self._bar: Any = None
        if show_bar:
            from tqdm.auto import tqdm  # slow to import

            self._bar = tqdm(
                desc=self._handle, total=download.size, unit="B", unit_scale=True, unit_divisor=1024
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._received += len(data)
        if self._bar is not None:
            self._bar.update(len(data))
        elif time.monotonic() >= self._next_line:
            self._next_line += _LOG_EVERY_SECONDS
            logging.info("Downloading %s: %.2fMB", self._handle, self._received / (1 << 20))
        return data

    def close(self) -> None:
        self._stream.close()
