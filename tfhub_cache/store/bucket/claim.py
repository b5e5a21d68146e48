"""Making an entry in an object store: files in a folder of their own, then the manifest.

The lock object is a courtesy that saves downloads. No model depends on it: a process that wrongly
takes it over, or gives up waiting for it, downloads the model once more, and that is all.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from typing import BinaryIO

from tfhub_cache import settings
from tfhub_cache.manifest import Manifest
from tfhub_cache.store.bucket.look import Look, Looks, filled_by, held, look_at, with_folder
from tfhub_cache.store.bucket.objects import Listed, open_objects
from tfhub_cache.store.bucket.uploads import Uploads
from tfhub_cache.store.contract import Claim
from tfhub_cache.store.flaw import ABSENT
from tfhub_cache.store.owner import Owner
from tfhub_cache.transfer.spool import Identity

_PATIENCE = 3600.0
"""Seconds after which a process no longer waits for others."""
_FRESH = 0.1
"""Seconds: who began to look longer ago may have missed a whole download of another process."""
_HEARTBEAT = 5.0


class BucketClaim(Claim):
    """A lock object, and the folder of one attempt."""

    poll_seconds = 1.0

    def __init__(self, looks: Looks, key: str, lock_timeout: float, replace: bool) -> None:
        self._looks = looks
        self._key = key
        self._lock_timeout = lock_timeout
        self._replace = replace
        self._owner = Owner.new()
        self._folder = f"{key}.{self._owner.uid}"
        self._objects = open_objects(looks.root)
        self._uploads = Uploads(self._objects)
        self._waiting_since = time.monotonic()
        self._is_published = False
        self._released = threading.Event()
        # No daemon, unless the caller is one: a program that ends waits for what it removes.
        self._thread = threading.Thread(target=self._hold, name=f"tfhub_cache {self._folder}")

    def attempt(self) -> Claim | None:
        self._look = look = self._looks.now(self._key, _FRESH)
        self.holder = look.lock or ""
        holder = look.holder(self._lock_timeout)
        if holder and time.monotonic() - self._waiting_since <= _PATIENCE:
            return None
        # By the time of the listing: what is filled, or read, while this downloads stays.
        self._garbage = [] if holder else look.garbage(settings.BUCKET_GRACE.value())
        if look.flaw == ABSENT:
            # Under our lock, what tensorflow_hub has half moved would look like a model.
            self._objects.remove(f"{look.folder}/{path}" for path in look.files)
        held.add(self._owner.uid)
        is_taken = False
        try:
            is_taken = self._take_lock(look.listed.get(f"{self._key}.lock"))
        finally:
            if not is_taken:
                held.discard(self._owner.uid)
                self._looks.remember(self._key)
        return self if is_taken else None

    def progress(self) -> tuple[int, int | None]:
        listed = self._looks.now(self._key).listed.items()
        begin = filled_by(self._key, self.holder)
        return sum(at.size for name, at in listed if name.startswith(begin)), None

    def spool(self, identity: Identity) -> None:
        return None  # an object can't be added to, and this machine's disk may be small

    def make_folder(self, path: str) -> None:
        pass  # an object store has no empty folders

    def create_file(self, path: str, size: int, *, replace: bool) -> BinaryIO:
        if replace:
            self._uploads.finish()  # two uploads of one name have no order
        return self._uploads.open(f"{self._folder}/{path}", size)

    def clear(self) -> None:
        self._uploads.clear()

    def is_lost(self) -> bool:
        return False  # nothing depends on the lock

    def publish(self, manifest: Manifest) -> None:
        self._uploads.finish()
        put = {f"{self._folder}/{file.path}": file.size for file in manifest.files}
        may_be_gone = time.time() - self._begun >= settings.BUCKET_GRACE.value()  # as garbage
        if may_be_gone and put.keys() - self._objects.list(f"{self._folder}/").keys():
            raise OSError(errno.ESTALE, "What was uploaded has been removed as garbage")
        name, content = f"{self._key}.manifest.json", with_folder(manifest, self._folder)
        self._commit(name, content)
        look = None
        if self._is_published:
            now = time.time()
            listed = {
                name: Listed(size, now, "") for name, size in [*put.items(), (name, len(content))]
            }
            look = Look(self._objects, self._key, listed, {name: content})
        self._looks.remember(self._key, look)

    def release(self) -> None:
        if self._thread.is_alive():
            self._released.set()
            if not self._is_published:  # otherwise its lock is void already
                self._thread.join()

    def _take_lock(self, there: Listed | None) -> bool:
        """Writes the lock in the place of one that is void; False if another process was faster."""
        try:
            self._write_lock(Listed.expected(there))
        except FileExistsError:
            # Or only the answer was lost.
            if look_at(self._objects, self._key).lock != str(self._owner):
                return False
        except Exception:
            if there is None:
                raise
            # What can't be replaced, under a retention policy, is done without.
        # It is known without a further look.
        self._look.lock = str(self._owner)
        self._look.listed[f"{self._key}.lock"] = Listed(0, float("inf"), "")
        self._begun = time.time()
        try:
            self._thread.start()
        except RuntimeError as error:
            self._remove([f"{self._key}.lock"])
            raise OSError(errno.EAGAIN, f"No heartbeat: {error}") from None
        return True

    def _write_lock(self, version: str | None = None) -> None:
        self._objects.write(f"{self._key}.lock", str(self._owner).encode(), version)

    def _commit(self, name: str, content: bytes) -> None:
        """Makes the manifest, unless another process was faster and has an intact model there."""
        # From here on others may use it, also if no answer comes: nothing is taken back.
        self._is_published = True
        try:
            self._objects.write(name, content, Listed.expected(self._look.listed.get(name)))
        except FileExistsError:
            look = look_at(self._objects, self._key)
            if self._replace or look.flaw is not None:
                self._objects.write(name, content)  # both are whole: the last one counts
            else:  # it is another's, or only the answer was lost
                self._is_published = look.folder == self._folder

    def _hold(self) -> None:
        """Gives signs of life until the release, then removes what is no longer needed."""
        while not self._released.wait(min(_HEARTBEAT, self._lock_timeout / 4)):
            with contextlib.suppress(Exception):  # tried again at the next beat
                self._write_lock()
        put = [] if self._is_published else self._uploads.give_up()
        self._remove([*put, *self._garbage, f"{self._key}.lock"])
        held.discard(self._owner.uid)

    def _remove(self, names: list[str]) -> None:
        """Removes what would only take room."""
        try:
            self._objects.remove(names)
        except Exception as error:
            self._looks.complain(error)
