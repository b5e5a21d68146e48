"""What there is of the entries of a cache on a disk, and how one is removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from tfhub_cache.manifest import MOST_BYTES, Manifest
from tfhub_cache.store.contract import Store
from tfhub_cache.store.disk import files
from tfhub_cache.store.disk.aside import move_aside, remove
from tfhub_cache.store.disk.lock import Lock
from tfhub_cache.store.disk.part import look_at_part
from tfhub_cache.store.entry import (
    DESCRIPTOR_BYTES,
    Condition,
    Entry,
    InUse,
    describe,
    names_by_key,
    removable,
)
from tfhub_cache.store.flaw import ABSENT


def entries(store: Store, root: str, lock_timeout: float, key: str = "") -> list[Entry]:
    """All entries, or one. See `Store.entries`."""
    found = []
    for of, names in _listed(root, key).items():
        has_lock = f"{of}.lock" in names
        holder = Lock(os.path.join(root, of), lock_timeout).look() if has_lock else None
        found.append(_entry(store, root, of, names, holder))
    return found


def tidy(store: Store, root: str, key: str, lock_timeout: float, condition: Condition) -> bool:
    """Removes what crashed processes left of an entry, and on a condition the entry itself.

    See `Store.tidy`.
    """
    if not _listed(root, key):
        return False
    base = os.path.join(root, key)
    lock = Lock(base, lock_timeout)
    if lock.attempt() is None:
        raise InUse(lock.holder)
    try:
        names = _listed(root, key).get(key, [])
        found = _entry(store, root, key, names, None)
        removed = found.is_there and condition(found)
        going = removable(names, with_model=removed or not found.is_there)
        if not lock.is_held():
            raise InUse("")
        if removed:
            # First of all, and in one step: from here on readers see that there is none.
            aside = f"{key}.{lock.owner.uid}.old.tmp"
            move_aside(base, os.path.join(root, aside))
            going = [*(name for name in going if name != key), aside]  # what takes long comes last
        failures: list[OSError] = []
        for name in going:
            if not lock.is_held():  # it is another process's by now
                raise InUse("")
            try:
                if name != f"{key}.lock":
                    remove(os.path.join(root, name))
            except OSError as error:  # which does not keep the rest from being removed
                failures.append(error)
        if failures:
            raise failures[0]
        return removed
    finally:
        lock.release()


def _entry(store: Store, root: str, key: str, names: Iterable[str], holder: str | None) -> Entry:
    """An entry, from the names that it has at the top of the cache."""
    base = os.path.join(root, key)
    flaw = store.flaw(key)
    is_there = flaw != ABSENT
    manifest, descriptor, partial, used = None, "", None, None
    with contextlib.suppress(OSError, ValueError):
        manifest = Manifest.from_json(files.read(f"{base}.manifest.json", MOST_BYTES))
    with contextlib.suppress(OSError):
        used = os.stat(base).st_mtime
    if manifest is None and f"{key}.descriptor.txt" in names:
        with contextlib.suppress(OSError):
            content = files.read(f"{base}.descriptor.txt", DESCRIPTOR_BYTES)
            descriptor = content.decode(errors="replace")
    # The files of a model that is there are looked at anyhow.
    sizes = {name: _size(os.path.join(root, name)) for name in names if name != key or not is_there}
    if f"{key}.part" in sizes and (part := look_at_part(base)):
        archive, received = part
        partial = archive.handle, received, archive.size
        sizes[f"{key}.part"] = received  # the file has holes
    if manifest and flaw is None:
        of_files = [file.size for file in manifest.files]
    else:
        of_files = _sizes_below(base) if is_there else []
    return describe(
        key,
        store.path(key),
        sizes,
        flaw,
        files=of_files,
        used=used,
        holder=holder,
        manifest=manifest,
        descriptor=descriptor,
        partial=partial,
    )


def _listed(root: str, prefix: str) -> dict[str, list[str]]:
    with contextlib.suppress(FileNotFoundError):
        return names_by_key(name for name in os.listdir(root) if name.startswith(prefix))
    return {}


def _sizes_below(folder: str) -> list[int]:
    return [status.st_size for _, status in files.files_below(folder)]


def _size(path: str) -> int:
    """The bytes of a file or of all in a folder; 0 if it is gone by now."""
    if os.path.isdir(path) and not os.path.islink(path):
        return sum(_sizes_below(path))
    with contextlib.suppress(OSError):
        return os.lstat(path).st_size
    return 0
