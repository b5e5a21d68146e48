"""Archives in Google Cloud Storage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfhub_cache.clients import gcs
from tfhub_cache.source.contract import Download, Source

if TYPE_CHECKING:
    import fsspec

_BLOCK = 4 << 20


class GcsArchive(Source):
    """An object that a `gs://bucket/path/model.tar.gz` handle names."""

    def __init__(self, handle: str, access: tuple[str | None, float, str | None]) -> None:
        """Names an object, and how it is reached: what `gcs.file_system` takes."""
        self._handle = handle
        self._access = access
        self.shown = handle

    @contextlib.contextmanager
    def open(
        self,
        first: int = 0,
        stop: int | None = None,
        version: str | None = None,
        *,
        pause: Callable[[float], object] | None = None,
    ) -> Iterator[Download]:
        # `pause` is not used, as gcsfs repeats requests by itself.
        with gcs.errors_explained(self._handle):
            file_system = gcs.file_system(*self._access)
            info = file_system.info(self._handle)
            if info["type"] == "directory":
                raise FileNotFoundError(self._handle)
        size = int(info["size"])
        current = str(info.get("generation") or "") or None
        if first and current != version:
            first, stop = 0, None
        stream = _Object(file_system, self._handle, first, size if stop is None else stop)
        try:
            yield Download(
                stream=stream,
                url=self._handle,
                size=size,
                checksums=_checksums(info),
                validators={} if current is None else {"generation": current},
                first=first,
                version=current,
                divisible=True,
            )
        finally:
            stream.close()


def _checksums(info: Mapping[str, Any]) -> dict[str, str]:
    """See https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations."""
    names = {"md5": "md5Hash", "crc32c": "crc32c"}
    return {name: info[key] for name, key in names.items() if info.get(key)}


class _Object:
    """An object's bytes, a block at a time, with gcsfs's errors turned into ours."""

    def __init__(
        self, file_system: fsspec.AbstractFileSystem, handle: str, first: int, stop: int
    ) -> None:
        self._file_system = file_system
        self._handle = handle
        self._position = first
        self._stop = stop
        self._block = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        if not self._block:
            end = min(self._position + _BLOCK, self._stop)
            if self._position >= end:
                return b""
            with gcs.errors_explained(self._handle):
                block = self._file_system.cat_file(self._handle, start=self._position, end=end)
            self._position += len(block)
            self._block = memoryview(block)
        data, self._block = self._block[:size], self._block[size:]
        return bytes(data)

    def close(self) -> None:
        self._stop = 0
