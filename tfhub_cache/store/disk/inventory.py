"""What there is of the entries of a cache on a disk, and how one is removed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable

from tfhub_cache.manifest import MOST_BYTES, Manifest
from tfhub_cache.store.contract import Store
from tfhub_cache.store.disk import files
from tfhub_cache.store.disk.aside import move_aside, remove
from tfhub_cache.store.disk.lock import LockContender
from tfhub_cache.store.disk.part import look_at_part
from tfhub_cache.store.entry import (
    DESCRIPTOR_BYTES,
    Condition,
    InUse,
    Inventory,
    names_by_key,
)
from tfhub_cache.store.flaw import ABSENT

_SUFFIXES = ("", ".manifest.json", ".descriptor.txt", ".lock", ".part", ".part.json")


def inventories(store: Store, root: str, lock_timeout: float, key: str = "") -> list[Inventory]:
    """What there is of all entries, or of one. See `Store.inventories`."""
    return [
        take(store, root, key, names, _holder(root, key, names, lock_timeout))
        for key, names in _listed(root, key).items()
    ]


def take(store: Store, root: str, key: str, names: Iterable[str], holder: str | None) -> Inventory:
    """What there is of an entry, from the names that it has at the top of the cache."""
    base = os.path.join(root, key)
    flaw = store.flaw(key)
    is_there = flaw != ABSENT
    manifest, descriptor, partial, used = None, "", None, None
    if f"{key}.manifest.json" in names:
        with contextlib.suppress(OSError, ValueError):
            manifest = Manifest.from_json(files.read(f"{base}.manifest.json", MOST_BYTES))
    if manifest is None and f"{key}.descriptor.txt" in names:
        with contextlib.suppress(OSError):
            content = files.read(f"{base}.descriptor.txt", DESCRIPTOR_BYTES)
            descriptor = content.decode("utf-8", "replace")
    if {f"{key}.part", f"{key}.part.json"}.issubset(names) and (part := look_at_part(base)):
        archive, received = part
        partial = archive.handle, received, archive.size
    with contextlib.suppress(OSError):
        used = os.stat(base).st_mtime
    sizes = {
        name: size
        for name in names
        # The files of a model that is there are looked at anyhow.
        if (size := 0 if is_there and name == key else _size(os.path.join(root, name))) is not None
    }
    if partial is not None and f"{key}.part" in sizes:
        sizes[f"{key}.part"] = partial[1]  # the file has holes
    if manifest and flaw is None:
        of_files = [file.size for file in manifest.files]
    else:
        of_files = _sizes_below(base) if is_there else []
    return Inventory(
        key=key,
        path=store.path(key),
        sizes=sizes,
        flaw=flaw,
        files=of_files,
        used=used,
        holder=holder,
        manifest=manifest,
        descriptor=descriptor,
        partial=partial,
    )


def tidy(
    store: Store,
    root: str,
    key: str,
    lock_timeout: float,
    condition: Condition,
    leftovers: Collection[str] | None,
) -> bool:
    """Removes what crashed processes left of an entry, and on a condition the entry itself.

    See `Store.tidy`.
    """
    if not _names_of(root, key, leftovers):
        return False
    base = os.path.join(root, key)
    contender = LockContender(base, lock_timeout)
    lock = contender.attempt()
    if lock is None:
        raise InUse(contender.holder)
    try:
        found = take(store, root, key, _names_of(root, key, leftovers), None)
        removed = found.is_there and condition(found.entry())
        names = [name for name in found.removable(with_model=removed) if name != f"{key}.lock"]
        aside = ""
        if not lock.is_held():
            raise InUse("")
        if removed:
            # First of all, and in one step: from here on readers see that there is none.
            aside = f"{key}.{lock.owner.uid}.old.tmp"
            move_aside(base, os.path.join(root, aside))
            names = [*(name for name in names if name != key), aside]  # what takes long comes last
        failures: list[OSError] = []
        for name in names:
            if name != aside and not lock.is_held():  # it is another process's by now
                raise InUse("")
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


def _sizes_below(folder: str) -> list[int]:
    """The sizes of the files below a folder."""
    return [status.st_size for _, status in files.files_below(folder)]


def _names_of(root: str, key: str, leftovers: Collection[str] | None = None) -> list[str]:
    """The names that there are of an entry; if its leftovers are known, nothing is listed."""
    if leftovers is not None:
        names = {*(f"{key}{suffix}" for suffix in _SUFFIXES), *leftovers}
        return [name for name in names if os.path.lexists(os.path.join(root, name))]
    return _listed(root, key).get(key, [])


def _listed(root: str, prefix: str) -> dict[str, list[str]]:
    with contextlib.suppress(FileNotFoundError):
        return names_by_key(name for name in os.listdir(root) if name.startswith(prefix))
    return {}


def _holder(root: str, key: str, names: Iterable[str], lock_timeout: float) -> str | None:
    if f"{key}.lock" not in names:
        return None
    return LockContender(os.path.join(root, key), lock_timeout).look()


def _size(path: str) -> int | None:
    """The bytes of a file or of all in a folder; None if it is gone by now."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            return sum(_sizes_below(path))
        return os.lstat(path).st_size
    except OSError:
        return None
