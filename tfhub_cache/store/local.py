"""A cache on a disk of this machine, or on one that machines share."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import BinaryIO

from absl import logging

from tfhub_cache.store import Claim, Contender, Store
from tfhub_cache.store.lock import HeldLock, LockContender, staging_folder


class LocalStore(Store):
    """Entries are folders; publishing is one rename."""

    def __init__(self, root: str) -> None:
        self._shown_root = root
        self._root = root.removeprefix("file://")

    def path(self, key: str) -> str:
        return os.path.join(self._shown_root, key)

    def flaw(self, key: str) -> str | None:
        # As in tensorflow_hub, an empty folder is no entry.
        try:
            with os.scandir(os.path.join(self._root, key)) as items:
                return None if next(items, None) else "it is empty"
        except FileNotFoundError:
            return "it is not there"
        except NotADirectoryError:
            return "it is no folder"

    def contend(self, key: str, lock_timeout: float) -> Contender:
        os.makedirs(self._root, exist_ok=True)
        return _LocalContender(os.path.abspath(os.path.join(self._root, key)), lock_timeout)


class _LocalContender(Contender):
    poll_seconds = 0.05

    def __init__(self, entry: str, lock_timeout: float) -> None:
        self._entry = entry
        self._lock = LockContender(entry, lock_timeout)

    def attempt(self) -> Claim | None:
        lock = self._lock.attempt()
        self.holder = self._lock.holder
        return None if lock is None else _LocalClaim(self._entry, lock)


class _LocalClaim(Claim):
    def __init__(self, entry: str, lock: HeldLock) -> None:
        self._entry = entry
        self._lock = lock
        self._staging = staging_folder(entry, lock.owner.uid)

    def make_folder(self, path: str) -> None:
        os.makedirs(os.path.join(self._staging, path), exist_ok=True)

    def create_file(self, path: str) -> BinaryIO:
        full_path = os.path.join(self._staging, path)
        os.makedirs(os.path.dirname(full_path), exist_ok=True)
        return open(full_path, "wb")

    def publish(self, descriptor: str) -> None:
        self._write_beside(".descriptor.txt", descriptor)
        with contextlib.suppress(OSError):
            os.rmdir(self._entry)  # an empty folder is no entry, but in the way on Windows
        try:
            os.rename(self._staging, self._entry)
        except OSError:
            if not os.path.isdir(self._entry):
                raise
            logging.warning("Module already exists in %s", self._entry)

    def release(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._lock.release()

    def _write_beside(self, suffix: str, text: str) -> None:
        """Writes a file beside the entry, which appears whole."""
        unfinished = f"{self._entry}{suffix}.{self._lock.owner.uid}.tmp"
        with open(unfinished, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(unfinished, f"{self._entry}{suffix}")
