"""The entries of a cache on a disk, as they are found there, and how one is removed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable

from tfhub_cache.manifest import MOST_BYTES, Manifest
from tfhub_cache.store.contract import Store
from tfhub_cache.store.disk import files
from tfhub_cache.store.disk.aside import move_aside, remove
from tfhub_cache.store.disk.lock import LockContender
from tfhub_cache.store.disk.part import look_at_part
from tfhub_cache.store.entry import (
    ABSENT,
    DESCRIPTOR_BYTES,
    Condition,
    Entry,
    InUse,
    at,
    is_left_behind,
    key_of,
    names_by_key,
    origin_of,
    state_of,
)

_SUFFIXES = ("", ".manifest.json", ".descriptor.txt", ".lock", ".part", ".part.json")


def find_all(store: Store, root: str, lock_timeout: float) -> list[Entry]:
    """All that there is in a folder."""
    with contextlib.suppress(FileNotFoundError):
        names = names_by_key(os.listdir(root))
        return [
            describe(store, root, key, names[key], _holder(root, key, names[key], lock_timeout))
            for key in names
        ]
    return []


def find(store: Store, root: str, key: str, lock_timeout: float) -> Entry:
    """What there is of one entry."""
    names = _names_of(root, key)
    return describe(store, root, key, names, _holder(root, key, names, lock_timeout))


def describe(store: Store, root: str, key: str, names: Iterable[str], holder: str | None) -> Entry:
    """An entry, from the names that there are of it in the cache."""
    base = os.path.join(root, key)
    flaw = store.flaw(key)
    manifest = _manifest(base, names)
    handle, downloaded = origin_of(key, manifest, lambda: _descriptor(base, names))
    received, expected = None, None
    if {f"{key}.part", f"{key}.part.json"}.issubset(names) and (part := look_at_part(base)):
        archive, received = part
        expected = archive.size
        if handle is None and key_of(archive.handle) == key:
            handle = archive.handle
    used = None
    if flaw != ABSENT:
        with contextlib.suppress(OSError):
            used = at(os.stat(base).st_mtime)
    if manifest and flaw is None:
        sizes = [file.size for file in manifest.files]
    else:
        sizes = list(sizes_below(base).values())
    left = {
        name: size
        for name in names
        if is_left_behind(name, has_entry=flaw != ABSENT)
        and (size := _size(os.path.join(root, name))) is not None
    }
    if received is not None and f"{key}.part" in left:
        left[f"{key}.part"] = received  # the file has holes
    return Entry(
        key=key,
        path=store.path(key),
        handle=handle,
        state=state_of(flaw, manifest, holder),
        flaw=flaw,
        size=sum(left.values()) if flaw == ABSENT and holder is not None else sum(sizes),
        files=len(sizes),
        downloaded=downloaded,
        used=used,
        holder=holder,
        leftovers={} if holder is not None else left,
        received=received,
        expected=expected,
        manifest=manifest,
    )


def tidy(
    store: Store,
    root: str,
    key: str,
    lock_timeout: float,
    condition: Condition,
    leftovers: Collection[str] | None,
) -> bool:
    """Removes what the dead left of an entry, and the entry on a condition. See `Store.tidy`."""
    if not _names_of(root, key, leftovers):
        return False
    base = os.path.join(root, key)
    contender = LockContender(base, lock_timeout, full_disk=True)
    lock = contender.attempt()
    if lock is None:
        raise InUse(contender.holder)
    try:
        lock_file = f"{key}.lock"
        names = [name for name in _names_of(root, key, leftovers) if name != lock_file]
        aside = ""
        entry = describe(store, root, key, names, None)
        removed = entry.is_there and condition(entry)
        if not lock.is_held():
            raise InUse("")
        if removed:
            # First of all, and in one step: from here on readers see that there is none.
            aside = f"{key}.{lock.owner.uid}.old.tmp"
            move_aside(base, os.path.join(root, aside))
            names = [*(name for name in names if name != key), aside]  # what takes long comes last
        failures: list[OSError] = []
        for name in names:
            if name != aside and not lock.is_held():  # it is somebody else's by now
                raise InUse("")
            if is_left_behind(name, has_entry=entry.is_there and not removed):
                try:
                    remove(os.path.join(root, name))
                except FileNotFoundError:
                    pass  # another process has removed it
                except OSError as error:  # which does not keep the rest from being removed
                    failures.append(error)
        if failures:
            raise failures[0]
        return removed
    finally:
        lock.release()


def sizes_below(folder: str) -> dict[str, int]:
    """The files below a folder, by their paths in it with slashes."""
    return {path: status.st_size for path, status in files.files_below(folder)}


def free_space(root: str) -> int | None:
    """The free bytes of the disk on which a folder is, or will be made."""
    while not os.path.isdir(root):
        root, below = os.path.dirname(root), root
        if root == below:
            return None
    return shutil.disk_usage(root).free


def _names_of(root: str, key: str, leftovers: Collection[str] | None = None) -> list[str]:
    """The names that there are of an entry; with those that were left, nothing is listed."""
    if leftovers is not None:
        names = {*(f"{key}{suffix}" for suffix in _SUFFIXES), *leftovers}
        return [name for name in names if os.path.lexists(os.path.join(root, name))]
    try:
        return names_by_key(name for name in os.listdir(root) if name.startswith(key)).get(key, [])
    except FileNotFoundError:
        return []


def _holder(root: str, key: str, names: Iterable[str], lock_timeout: float) -> str | None:
    if f"{key}.lock" not in names:
        return None
    return LockContender(os.path.join(root, key), lock_timeout).look()


def _manifest(base: str, names: Iterable[str]) -> Manifest | None:
    if f"{os.path.basename(base)}.manifest.json" in names:
        with contextlib.suppress(OSError, ValueError):
            return Manifest.from_json(files.read(f"{base}.manifest.json", MOST_BYTES))
    return None


def _descriptor(base: str, names: Iterable[str]) -> str:
    if f"{os.path.basename(base)}.descriptor.txt" in names:
        with contextlib.suppress(OSError):
            return files.read(f"{base}.descriptor.txt", DESCRIPTOR_BYTES).decode("utf-8", "replace")
    return ""


def _size(path: str) -> int | None:
    """The bytes of a file or of all in a folder; None if it is gone by now."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            return sum(sizes_below(path).values())
        return os.lstat(path).st_size
    except OSError:
        return None
