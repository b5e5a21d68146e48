"""A claim in an object store: an entry is filled object by object, and its manifest comes last."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import BinaryIO

from tfhub_cache.errors import CacheError
from tfhub_cache.manifest import Manifest
from tfhub_cache.store.bucket.lock import LockObject
from tfhub_cache.store.bucket.objects import Objects
from tfhub_cache.store.bucket.uploads import UPLOADS, Uploads
from tfhub_cache.store.contract import Claim, descriptor
from tfhub_cache.transfer.spool import Identity
from tfhub_cache.urls import redact


class BucketClaim(Claim):
    """Uploads files while the archive is still being received."""

    _lock: LockObject
    _is_ours = False

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects = objects
        self._key = key

    def begin(
        self, folder: str, lock: LockObject, lock_timeout: float, on_release: Callable[[], None]
    ) -> None:
        """Makes a claim of a lock, and gives signs of life from now on.

        Args:
            folder: where the files are put until the entry is published; the key itself, unless
                what is whole has to stay in its place until then.
            lock: what makes it ours.
            lock_timeout: seconds without a sign of life after which others take it for given up.
            on_release: called when nothing is changed any more, before the lock goes.
        """
        self._on_release = on_release
        self._folder = folder
        self._lock = lock
        self._uploads = Uploads(self._objects)
        self._begun = False
        self._released = threading.Event()
        self._heartbeat = threading.Thread(
            target=self._beat, args=(min(5.0, lock_timeout / 4),), daemon=True
        )
        self._is_ours = True
        self._heartbeat.start()

    def leftover(self) -> None:
        return None  # an object can't be added to, and this machine's disk may be small

    def spool(self, identity: Identity) -> None:
        return None

    def make_folder(self, path: str) -> None:
        pass  # an object store has no empty folders

    def create_file(self, path: str, size: int, *, replace: bool) -> BinaryIO:
        with self._objects.errors_told():
            if not self._begun:
                self._check_not_lost()
                if self._folder == self._key:
                    self._take_entry_away()
                self._begun = True
            if replace:
                self._uploads.finish()  # two uploads of one name have no order
            return self._uploads.open(f"{self._folder}/{path}", size)

    def clear(self) -> None:
        with self._objects.errors_told():
            self._check_not_lost()
            self._uploads.discard()

    def is_lost(self) -> bool:
        with self._objects.errors_told():
            return self._lock.is_lost()

    def publish(self, manifest: Manifest) -> None:
        with self._objects.errors_told():
            self._uploads.finish()
            self._check_not_lost()
            if self._folder != self._key:
                self._move_into_place(manifest)
            files = {f"{self._key}/{file.path}" for file in manifest.files}
            there = self._objects.sizes(f"{self._key}/")
            self._objects.remove(*(name for name in there if name not in files))
            self._objects.write(f"{self._key}.descriptor.txt", descriptor(manifest).encode())
            # From here on others may use it, also if no answer comes: nothing is taken back.
            self._begun = False
            # If there is one by now, somebody else took over and has put the same files.
            self._objects.create(f"{self._key}.manifest.json", manifest.to_json().encode())
            with contextlib.suppress(Exception):  # beside a manifest it means nothing
                self._objects.remove(f"{self._key}.unfinished")

    def release(self) -> None:
        if not self._is_ours:
            return
        self._is_ours = False
        with contextlib.ExitStack() as last_to_first:  # to the end, whatever interrupts one step
            last_to_first.callback(self._release_lock)
            last_to_first.callback(self._on_release)
            last_to_first.callback(self._uploads.close)
            last_to_first.callback(self._discard)
            self._released.set()
            if self._heartbeat.is_alive():
                self._heartbeat.join()

    def _release_lock(self) -> None:
        with contextlib.suppress(Exception):
            self._lock.release()

    def _discard(self) -> None:
        """As far as it goes: what is left is marked as unfinished, and the next one replaces it."""
        with contextlib.suppress(Exception):
            is_apart = self._folder != self._key  # nobody else puts anything there
            if self._begun and (is_apart or not self._lock.is_lost()):
                self._uploads.discard()
                # What others have left there must not look like an entry of tensorflow_hub's.
                if not is_apart and not self._objects.sizes(f"{self._key}/"):
                    self._objects.remove(f"{self._key}.unfinished")

    def _take_entry_away(self) -> None:
        """From here on what is there is neither the old model nor the new one."""
        mark_unfinished(self._objects, self._key)
        self._objects.remove(f"{self._key}.manifest.json")

    def _move_into_place(self, manifest: Manifest) -> None:
        self._take_entry_away()
        names = [file.path for file in manifest.files]
        with concurrent.futures.ThreadPoolExecutor(UPLOADS) as executor:
            copies = [
                executor.submit(self._objects.copy, f"{self._folder}/{name}", f"{self._key}/{name}")
                for name in names
            ]
            for copy in copies:
                copy.result()
        self._objects.remove(*(f"{self._folder}/{name}" for name in names))

    def _check_not_lost(self) -> None:
        # Whoever took over may have put its files, and they must not be touched any more.
        if self._lock.is_lost():
            raise CacheError(f"Somebody took over the download into {redact(self._objects.root)}.")

    def _beat(self, seconds: float) -> None:
        while not self._released.wait(seconds):
            with contextlib.suppress(Exception):  # tried again at the next beat
                self._lock.beat()


def mark_unfinished(objects: Objects, key: str) -> None:
    """Says that what there is of an entry, or will be, is not whole."""
    objects.write(f"{key}.unfinished", b"being filled\n")
