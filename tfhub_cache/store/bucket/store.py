"""A cache in an object store: a `gs://` bucket, or whatever else fsspec has a file system for.

An object store has no rename, so an entry appears object by object. What tells that it is whole
is its manifest, which is written last, and only if there is none (`ifGenerationMatch=0`). What
tells that somebody is at work is a lock object made in the same way, and rewritten every few
seconds as a sign of life. Besides the layout of a disk there is, while an entry is being filled,

    <key>.unfinished      without a manifest, what is there is not an entry of tensorflow_hub's

and after an hour, as there are no folders that would carry the time of the last use,

    <key>.used            written when the entry is used, at most once an hour
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from typing import BinaryIO

from tfhub_cache.errors import CacheError
from tfhub_cache.manifest import Manifest
from tfhub_cache.store.bucket import inventory
from tfhub_cache.store.bucket.claim import BucketClaim, mark_unfinished
from tfhub_cache.store.bucket.lock import is_nobodys, take
from tfhub_cache.store.bucket.objects import Listed, Objects, Version
from tfhub_cache.store.contract import Claim, Store
from tfhub_cache.store.entry import RECORD_SECONDS, Condition, Entry, InUse, is_versioned
from tfhub_cache.store.flaw import Flaw
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner, Silence

SEEN_SECONDS = 60.0
"""For how long a whole entry of a versioned handle is not looked at again in a process."""
_USED = b"used\n"


class BucketStore(Store):
    """Entries are objects below a common prefix."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._seen: dict[str, float] = {}
        self._manifests: dict[str, Manifest] = {}
        self._used: dict[str, tuple[float | None, Listed | None]] = {}
        self._claimants: set[tuple[str, int]] = set()  # threads of this process, by their keys
        self._claims = 0  # how many there have been

    def path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def flaw(self, key: str) -> Flaw | None:
        if time.monotonic() - self._seen.get(key, float("-inf")) < SEEN_SECONDS:
            return None
        objects = Objects(self._root)
        claims = self._claims
        with objects.errors_told():
            listed = objects.listed(key)
            self._remember_use(key, listed)
            sizes = {name: found.size for name, found in listed.items()}
            if (key, threading.get_ident()) in self._claimants:
                sizes.pop(f"{key}.lock", None)  # our own says nothing of who was there before
            manifest, flaw = inventory.judge(key, sizes, objects.read)
        if manifest is None:
            self._forget(key)
            return flaw
        self._manifests[key] = manifest
        if flaw is None and is_versioned(manifest.handle):
            self._seen[key] = time.monotonic()
            # What is about to be replaced must not be taken for what there will be.
            if claims != self._claims or any(key == other for other, _ in [*self._claimants]):
                self._seen.pop(key, None)
        return flaw

    def manifest(self, key: str) -> Manifest | None:
        return self._manifests.get(key)

    def record_use(self, key: str) -> float:
        used, carrier = self._used.get(key, (None, None))
        age = time.time() - used if used is not None else 0.0
        if age < RECORD_SECONDS:
            return RECORD_SECONDS - max(0.0, age)
        with contextlib.suppress(Exception):  # who may only read the bucket records nothing
            objects = Objects(self._root)
            # On a condition, since of many machines that start at once one is enough.
            if carrier is None:
                objects.create(f"{key}.used", _USED)
            else:
                objects.rewrite(f"{key}.used", _USED, carrier.generation, _USED)
        return RECORD_SECONDS

    def contend(
        self, key: str, lock_timeout: float, keep_free: int, *, replace: bool = False
    ) -> Claim:
        self._seen.pop(key, None)
        return _BucketContender(self, Objects(self._root), key, lock_timeout, replace)

    def entries(self, lock_timeout: float, key: str = "") -> list[Entry]:
        return inventory.entries(Objects(self._root), lock_timeout, key)

    def files(self, key: str) -> dict[str, object]:
        objects = Objects(self._root)
        with objects.errors_told():
            return {
                name.removeprefix(f"{key}/"): found
                for name, found in objects.listed(f"{key}/").items()
            }

    def open_file(self, key: str, path: str) -> BinaryIO:
        objects = Objects(self._root)
        try:
            with objects.errors_told():
                return objects.open(f"{key}/{path}")
        except CacheError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise error.__cause__ from None
            raise

    def tidy(self, key: str, lock_timeout: float, condition: Condition) -> bool:
        self._seen.pop(key, None)
        contender = self.contend(key, lock_timeout, 0)
        claim = contender.attempt()
        if claim is None:
            raise InUse(contender.holder)
        with claim:
            return inventory.tidy(Objects(self._root), key, condition)

    def free_space(self) -> int | None:
        return None

    def note_claim(self, claimant: tuple[str, int]) -> None:
        """Notes that a thread may change an entry: what was seen of it is no more."""
        self._claimants.add(claimant)
        self._claims += 1
        self._forget(claimant[0])

    def note_release(self, claimant: tuple[str, int]) -> None:
        """Notes that a thread changes an entry no more."""
        self._forget(claimant[0])
        self._claimants.discard(claimant)

    def _forget(self, key: str) -> None:
        self._seen.pop(key, None)
        self._manifests.pop(key, None)

    def _remember_use(self, key: str, listed: dict[str, Listed]) -> None:
        """Keeps what a listing tells of the last use, and the object that carries it."""
        self._used[key] = (inventory.last_use(key, listed), listed.get(f"{key}.used"))


class _BucketContender(BucketClaim):
    poll_seconds = 1.0

    def __init__(
        self, store: BucketStore, objects: Objects, key: str, lock_timeout: float, replace: bool
    ) -> None:
        super().__init__(objects, key)
        self._store = store
        self._replace = replace
        self._name = f"{key}.lock"
        self._lock_timeout = lock_timeout
        self._silence = Silence()
        self._had_it = False

    def attempt(self) -> Claim | None:
        with self._objects.errors_told():
            look_first = bool(self.holder)
            lock = take(self._objects, self._name, self._is_dead, look_first=look_first)
            if lock is None:
                return None
            # What is whole stays in its place until the other is complete.
            folder = f"{self._key}.{lock.uid}.tmp" if self._replace else self._key
            claimant = self._key, threading.get_ident()
            on_release = functools.partial(self._store.note_release, claimant)
            try:
                self._store.note_claim(claimant)
                self.begin(folder, lock, self._lock_timeout, on_release)
                if lock.dead is not None:
                    self._clear_away(lock.dead)
            except BaseException:
                with contextlib.suppress(Exception):
                    lock.give_back()
                self.release()
                raise
            self._had_it = True
            return self

    def progress(self) -> tuple[int, int | None]:
        with self._objects.errors_told():
            return sum(self._objects.sizes(f"{self._key}/").values()), None

    def _is_dead(self, lock: Version) -> bool:
        self.holder = lock.content.decode("utf-8", "replace")
        holder = Owner.parse(self.holder)
        is_gone = holder is not None and holder.is_here and not holder.process_exists()
        if is_gone and not self._had_it:  # see `Contender.attempt`
            return True
        if is_nobodys(lock.content):
            return True
        sign = self.holder, lock.sign
        if holder is not None and holder.is_ours:
            return self._silence.exceeds(self._lock_timeout, sign, lock.written)
        growing = self._growing(holder)
        size = sum(found.size for found in growing.values())
        written = [found.written or 0.0 for found in growing.values()]
        return self._silence.exceeds(
            TENSORFLOW_HUB_TIMEOUT, (sign, size), max([lock.written, *written])
        )

    def _clear_away(self, lock: Version) -> None:
        """Removes what somebody dead has left, with their lock in our hands."""
        holder = Owner.parse(lock.content.decode("utf-8", "replace"))
        growing = self._growing(holder)
        # What they have put so far must not look like an entry of tensorflow_hub's. Those of ours
        # who have put something elsewhere have touched nothing, or have marked it.
        is_marked = holder is not None and holder.is_ours and growing
        if not is_marked and f"{self._key}.manifest.json" not in self._objects.sizes(self._key):
            mark_unfinished(self._objects, self._key)
        self._objects.remove(*growing)

    def _growing(self, holder: Owner | None) -> dict[str, Listed]:
        """What a holder has put in a folder of their own."""
        return self._objects.listed(f"{self._key}.{holder.uid}.tmp/") if holder else {}
