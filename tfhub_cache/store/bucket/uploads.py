"""Files on their way into an object store: many small ones at a time, large ones as streams.

Nothing goes through this machine's disk. A small file waits in memory until it is sent.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
from collections import deque
from typing import Any, BinaryIO, cast

from tfhub_cache.store.bucket.objects import AT_ONCE, Objects

_SMALL = 8 << 20
"""Bytes of a file that is sent in one request."""
_IN_FLIGHT = 24 << 20
"""Bytes of small files that may be on their way. While it is sent, gcsfs has a copy of each."""
_PART = 33 << 18
"""Bytes of a part of a larger file. gcsfs compares no file whose last part is empty, so this is a
size of which files are hardly ever multiples."""


class Uploads:
    """What a process is putting below one prefix."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._names: list[str] = []
        self._pending: deque[tuple[concurrent.futures.Future[Any], int]] = deque()

    def open(self, name: str, size: int) -> BinaryIO:
        """A file that is uploaded, at the latest when it is closed.

        Raises:
            CacheError: if an earlier upload failed; no other is begun then.
        """
        self._names.append(name)
        if size > _SMALL:
            return cast(BinaryIO, _Large(self._objects, name))
        while self._pending and (
            len(self._pending) >= AT_ONCE
            or size + sum(size for _, size in self._pending) > _IN_FLIGHT
        ):
            self._wait_for_oldest()
        return cast(BinaryIO, _Small(self, name))

    def send(self, name: str, content: bytes) -> None:
        """Uploads a file in the background."""
        self._pending.append((self._objects.upload(name, content), len(content)))

    def finish(self) -> None:
        """Waits for all uploads.

        Raises:
            CacheError: if one of them failed.
        """
        while self._pending:
            self._wait_for_oldest()

    def clear(self) -> None:
        """Removes what was put, after waiting for it, so that it replaces nothing that follows."""
        concurrent.futures.wait([future for future, _ in self._pending])
        self._objects.remove(self.give_up())

    def give_up(self) -> list[str]:
        """Gives up what is on its way, and returns the names of all that was put."""
        for future, _ in self._pending:
            future.cancel()
        self._pending.clear()
        names, self._names = self._names, []
        return names

    def _wait_for_oldest(self) -> None:
        future, _ = self._pending.popleft()
        with self._objects.errors_explained():
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
        self._file = objects.create(name, _PART)

    def write(self, data: bytes) -> int:
        with self._objects.errors_explained():
            return int(self._file.write(data))

    def __enter__(self) -> _Large:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with self._objects.errors_explained():
                self._file.close()
            return
        with contextlib.suppress(Exception):
            self._file.discard()  # or parts would stay, which no listing shows
            self._file.closed = True  # or it would be completed when it is collected
