"""Files on their way into an object store, several at a time, through little of the disk."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

from tfhub_cache.errors import CacheError
from tfhub_cache.store.bucket.objects import Objects

UPLOADS = 8
"""How many files are uploaded at once."""
UPLOADING_BYTES = 64 << 20
"""How many bytes may wait for their upload, unless a single file is larger."""
_IN_MEMORY = 1 << 20


class Uploads:
    """Uploads each file when it is closed, while others are still being written."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._executor = concurrent.futures.ThreadPoolExecutor(UPLOADS)
        self._pending: dict[concurrent.futures.Future[None], int] = {}
        self._begun: list[str] = []

    def open(self, name: str, size: int) -> BinaryIO:
        """A file that is uploaded when it is closed. Waits for room on this machine's disk.

        Raises:
            CacheError: if an earlier upload failed; no other is begun then.
        """
        while self._pending and sum(self._pending.values()) + size > UPLOADING_BYTES:
            done, _ = concurrent.futures.wait(
                self._pending, return_when=concurrent.futures.FIRST_COMPLETED
            )
            self._collect(done)
        return cast(BinaryIO, _Upload(self, name, size))

    def finish(self) -> None:
        """Waits for all uploads.

        Raises:
            CacheError: if one of them failed; those not yet begun are not begun.
        """
        while self._pending:
            done, _ = concurrent.futures.wait(
                self._pending, return_when=concurrent.futures.FIRST_COMPLETED
            )
            self._collect(done)

    def discard(self) -> None:
        """Gives up what is on its way, and removes what was put."""
        self._cancel()
        concurrent.futures.wait(self._pending)
        self._pending.clear()
        self._objects.remove(*self._begun)
        self._begun.clear()

    def close(self) -> None:
        """Ends the threads, once all is finished or discarded."""
        self._executor.shutdown(cancel_futures=True)

    def submit(self, name: str, size: int, put: Callable[[], None]) -> None:
        """Uploads a file in one of the threads."""
        self._collect({future for future in self._pending if future.done()})
        self._begun.append(name)
        self._pending[self._executor.submit(put)] = size

    def _collect(self, done: set[concurrent.futures.Future[None]]) -> None:
        for future in done:
            del self._pending[future]
            try:
                with self._objects.errors_told():
                    future.result()
            except CacheError:
                self._cancel()
                raise

    def _cancel(self) -> None:
        for future in self._pending:
            future.cancel()


class _Upload:
    """One file on its way: in memory if it is small, otherwise in the temporary folder."""

    def __init__(self, uploads: Uploads, name: str, size: int) -> None:
        self._uploads = uploads
        self._name = name
        self._size = size
        self._path: str | None = None
        self._file: BinaryIO = io.BytesIO()
        if size > _IN_MEMORY:
            descriptor, self._path = tempfile.mkstemp(prefix="tfhub_cache-")
            self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                self._uploads.submit(self._name, self._size, self._put)
                return
        except BaseException:
            self._discard()
            raise
        self._discard()

    def __del__(self) -> None:
        self._discard()  # an upload that was cancelled

    def _put(self) -> None:
        objects = self._uploads._objects
        try:
            if self._path is None:
                objects.write(self._name, cast(io.BytesIO, self._file).getvalue())
            else:
                objects.upload(self._name, self._path)
        finally:
            self._discard()

    def _discard(self) -> None:
        self._file.close()
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
