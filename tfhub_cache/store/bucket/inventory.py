"""What there is of the entries of a cache in an object store, and how one is removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from tfhub_cache.manifest import MOST_BYTES, Manifest, UnknownFormat
from tfhub_cache.store import flaw as flaws
from tfhub_cache.store.bucket.objects import Listed, Objects
from tfhub_cache.store.entry import (
    DESCRIPTOR_BYTES,
    Condition,
    Entry,
    describe,
    names_by_key,
    removable,
)
from tfhub_cache.store.flaw import ABSENT, Flaw, FlawKind
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner, Silence


def entries(objects: Objects, lock_timeout: float, key: str = "") -> list[Entry]:
    """What there is of all entries, or of one: a listing, and the manifests, several at a time."""
    with objects.errors_told():
        return _take_all(objects, objects.listed(key), lock_timeout)


def tidy(objects: Objects, key: str, condition: Condition) -> bool:
    """Removes what crashed processes left of an entry, and on a condition the entry itself.

    The caller has the claim. See `Store.tidy`.
    """
    with objects.errors_told():
        listed = objects.listed(key)
        listed.pop(f"{key}.lock", None)
        found = _take_all(objects, listed, 0.0)
        if not found:
            return False
        removed = found[0].is_there and condition(found[0])
        going = removable(map(_top, listed), with_model=removed or not found[0].is_there)
        left = {name: as_listed for name, as_listed in listed.items() if _top(name) in going}
        # From here on readers see that there is none, though it is removed file by file: the mark
        # is there before the manifest goes, and goes last.
        first, last = f"{key}.manifest.json", f"{key}.unfinished"
        mark = left.pop(last, None)
        if mark is None and any(name.startswith(f"{key}/") for name in left):
            generation = objects.create(last, b"being removed\n")
            mark = None if generation is None else Listed(0, None, generation)
        # If this machine was asleep, another one may have taken the claim over: what it has put
        # since then stays.
        for name in sorted(left, key=lambda name: name != first):
            objects.remove_listed(name, left[name])
        if f"{key}.used" in left:
            objects.remove(f"{key}.used")  # another process may have used it in the meantime
        if mark is not None:
            objects.remove_listed(last, mark)
    return removed


def last_use(key: str, listed: Mapping[str, Listed]) -> float | None:
    """When an entry was last used: the time of `<key>.used`, in the first hour of the entry."""
    times = [
        found.written
        for name, found in listed.items()
        if name.startswith((f"{key}/", f"{key}.used", f"{key}.manifest.json"))
    ]
    return max((written for written in times if written is not None), default=None)


def judge(
    key: str, sizes: Mapping[str, int], read: Callable[[str], bytes]
) -> tuple[Manifest | None, Flaw | None]:
    """The manifest of an entry, if there is a valid one, and what is wrong with the entry.

    Args:
        key: the entry.
        sizes: the objects that there are of it, and their bytes.
        read: reads an object. It fails with a `LookupError` or a `FileNotFoundError` if there is
            none any more.
    """
    name = f"{key}.manifest.json"
    try:
        if name not in sizes:
            raise UnknownFormat
        if sizes[name] > MOST_BYTES:
            raise ValueError("it is too large")
        manifest = Manifest.from_json(read(name))
    except (LookupError, FileNotFoundError):
        return None, ABSENT  # another process begins to replace or to remove it
    except UnknownFormat:
        return None, flaw_without_manifest(key, sizes)
    except ValueError:
        return None, Flaw(FlawKind.MANIFEST_UNREADABLE)
    for file in manifest.files:
        found = sizes.get(f"{key}/{file.path}")
        if found is None:
            return manifest, Flaw(FlawKind.MISSING, (file.path,))
        if found != file.size:
            return manifest, Flaw(FlawKind.OTHER_SIZE, (file.path, found, file.size))
    return manifest, None


def flaw_without_manifest(key: str, sizes: Mapping[str, int]) -> Flaw | None:
    """Judges what tensorflow_hub, or a person, has put there."""
    files = [name[len(key) + 1 :] for name in sizes if name.startswith(f"{key}/")]
    if not files or f"{key}.lock" in sizes or f"{key}.unfinished" in sizes:
        return ABSENT
    variables = [name.removeprefix("variables/") for name in files if name.startswith("variables/")]
    return flaws.flaw_without_manifest([name for name in files if "/" not in name], variables)


def _take_all(objects: Objects, listed: Mapping[str, Listed], lock_timeout: float) -> list[Entry]:
    of_key: dict[str, dict[str, Listed]] = {key: {} for key in names_by_key(map(_top, listed))}
    for name, found in listed.items():
        if name[:40] in of_key:
            of_key[name[:40]][name] = found
    small = {
        name: names[name].size <= most
        for key, names in of_key.items()
        for name, most in (
            (f"{key}.manifest.json", MOST_BYTES),
            (f"{key}.descriptor.txt", DESCRIPTOR_BYTES),
            (f"{key}.lock", DESCRIPTOR_BYTES),
        )
        if name in names and not (name.endswith(".txt") and f"{key}.manifest.json" in names)
    }
    contents = objects.read_many([name for name, is_small in small.items() if is_small])
    # What is too large is not what it should be.
    contents |= {name: b"" for name, is_small in small.items() if not is_small}
    return [_take(objects, key, names, contents, lock_timeout) for key, names in of_key.items()]


def _take(
    objects: Objects,
    key: str,
    listed: Mapping[str, Listed],
    contents: Mapping[str, bytes],
    lock_timeout: float,
) -> Entry:
    sizes = {name: found.size for name, found in listed.items()}
    files = [size for name, size in sizes.items() if name.startswith(f"{key}/")]
    manifest, flaw = judge(key, sizes, contents.__getitem__)
    if not files:
        flaw = ABSENT
    at_top: Counter[str] = Counter()
    for name, size in sizes.items():
        at_top[_top(name)] += size
    return describe(
        key,
        f"{objects.root}/{key}",
        at_top,
        flaw,
        files=[] if flaw == ABSENT else files,
        used=last_use(key, listed),
        holder=_holder(key, listed, contents, lock_timeout),
        manifest=manifest,
        descriptor=contents.get(f"{key}.descriptor.txt", b"").decode("utf-8", "replace"),
    )


def _holder(
    key: str, listed: Mapping[str, Listed], contents: Mapping[str, bytes], lock_timeout: float
) -> str | None:
    """Which running process has the lock, as far as one look shows."""
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
