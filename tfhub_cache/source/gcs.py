"""Archives in Google Cloud Storage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tfhub_cache import gcs
from tfhub_cache.source import Download


@contextlib.contextmanager
def open_archive(handle: str) -> Iterator[Download]:
    """Opens the object that a `gs://` handle names and yields what is being received.

    Args:
        handle: `gs://bucket/path/model.tar.gz`.

    Raises:
        DownloadError: if there is no such object, or it can't be read.
    """
    with gcs.errors_told(handle):
        file = gcs.file_system().open(handle, "rb", cache_type="readahead", block_size=8 << 20)
    try:
        yield Download(stream=_Object(handle, file), url=handle, size=file.size)
    finally:
        file.close()


class _Object:
    """An object's bytes, with gcsfs's errors told in our words."""

    def __init__(self, handle: str, file: Any) -> None:
        self._handle = handle
        self._file = file

    def read(self, size: int, /) -> bytes:
        with gcs.errors_told(self._handle):
            data: bytes = self._file.read(size)
        return data

    def close(self) -> None:
        self._file.close()
