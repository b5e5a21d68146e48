"""A cache in an object store, such as a `gs://` bucket.

An object store has no rename, so an entry appears object by object: its descriptor is written
last, and an entry without one is none.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO

from tfhub_cache import gcs
from tfhub_cache.manifest import Manifest
from tfhub_cache.store import ABSENT, Claim, Contender, Store, descriptor

if TYPE_CHECKING:
    import fsspec


class BucketStore(Store):
    """Entries are objects below a common prefix."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def flaw(self, key: str) -> str | None:
        with gcs.errors_told(self._root):
            found = gcs.file_system().exists(f"{self.path(key)}.descriptor.txt")
        return None if found else ABSENT

    def contend(self, key: str, lock_timeout: float) -> Contender:
        return _BucketContender(self.path(key))


class _BucketContender(Contender):
    poll_seconds = 1.0
    holder = ""

    def __init__(self, entry: str) -> None:
        self._entry = entry

    def attempt(self) -> Claim | None:
        return _BucketClaim(self._entry, gcs.file_system())


class _BucketClaim(Claim):
    """Fills a folder on this machine first, and uploads it when it is whole."""

    def __init__(self, entry: str, file_system: fsspec.AbstractFileSystem) -> None:
        self._entry = entry
        self._file_system = file_system
        self._staging = tempfile.mkdtemp(prefix="tfhub_cache-")

    def make_folder(self, path: str) -> None:
        pass  # an object store has no empty folders

    def create_file(self, path: str, *, replace: bool) -> BinaryIO:
        full_path = os.path.join(self._staging, path)
        os.makedirs(os.path.dirname(full_path), exist_ok=True)
        return open(full_path, "wb" if replace else "xb")

    def check_space(self, size: int) -> None:
        pass

    def clear(self) -> None:
        shutil.rmtree(self._staging)
        os.mkdir(self._staging)

    def publish(self, manifest: Manifest) -> None:
        files = [
            os.path.join(parent, name)
            for parent, _, names in os.walk(self._staging)
            for name in names
        ]
        objects = [
            posixpath.join(self._entry, os.path.relpath(file, self._staging).replace(os.sep, "/"))
            for file in files
        ]
        with gcs.errors_told(self._entry):
            self._file_system.put(files, objects)
            self._file_system.pipe_file(f"{self._entry}.manifest.json", manifest.to_json().encode())
            self._file_system.pipe_file(
                f"{self._entry}.descriptor.txt", descriptor(manifest).encode()
            )

    def release(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
