"""Making an entry in an object store: files in a folder of their own, then the manifest.

The lock object is a courtesy that saves downloads. No model depends on it: a process that wrongly
takes it over, or gives up waiting for it, downloads the model once more, and that is all.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from tfhub_cache import settings
from tfhub_cache.manifest import Manifest
from tfhub_cache.store.bucket.look import Look, held, look_at, patience, with_folder
from tfhub_cache.store.bucket.looks import Looks
from tfhub_cache.store.bucket.objects import Listed, errors_explained, open_objects
from tfhub_cache.store.bucket.uploads import Uploads
from tfhub_cache.store.contract import Claim
from tfhub_cache.store.flaw import ABSENT
from tfhub_cache.store.owner import Owner
from tfhub_cache.transfer.spool import Identity

_PATIENCE = 3600.0
"""Seconds after which a process no longer waits for others."""
_COMMITS = 5
_HEARTBEAT = 5.0


class BucketClaim(Claim):
    """A lock object, and the folder of one attempt."""

    poll_seconds = 1.0
    holder = ""

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
        self._seen: tuple[Listed | None, float] = None, 0.0
        self._is_published = False
        self._released = threading.Event()
        self._heartbeat = threading.Thread(target=self._beat, daemon=True)

    def attempt(self) -> Claim | None:
        self._look = look = self._looks.now(self._key)
        there = look.listed.get(f"{self._key}.lock")
        with errors_explained(self._objects.root):
            if there is not None and not self._is_void(look, there):
                return None
            # By the time of the listing: what is filled, or read, while this downloads stays.
            holder = look.holder(self._lock_timeout)
            self._garbage = look.garbage(settings.BUCKET_GRACE.value(), holder)
            try:
                if look.flaw == ABSENT:
                    # Under our lock, what tensorflow_hub has half moved would look like a model.
                    self._objects.remove(f"{look.folder}/{path}" for path in look.files)
                return self if self._take_lock(there) else None
            except BaseException:
                held.discard(self._owner.uid)
                raise
            finally:
                self._looks.remember(self._key)  # another may have finished before we had the lock

    def progress(self) -> tuple[int, int | None]:
        listed = self._looks.now(self._key).listed.items()
        begin = f"{self._key}.{self.holder.rpartition('.')[2]}"
        return sum(at.size for name, at in listed if name.startswith(begin)), None

    def spool(self, identity: Identity) -> None:
        return None  # an object can't be added to, and this machine's disk may be small

    def make_folder(self, path: str) -> None:
        pass  # an object store has no empty folders

    def create_file(self, path: str, size: int, *, replace: bool) -> BinaryIO:
        with errors_explained(self._objects.root):
            if replace:
                self._uploads.finish()  # two uploads of one name have no order
            return self._uploads.open(f"{self._folder}/{path}", size)

    def clear(self) -> None:
        with errors_explained(self._objects.root):
            self._uploads.clear()

    def is_lost(self) -> bool:
        return False  # nothing depends on the lock

    def publish(self, manifest: Manifest) -> None:
        grace, key = settings.BUCKET_GRACE.value(), self._key
        with errors_explained(self._objects.root):
            self._uploads.finish()
            if time.time() - self._begun >= grace:
                # Asleep for that long, it may have been taken for garbage.
                there = self._objects.list(f"{self._folder}/")
                if any(f"{self._folder}/{file.path}" not in there for file in manifest.files):
                    raise OSError(errno.ESTALE, "What was uploaded has been removed as garbage")
            content = with_folder(manifest, self._folder)
            self._commit(content)
        if not self._is_published:
            self._looks.remember(key)
            return
        now, name = time.time(), f"{key}.manifest.json"
        put = {f"{self._folder}/{file.path}": Listed(file.size, now, "") for file in manifest.files}
        look = Look(self._objects, key, {**put, name: Listed(len(content), now, "")})
        look.contents[name] = content
        self._looks.remember(key, look)
        self._quietly(self._objects.remove, self._garbage)

    def release(self) -> None:
        if self._owner.uid not in held:
            return
        with contextlib.ExitStack() as last_to_first:  # to the end, whatever interrupts one step
            last_to_first.callback(self._quietly, self._objects.remove, [f"{self._key}.lock"])
            last_to_first.callback(held.discard, self._owner.uid)
            if not self._is_published:
                last_to_first.callback(self._quietly, self._uploads.discard)
            self._released.set()
            self._heartbeat.join()

    def _is_void(self, look: Look, there: Listed) -> bool:
        """Whether a lock is not waited for, or not any more."""
        now = time.monotonic()
        if there != self._seen[0]:
            self._seen = there, now
            self.holder = look.lock or ""
        look.contents[f"{self._key}.lock"] = self.holder.encode()  # it needs no further request
        return (
            not look.holder(self._lock_timeout)
            or now - self._seen[1] > patience(self.holder, self._lock_timeout)
            or now - self._waiting_since > _PATIENCE
        )

    def _take_lock(self, there: Listed | None) -> bool:
        """Writes the lock in the place of one that is void; False if another process was faster."""
        name, ours = f"{self._key}.lock", str(self._owner).encode()
        held.add(self._owner.uid)
        try:
            self._objects.write(name, ours, Listed.expected(there))
        except FileExistsError:
            if self._objects.read_many([name]).get(name) != ours:  # or only the answer was lost
                held.discard(self._owner.uid)
                return False
        except Exception:
            if there is None:
                raise
            # What can't be replaced, under a retention policy, is done without.
        self._begun = time.time()
        self._heartbeat.start()
        return True

    def _commit(self, content: bytes) -> None:
        """Makes the manifest, unless another process was faster and has an intact model there."""
        name, look = f"{self._key}.manifest.json", self._look
        for _ in range(_COMMITS):
            # From here on others may use it, also if no answer comes: nothing is taken back.
            self._is_published = True
            try:
                self._objects.write(name, content, Listed.expected(look.listed.get(name)))
                return
            except FileExistsError:
                look = look_at(self._objects, self._key)
            if look.folder == self._folder:
                return  # only the answer was lost
            self._is_published = False
            if not self._replace and look.flaw is None:
                return
        raise OSError(errno.ESTALE, "Other processes replace the model again and again")

    def _beat(self) -> None:
        name, ours = f"{self._key}.lock", str(self._owner).encode()
        while not self._released.wait(min(_HEARTBEAT, self._lock_timeout / 4)):
            with contextlib.suppress(Exception):  # tried again at the next beat
                self._objects.write(name, ours)

    def _quietly(self, remove: Callable[..., object], *args: object) -> None:
        """Removes what would only take room."""
        try:
            remove(*args)
        except Exception as error:
            self._looks.complain(error)
