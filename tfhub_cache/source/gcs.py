"""Archives in Google Cloud Storage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from fsspec.spec import AbstractBufferedFile

from tfhub_cache.clients import gcs
from tfhub_cache.retrying import Pause
from tfhub_cache.source.contract import WHOLE, Download, Part, Source

_BLOCK = 4 << 20


class GcsArchive(Source):
    """An object that a `gs://bucket/path/model.tar.gz` handle names."""

    def __init__(self, handle: str, access: tuple[str | None, float, str | None]) -> None:
        """Names an object, and how it is reached: what `gcs.file_system` takes."""
        self._handle = handle
        self._access = access
        self.shown = handle

    @contextlib.contextmanager
    def open(self, part: Part, pause: Pause) -> Iterator[Download]:
        # `pause` is not used, as gcsfs repeats requests by itself.
        with gcs.errors_explained(self._handle):
            file_system = gcs.file_system(*self._access)
            info = file_system.info(self._handle)
            if info["type"] == "directory":
                raise FileNotFoundError(self._handle)
        size = int(info["size"])
        current = str(info.get("generation") or "") or None
        if part.first and current != part.version:
            part = WHOLE
        end = size if part.stop is None else part.stop
        with _Object(file_system, self._handle, block_size=_BLOCK, size=end) as stream:
            stream.seek(part.first)
            yield Download(
                stream=stream,
                url=self._handle,
                size=size,
                checksums=_checksums(info),
                validators={} if current is None else {"generation": current},
                first=part.first,
                version=current,
                divisible=True,
            )


def _checksums(info: Mapping[str, Any]) -> dict[str, str]:
    """See https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations."""
    names = {"md5": "md5Hash", "crc32c": "crc32c"}
    return {name: info[key] for name, key in names.items() if info.get(key)}


class _Object(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """An object's bytes, read ahead a block at a time, with gcsfs's errors turned into ours."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        with gcs.errors_explained(f"gs://{self.path}"):
            return bytes(self.fs.cat_file(self.path, start=start, end=end))
