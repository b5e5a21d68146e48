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
from collections.abc import Collection
from typing import BinaryIO

from tfhub_cache import settings
from tfhub_cache.manifest import Manifest
from tfhub_cache.store.bucket.claim import BucketClaim
from tfhub_cache.store.bucket.look import Look, all_looks
from tfhub_cache.store.bucket.looks import Looks
from tfhub_cache.store.bucket.objects import Listed, Objects, errors_explained, open_objects
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
        look = self._looks.last(key)
        age = time.time() - look.used
        if not 0 <= age < RECORD_SECONDS:
            with contextlib.suppress(Exception):  # the clocks may differ
                age = look.objects.now() - look.used
        if age < RECORD_SECONDS:
            return RECORD_SECONDS - max(0.0, age)
        with contextlib.suppress(Exception):  # who may only read the bucket records nothing
            # On a condition, since of many machines that start at once one is enough.
            version = Listed.expected(look.listed.get(f"{key}.used"))
            open_objects(self._root).write(f"{key}.used", b"used\n", version)
        return RECORD_SECONDS

    def contend(
        self, key: str, lock_timeout: float, keep_free: int, *, replace: bool = False
    ) -> Claim:
        return BucketClaim(self._looks, key, lock_timeout, replace)

    def entries(self, lock_timeout: float, key: str = "") -> list[Entry]:
        objects = open_objects(self._root)
        with errors_explained(self._root):
            found = [self._looks.now(key)] if key else all_looks(objects)
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
        objects = open_objects(self._root)
        with errors_explained(self._root):
            entry = self._entry(look, lock_timeout)
            if entry.holder is not None:
                raise InUse(entry.holder)
            removed = entry.is_there and condition(entry)
            sizes = look.sizes("", settings.BUCKET_GRACE.value())
            going = {*removable(sizes, with_model=removed or not entry.is_there)}
            if key in going:
                going.add(look.folder)
            try:
                _remove(objects, look, going)
            except FileExistsError:
                return False  # another process has just replaced it
            finally:
                self._looks.remember(key)
            return removed

    def occupied(self) -> int:
        objects = open_objects(self._root)
        with errors_explained(self._root):
            return sum(at.size for at in objects.list("").values())

    def free_space(self) -> int | None:
        return None

    def _entry(self, look: Look, lock_timeout: float) -> Entry:
        grace = settings.BUCKET_GRACE.value()
        return look.entry(f"{self._root}/{look.folder}", lock_timeout, grace)


def _remove(objects: Objects, look: Look, tops: Collection[str]) -> None:
    """Removes what there is below some names: first what could be taken for a model.

    Raises:
        FileExistsError: if the manifest is another by now; then most is still there.
    """
    names = [name for name in look.listed if name.partition("/")[0] in tops]
    manifest = f"{look.key}.manifest.json"
    # Without its manifest, what is in the folder of that name may look like tensorflow_hub's.
    first = [name for name in names if name.partition("/")[2] in MODEL_FILES and name[40] == "/"]
    objects.remove(first)
    if manifest in names:
        objects.remove_version(manifest, look.listed[manifest].version)
    gone = {manifest, *first}
    objects.remove(name for name in names if name not in gone)
