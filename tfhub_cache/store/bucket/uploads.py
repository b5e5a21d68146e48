"""Files on their way into an object store: many small ones at a time, large ones as streams.

Nothing goes through this machine's disk. A small file waits in memory until it is sent.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
from collections import deque
from typing import Any, BinaryIO, cast

import google_crc32c

from tfhub_cache.store.bucket.objects import AT_ONCE, Objects, errors_explained

BLOCK = 8 << 20
"""A larger file is sent in parts of so many bytes."""
_IN_FLIGHT = 24 << 20
"""Bytes of small files that may be on their way. While it is sent, gcsfs has a copy of each."""


class Uploads:
    """What a process is putting below one prefix.

    Attributes:
        names: the objects that were begun.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.names: list[str] = []
        self._pending: deque[tuple[concurrent.futures.Future[Any], int]] = deque()
        self._bytes = 0

    def open(self, name: str, size: int) -> BinaryIO:
        """A file that is uploaded, at the latest when it is closed.

        Raises:
            Exception: if an earlier upload failed; no other is begun then.
        """
        self.names.append(name)
        if size > BLOCK:
            return cast(BinaryIO, _Large(self.objects, name))
        while self._pending and (len(self._pending) >= AT_ONCE or self._bytes + size > _IN_FLIGHT):
            self._wait_for_oldest()
        return cast(BinaryIO, _Small(self, name))

    def send(self, name: str, content: bytes) -> None:
        """Uploads a file in the background."""
        self._bytes += len(content)
        self._pending.append((self.objects.upload(name, content), len(content)))

    def finish(self) -> None:
        """Waits for all uploads.

        Raises:
            Exception: if one of them failed.
        """
        while self._pending:
            self._wait_for_oldest()

    def clear(self) -> None:
        """Removes what was put, after waiting for it, so that it replaces nothing that follows."""
        while self._pending:
            with contextlib.suppress(Exception):
                self._wait_for_oldest()
        self.discard()

    def discard(self) -> None:
        """Gives up what is on its way, and removes what was put."""
        for future, _ in self._pending:
            future.cancel()
        self._pending.clear()
        self._bytes = 0
        names, self.names = self.names, []
        self.objects.remove(names)

    def _wait_for_oldest(self) -> None:
        future, size = self._pending.popleft()
        self._bytes -= size
        future.result()


class _Small(io.BytesIO):
    """A file that is sent in one request."""

    def __init__(self, uploads: Uploads, name: str) -> None:
        super().__init__()
        self._uploads = uploads
        self._name = name

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._uploads.send(self._name, self.getvalue())
        self.close()


class _Large:
    """A file that is sent while it is written."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name
        self._crc32c = 0
        self._file = objects.files.open(objects.full(name), "wb", block_size=BLOCK)

    def write(self, data: bytes) -> int:
        self._crc32c = google_crc32c.extend(self._crc32c, data)
        with errors_explained(self._objects.root):
            return int(self._file.write(data))

    def __enter__(self) -> _Large:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with errors_explained(self._objects.root):
                self._file.close()
                self._objects.check_upload(self._name, self._crc32c)
            return
        with contextlib.suppress(Exception):
            self._file.discard()  # or parts would stay, which no listing shows
            self._file.closed = True  # or it would be completed when it is collected
