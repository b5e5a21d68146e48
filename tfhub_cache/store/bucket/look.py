"""What a listing and a manifest say of an entry, and what a process remembers of that."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections import defaultdict
from collections.abc import Mapping

from absl import logging

from tfhub_cache.manifest import MOST_BYTES, Manifest
from tfhub_cache.store.bucket.objects import Listed, Objects, open_objects
from tfhub_cache.store.entry import DESCRIPTOR_BYTES, Entry, describe, is_versioned, names_by_key
from tfhub_cache.store.flaw import ABSENT, Flaw, FlawKind, flaw_without_manifest
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner
from tfhub_cache.urls import redact

held: set[str] = set()
"""The uids by which this process has locks now."""
_FOLDER = re.compile(rb'\{\n  "folder": "([0-9a-f]{40}\.cache-[0-9a-f]+)",\n')
_SEEN_SECONDS = 60.0
"""For how long an intact entry of a versioned handle is not looked at again in a process."""
_MOMENT = 0.5
"""For how long one that can't be used is not, as one resolve asks several times."""


def with_folder(manifest: Manifest, folder: str) -> bytes:
    """The manifest as it is kept in a bucket: first of all it names the folder of the files."""
    return f'{{\n  "folder": "{folder}",{manifest.to_json()[1:]}'.encode()


class Look:
    """An entry as it was found.

    Attributes:
        objects: where it is.
        key: its name.
        listed: all its objects.
        lock: what its lock says; None if there is none.
        folder: the folder with the model's files. Where no manifest names another it is the key, as
            tensorflow_hub has it.
        files: the model's files, by their paths.
        manifest: the manifest, if there is a valid one.
        began: when it was looked for, by this machine's clock that only runs forward.
    """

    def __init__(
        self, objects: Objects, key: str, listed: dict[str, Listed], contents: Mapping[str, bytes]
    ) -> None:
        self.began = time.monotonic()
        self.objects = objects
        self.key = key
        self.listed = listed
        content, lock = contents.get(f"{key}.manifest.json"), contents.get(f"{key}.lock")
        self.lock = None if lock is None else lock.decode("utf-8", "replace")
        named = _FOLDER.match(content or b"")
        self.folder = named[1].decode() if named and named[1].startswith(key.encode()) else key
        names = [name for name in listed if name.startswith(f"{self.folder}/")]
        self.files = {name[len(self.folder) + 1 :]: listed[name] for name in names}
        self.manifest: Manifest | None = None
        with contextlib.suppress(ValueError):
            self.manifest = Manifest.from_json(content or b"")
        # The two requests that a look takes have no order: it may be replaced between them.
        has_manifest = content is not None or f"{key}.manifest.json" in listed
        self.is_doubtful = has_manifest and (self.manifest is None or self.flaw is not None)

    @functools.cached_property
    def flaw(self) -> Flaw | None:
        """Why the entry can't be used."""
        manifest = self.manifest
        if not self.files or (manifest is None and self._is_unfinished):
            return ABSENT
        if manifest is None:
            if self.folder == self.key and f"{self.key}.manifest.json" in self.listed:
                return Flaw(FlawKind.MANIFEST_UNREADABLE)
            names = [*self.files]
            return flaw_without_manifest(
                [name for name in names if "/" not in name],
                [name.removeprefix("variables/") for name in names if name[:10] == "variables/"],
            )
        for file in manifest.files:
            found = self.files.get(file.path)
            if found is None:
                return Flaw(FlawKind.MISSING, (file.path,))
            if found.size != file.size:
                return Flaw(FlawKind.OTHER_SIZE, (file.path, found.size, file.size))
        return None

    @property
    def _is_unfinished(self) -> bool:
        """Whether what looks like a model of tensorflow_hub's is not complete."""
        owner = Owner.parse(self.lock or "")
        is_theirs = self.lock is not None and (owner is None or not owner.is_ours)
        return is_theirs or f"{self.key}.unfinished" in self.listed

    @property
    def _is_unlocked(self) -> bool:
        """Whether there is no lock, or its owner has made the entry and is about to remove it."""
        return self.lock is None or self.folder == filled_by(self.key, self.lock)

    def holder(self, lock_timeout: float) -> str:
        """Which process has the lock, by our system or by the store's clock; empty: none."""
        owner = Owner.parse(self.lock or "")
        is_ours = owner is not None and owner.is_ours
        if self._is_unlocked:
            return ""
        if owner is not None and owner.is_here:
            # An earlier process may have had this one's number, as the first of a container has.
            is_orphan = owner.is_this_process and is_ours and owner.uid not in held
            if is_orphan or not owner.process_exists():
                return ""
        silent = self.objects.now() - self.listed[f"{self.key}.lock"].written
        patience = lock_timeout if is_ours else TENSORFLOW_HUB_TIMEOUT
        return "" if silent >= patience else self.lock or "unknown"

    @property
    def used(self) -> float:
        """When it was last used: the time of `<key>.used`, at first that of the entry."""
        names = f"{self.key}.used", f"{self.key}.manifest.json"
        found = [self.listed[name] for name in names if name in self.listed]
        return max((at.written for at in [*found, *self.files.values()]), default=0.0)

    def tops(self, grace: float, holder: str = "") -> dict[str, list[str]]:
        """Its objects, by their names at the top of the cache; those of the model are at its key.

        Without the folders of other attempts that were written, or replaced, so few seconds ago:
        another process may be filling them, or a reader may have their path. And without a lock
        that its owner is about to remove.

        Args:
            grace: that many seconds.
            holder: the process that is filling a folder now, which is among them; empty: none.
        """
        tops: dict[str, list[str]] = defaultdict(list)
        for name in self.listed:
            top = name.partition("/")[0]
            tops[self.key if top == self.folder else top].append(name)
        manifest = f"{self.key}.manifest.json"
        for top in [*tops]:
            if not (_is_attempt(top) or (self._is_unlocked and top == f"{self.key}.lock")):
                continue
            names = [*tops[top], *({manifest} & self.listed.keys())]
            last = max(self.listed[name].written for name in names)
            # A server's clock shows full seconds only.
            is_recent = max(0.0, self.objects.now() - last) < grace
            is_filled = holder and top.startswith(filled_by(self.key, holder))
            if is_recent and not is_filled:
                del tops[top]
        return tops

    def garbage(self, grace: float) -> list[str]:
        """The objects of attempts that are over. See `tops`."""
        tops = self.tops(grace).items()
        return [name for top, names in tops if _is_attempt(top) for name in names]

    def entry(self, root: str, lock_timeout: float, grace: float) -> Entry:
        """What users see of it."""
        holder, descriptor = self.holder(lock_timeout), f"{self.key}.descriptor.txt"
        tops = self.tops(grace, holder).items()
        text = b"" if self.manifest else self.objects.read(self.listed, descriptor).get(descriptor)
        return describe(
            self.key,
            f"{root}/{self.folder}",
            {top: sum(self.listed[name].size for name in names) for top, names in tops},
            self.flaw,
            files=[at.size for at in self.files.values()],
            used=self.used or None,
            holder=holder or None,
            manifest=self.manifest,
            descriptor=(text or b"")[:DESCRIPTOR_BYTES].decode("utf-8", "replace"),
        )


def _is_attempt(top: str) -> bool:
    """Whether a name is that of a folder which an attempt fills, or one of tensorflow_hub's."""
    return top[40:].startswith(".cache-") or top.endswith(".tmp")


def filled_by(key: str, holder: str) -> str:
    """What the name of the folder begins with that a process fills, `<host>.<pid>.<uid>`."""
    return f"{key}.{holder.rpartition('.')[2]}"


def look_at(objects: Objects, key: str) -> Look:
    """One entry, also if there is nothing of it: its manifest is read beside the listing."""
    manifest, lock = f"{key}.manifest.json", f"{key}.lock"
    began = time.monotonic()
    reading = objects.start("cat_file", manifest, start=0, end=MOST_BYTES + 1)
    listed = objects.list(key)
    contents = objects.read(listed, lock)
    if manifest not in listed or listed[manifest].size:  # of nothing, no range can be read
        contents.update(objects.results([(manifest, reading)]))
    look = Look(objects, key, listed, contents)
    look.began = began
    return look


def all_looks(objects: Objects) -> list[Look]:
    """All entries, with their manifests and locks, which are read many at a time."""
    listed = objects.list("")
    keys = names_by_key({name.partition("/")[0] for name in listed})
    wanted = [f"{key}{suffix}" for key in keys for suffix in (".manifest.json", ".lock")]
    contents = objects.read(listed, *wanted)
    of_key: dict[str, dict[str, Listed]] = {key: {} for key in keys}
    for name, at in listed.items():
        of_key.get(name[:40], {})[name] = at
    return [Look(objects, key, own, contents) for key, own in of_key.items()]


class Looks:
    """The entries of a cache as they were last found.

    Attributes:
        root: where they are.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._found: dict[str, Look] = {}
        self._changes = 0
        self._complained = False

    def recent(self, key: str) -> Look:
        """An entry as it was found within a minute, if it is intact and can't change."""
        look = self._found.get(key)
        if look is None or look.flaw is not None:
            return self.now(key)
        is_fixed = look.manifest is not None and is_versioned(look.manifest.handle)
        return self.now(key, _SEEN_SECONDS if is_fixed else 0.0)

    def last(self, key: str) -> Look:
        """An entry as it was last found."""
        return self.now(key, float("inf"))

    def now(self, key: str, seconds: float = _MOMENT) -> Look:
        """An entry as it was found within so many seconds."""
        look = self._found.get(key)
        if look is None or time.monotonic() - look.began >= seconds:
            changes, objects = self._changes, open_objects(self.root)
            look = look_at(objects, key)
            if look.is_doubtful:
                look = look_at(objects, key)
            if changes == self._changes:  # or this may be what has just been replaced
                self._found[key] = look
        return look

    def remember(self, key: str, look: Look | None = None) -> None:
        """Notes that an entry is another now, and which, if that is known."""
        self._changes += 1
        self._found.pop(key, None)
        if look is not None:
            look.began -= _MOMENT
            self._found[key] = look

    def complain(self, error: BaseException) -> None:
        """Warns, once, that what is no longer needed can't be removed."""
        if not self._complained:
            self._complained = True
            what = "What is no longer needed in the cache %s can't be removed: %s"
            logging.warning(what, redact(self.root), error)
