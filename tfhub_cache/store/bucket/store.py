"""A cache in an object store: a `gs://` bucket, or whatever else fsspec has a file system for.

Each attempt to make an entry puts its files in a folder of its own, which no other ever uses:

    <key>.<uid>/          the model, exactly as published
    <key>.manifest.json   which folder that is, what was downloaded, and each file's size and digest
    <key>.lock            while a process downloads; it only saves others from downloading as well
    <key>.used            the time of the last use, after an hour

The manifest is written last, in one request, and makes the entry, or replaces the one before:
created only if there is none, or replaced only at the version that was read. Nothing else is ever
written over. So a reader has the old model or the new one, and keeps what it has a path of:
folders that no manifest names are removed after a grace period.
"""

from __future__ import annotations

import contextlib
import errno
import time
from typing import BinaryIO

from tfhub_cache import settings
from tfhub_cache.manifest import Manifest
from tfhub_cache.store.bucket.claim import BucketClaim
from tfhub_cache.store.bucket.look import Look, Looks, all_looks
from tfhub_cache.store.bucket.objects import Listed, Objects, open_objects
from tfhub_cache.store.contract import Claim, Store
from tfhub_cache.store.entry import RECORD_SECONDS, Condition, Entry, InUse, removable
from tfhub_cache.store.flaw import MODEL_FILES, Flaw


class BucketStore(Store):
    """Entries are objects below a common prefix."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._looks = Looks(self._root)

    def path(self, key: str) -> str:
        return f"{self._root}/{self._looks.last(key).folder}"

    def flaw(self, key: str) -> Flaw | None:
        return self._looks.recent(key).flaw

    def manifest(self, key: str) -> Manifest | None:
        return self._looks.last(key).manifest

    def record_use(self, key: str) -> float:
        with contextlib.suppress(Exception):  # who may only read the bucket records nothing
            look, objects = self._looks.last(key), open_objects(self._root)
            age = time.time() - look.used
            if not 0 <= age < RECORD_SECONDS:  # the clocks may differ
                age = max(0.0, look.objects.now() - look.used)
            if age < RECORD_SECONDS:
                return RECORD_SECONDS - age
            # On a condition, since of many machines that start at once one is enough.
            version = Listed.expected(look.listed.get(f"{key}.used"))
            objects.write(f"{key}.used", b"used\n", version)
        return RECORD_SECONDS

    def contend(
        self, key: str, lock_timeout: float, keep_free: int, *, replace: bool = False
    ) -> Claim:
        return BucketClaim(self._looks, key, lock_timeout, replace)

    def entries(self, lock_timeout: float, key: str = "") -> list[Entry]:
        found = [self._looks.now(key)] if key else all_looks(open_objects(self._root))
        entries = [self._entry(look, lock_timeout) for look in found]
        return [entry for entry in entries if entry.is_there or entry.leftovers or entry.holder]

    def files(self, key: str) -> dict[str, object]:
        return dict(self._looks.now(key).files)

    def open_file(self, key: str, path: str) -> BinaryIO:
        look = self._looks.last(key)
        if path not in look.files:
            raise FileNotFoundError(errno.ENOENT, "There is no such file", f"{look.folder}/{path}")
        return open_objects(self._root).open(f"{look.folder}/{path}", look.files[path].size)

    def tidy(self, key: str, lock_timeout: float, condition: Condition) -> bool:
        look = self._looks.now(key)
        entry = self._entry(look, lock_timeout)
        if entry.holder is not None:
            raise InUse(entry.holder)
        removed = entry.is_there and condition(entry)
        tops = look.tops(settings.BUCKET_GRACE.value())
        going = removable(tops, with_model=removed or not entry.is_there)
        names = {name for top in going for name in tops[top]}
        try:
            _remove(open_objects(self._root), key, names | (look.listed.keys() & {f"{key}.lock"}))
        finally:
            self._looks.remember(key)
        return removed

    def occupied(self) -> int:
        return sum(at.size for at in open_objects(self._root).list("").values())

    def free_space(self) -> int | None:
        return None

    def _entry(self, look: Look, lock_timeout: float) -> Entry:
        return look.entry(self._root, lock_timeout, settings.BUCKET_GRACE.value())


def _remove(objects: Objects, key: str, names: set[str]) -> None:
    """Removes objects of an entry, in an order in which what is left is never misunderstood."""
    # Without its manifest, what is in the folder of that name may look like tensorflow_hub's, and a
    # lock that is void like another.
    first = names & {f"{key}.lock", *(f"{key}/{file}" for file in MODEL_FILES)}
    manifest = names & {f"{key}.manifest.json"}
    for part in first, manifest, names - first - manifest:
        objects.remove(part)
