"""The entries of a cache in an object store, as they are found there, and how one is removed."""

from __future__ import annotations

from collections.abc import Mapping

from tfhub_cache.manifest import MOST_BYTES, Manifest, UnknownFormat
from tfhub_cache.store import saved_model
from tfhub_cache.store.bucket.objects import Listed, Objects
from tfhub_cache.store.contract import ABSENT
from tfhub_cache.store.entry import (
    DESCRIPTOR_BYTES,
    MANIFEST_UNREADABLE,
    Condition,
    Entry,
    at,
    is_left_behind,
    names_by_key,
    origin_of,
    state_of,
)
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner, Silence


def find_all(objects: Objects, lock_timeout: float) -> list[Entry]:
    """All that there is: a listing, and the manifests, several at a time."""
    with objects.errors_told():
        return _describe_all(objects, objects.listed(""), lock_timeout)


def find(objects: Objects, key: str, lock_timeout: float) -> Entry:
    """What there is of one entry."""
    with objects.errors_told():
        found = _describe_all(objects, objects.listed(key), lock_timeout)
    return found[0] if found else Entry(key, _path(objects, key), flaw=ABSENT)


def tidy(objects: Objects, key: str, condition: Condition) -> bool:
    """Removes what the dead left of an entry, and the entry on a condition. See `Store.tidy`.

    The caller has the right to make the entry.
    """
    with objects.errors_told():
        listed = objects.listed(key)
        listed.pop(f"{key}.lock", None)
        found = _describe_all(objects, listed, 0.0)
        removed = bool(found) and found[0].is_there and condition(found[0])
        keep_entry = bool(found) and found[0].is_there and not removed
        left = {
            name: at_listing
            for name, at_listing in listed.items()
            if is_left_behind(_top(name), has_entry=keep_entry)
        }
        # From here on readers see that there is none, though it is removed file by file: the mark
        # is there before the manifest goes, and goes last.
        first, last = f"{key}.manifest.json", f"{key}.unfinished"
        mark = left.pop(last, None)
        if mark is None and any(name.startswith(f"{key}/") for name in left):
            generation = objects.create(last, b"being removed\n")
            mark = None if generation is None else Listed(0, None, generation)
        # Whoever was asleep may have been taken for dead: what others have put since stays.
        for name in sorted(left, key=lambda name: name != first):
            objects.remove_listed(name, left[name])
        if f"{key}.used" in left:
            objects.remove(f"{key}.used")  # somebody may have used it in the meantime
        if mark is not None:
            objects.remove_listed(last, mark)
    return removed


def last_use(key: str, listed: Mapping[str, Listed]) -> float | None:
    """When an entry was last used: told by `<key>.used`, in the first hour by the entry itself."""
    times = [
        found.written
        for name, found in listed.items()
        if name.startswith((f"{key}/", f"{key}.used", f"{key}.manifest.json"))
    ]
    return max((written for written in times if written is not None), default=None)


def flaw_with_manifest(key: str, manifest: Manifest, sizes: Mapping[str, int]) -> str | None:
    """Holds what is there of an entry against its manifest."""
    for file in manifest.files:
        found = sizes.get(f"{key}/{file.path}")
        if found is None:
            return f"{file.path} is missing"
        if found != file.size:
            return f"{file.path} has {found} bytes instead of {file.size}"
    return None


def flaw_without_manifest(key: str, sizes: Mapping[str, int]) -> str | None:
    """Judges what tensorflow_hub, or somebody by hand, has put there."""
    files = [name[len(key) + 1 :] for name in sizes if name.startswith(f"{key}/")]
    if not files or f"{key}.lock" in sizes or f"{key}.unfinished" in sizes:
        return ABSENT
    variables = [name.removeprefix("variables/") for name in files if name.startswith("variables/")]
    return saved_model.flaw_of([name for name in files if "/" not in name], variables)


def _describe_all(
    objects: Objects, listed: Mapping[str, Listed], lock_timeout: float
) -> list[Entry]:
    of_key: dict[str, dict[str, Listed]] = {key: {} for key in names_by_key(map(_top, listed))}
    for name, found in listed.items():
        if name[:40] in of_key:
            of_key[name[:40]][name] = found
    telling = {
        name: names[name].size <= most
        for key, names in of_key.items()
        for name, most in (
            (f"{key}.manifest.json", MOST_BYTES),
            (f"{key}.descriptor.txt", DESCRIPTOR_BYTES),
            (f"{key}.lock", DESCRIPTOR_BYTES),
        )
        if name in names and not (name.endswith(".txt") and f"{key}.manifest.json" in names)
    }
    contents = objects.read_many([name for name, is_small in telling.items() if is_small])
    # What is too large is not what it should be.
    contents |= {name: b"" for name, is_small in telling.items() if not is_small}
    return [_describe(objects, key, names, contents, lock_timeout) for key, names in of_key.items()]


def _describe(
    objects: Objects,
    key: str,
    listed: Mapping[str, Listed],
    contents: Mapping[str, bytes],
    lock_timeout: float,
) -> Entry:
    sizes = {name: found.size for name, found in listed.items()}
    manifest, flaw = None, None
    try:
        manifest = Manifest.from_json(contents[f"{key}.manifest.json"])
        flaw = flaw_with_manifest(key, manifest, sizes)
    except KeyError:
        # One that is listed and gone by now is being replaced or removed.
        is_going = f"{key}.manifest.json" in sizes
        flaw = ABSENT if is_going else flaw_without_manifest(key, sizes)
    except UnknownFormat:
        flaw = flaw_without_manifest(key, sizes)
    except ValueError:
        flaw = MANIFEST_UNREADABLE
    files = {name: size for name, size in sizes.items() if name.startswith(f"{key}/")}
    if not files:
        flaw = ABSENT
    handle, downloaded = origin_of(
        key, manifest, lambda: contents.get(f"{key}.descriptor.txt", b"").decode("utf-8", "replace")
    )
    used = last_use(key, listed)
    holder = _holder(key, listed, contents, lock_timeout)
    is_there = flaw != ABSENT
    left: dict[str, int] = {}
    for name, size in sizes.items():
        if is_left_behind(_top(name), has_entry=is_there):
            left[_top(name)] = left.get(_top(name), 0) + size
    return Entry(
        key=key,
        path=_path(objects, key),
        handle=handle,
        state=state_of(flaw, manifest, holder),
        flaw=flaw,
        size=sum(files.values()) if is_there else sum(left.values()) if holder else 0,
        files=len(files) if is_there else 0,
        downloaded=downloaded,
        used=at(used) if is_there and used is not None else None,
        holder=holder,
        leftovers={} if holder is not None else left,
        manifest=manifest,
    )


def _holder(
    key: str, listed: Mapping[str, Listed], contents: Mapping[str, bytes], lock_timeout: float
) -> str | None:
    """Who alive has the lock, as far as one look tells."""
    content = contents.get(f"{key}.lock")
    if content is None:
        return None
    name = content.decode("utf-8", "replace")
    owner = Owner.parse(name)
    if owner is not None and owner.is_here and not owner.process_exists():
        return None
    patience = lock_timeout if owner is not None and owner.is_ours else TENSORFLOW_HUB_TIMEOUT
    written = listed[f"{key}.lock"].written
    silent = written is not None and Silence().exceeds(patience, content, written)
    return None if silent else name


def _top(name: str) -> str:
    return name.partition("/")[0]


def _path(objects: Objects, key: str) -> str:
    return f"{objects.root}/{key}"
