"""What a listing and a manifest say of an entry: which folder is the model, and what is garbage."""

from __future__ import annotations

import contextlib
import functools
import re
from collections import defaultdict
from collections.abc import Mapping

from tfhub_cache.manifest import MOST_BYTES, Manifest
from tfhub_cache.store.bucket.objects import Listed, Objects
from tfhub_cache.store.entry import DESCRIPTOR_BYTES, Entry, describe
from tfhub_cache.store.flaw import ABSENT, Flaw, FlawKind, flaw_without_manifest
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner

held: set[str] = set()
"""The uids by which this process has locks now."""
_FOLDER = re.compile(rb'\{\n  "folder": "([0-9a-f]{40}\.cache-[0-9a-f]+)",\n')
_ATTEMPT = re.compile(r"[0-9a-f]{40}\.(cache-[0-9a-f]+|([0-9a-zA-Z-]+)(\.old)?\.tmp)")
"""The folder of an attempt; those in `.tmp` are tensorflow_hub's, or of earlier versions."""


def with_folder(manifest: Manifest, folder: str) -> bytes:
    """The manifest as it is kept in a bucket: first of all it names the folder of the files."""
    return f'{{\n  "folder": "{folder}",{manifest.to_json()[1:]}'.encode()


class Look:
    """An entry as it was found.

    Attributes:
        key: its name.
        listed: all its objects.
        objects: where.
    """

    def __init__(self, objects: Objects, key: str, listed: Mapping[str, Listed]) -> None:
        self.key = key
        self.listed = listed
        self.objects = objects
        self.contents: dict[str, bytes | None] = {}

    def content(self, suffix: str) -> bytes | None:
        """What one of its objects has in it, read when it is needed; None if there is no such one.

        What is too large is not what it should be, and is not read.
        """
        name = f"{self.key}{suffix}"
        if name not in self.listed:
            return None
        if self.listed[name].size > MOST_BYTES:
            return b""
        if name not in self.contents:
            self.contents[name] = self.objects.read_many([name]).get(name)
        return self.contents[name]

    def wanted(self) -> list[str]:
        """What is always read of it."""
        names = self._named(".manifest.json", ".lock")
        return [name for name in names if self.listed[name].size <= MOST_BYTES]

    @functools.cached_property
    def folder(self) -> str:
        """The folder with the model's files.

        Where no manifest names another it is the key, as tensorflow_hub has it, and earlier
        versions of this library.
        """
        named = _FOLDER.match(self.content(".manifest.json") or b"")
        folder = named[1].decode() if named else self.key
        return folder if folder.startswith(self.key) else self.key

    @functools.cached_property
    def manifest(self) -> Manifest | None:
        """The manifest, if there is a valid one."""
        with contextlib.suppress(ValueError):
            if (content := self.content(".manifest.json")) is not None:
                return Manifest.from_json(content)
        return None

    @functools.cached_property
    def files(self) -> dict[str, Listed]:
        """The model's files, by their paths."""
        begin = f"{self.folder}/"
        names = self.listed.items()
        return {name[len(begin) :]: at for name, at in names if name.startswith(begin)}

    @functools.cached_property
    def flaw(self) -> Flaw | None:
        """Why the entry can't be used."""
        manifest = self.manifest
        if not self.files or (manifest is None and self._is_unfinished):
            return ABSENT
        if manifest is None and self.folder == self.key and self._named(".manifest.json"):
            return Flaw(FlawKind.MANIFEST_UNREADABLE)
        if manifest is None:
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
    def lock(self) -> str | None:
        """What the lock says; None if there is none."""
        content = self.content(".lock")
        return None if content is None else content.decode("utf-8", "replace")

    def holder(self, lock_timeout: float) -> str:
        """Which process has the lock, by our system or by the store's clock; empty: none."""
        there, lock = self.listed.get(f"{self.key}.lock"), self.lock
        if there is None or lock is None:
            return ""
        owner = Owner.parse(lock)
        if owner is not None and owner.is_here:
            # An earlier process may have had this one's number, as the first of a container has.
            is_orphan = owner.is_this_process and owner.is_ours and owner.uid not in held
            if is_orphan or not owner.process_exists():
                return ""
        silent = self.objects.now() - there.written
        return "" if silent >= patience(lock, lock_timeout) else lock or "unknown"

    @property
    def used(self) -> float:
        """When it was last used: the time of `<key>.used`, at first that of the entry."""
        found = [self.listed[name] for name in self._named(".used", ".manifest.json")]
        return max((at.written for at in [*found, *self.files.values()]), default=0.0)

    def garbage(self, grace: float, holder: str = "") -> list[str]:
        """The objects of attempts that are over, in folders that no manifest names.

        Args:
            grace: seconds for which a folder stays after it was written or replaced, as readers
                may have its path.
            holder: the process that is filling a folder now.
        """
        folders: dict[str, list[str]] = defaultdict(list)
        for name in self.listed:
            top = name.partition("/")[0]
            if _ATTEMPT.fullmatch(top) and top != self.folder and not _is_filling(holder, top):
                folders[top].append(name)
        found = []
        for names in folders.values():
            last = max(
                self.listed[name].written for name in [*names, *self._named(".manifest.json")]
            )
            # A server's clock shows full seconds only.
            if max(0.0, self.objects.now() - last) >= grace:
                found += names
        return found

    def _named(self, *suffixes: str) -> list[str]:
        names = (f"{self.key}{suffix}" for suffix in suffixes)
        return [name for name in names if name in self.listed]

    def sizes(self, holder: str, grace: float) -> dict[str, int]:
        """Bytes by the names at the top; the model's are under its key, recent garbage is not."""
        garbage = {*self.garbage(grace, holder)}
        sizes: dict[str, int] = defaultdict(int)
        for name, at in self.listed.items():
            top = name.partition("/")[0]
            if top == self.folder:
                sizes[self.key] += at.size
            elif name in garbage or _is_filling(holder, top) or not _ATTEMPT.fullmatch(top):
                sizes[top] += at.size
        return sizes

    def entry(self, path: str, lock_timeout: float, grace: float) -> Entry:
        """What users see of it."""
        holder = self.holder(lock_timeout)
        descriptor = None if self.manifest else self.content(".descriptor.txt")
        return describe(
            self.key,
            path,
            self.sizes(holder, grace),
            self.flaw,
            files=[at.size for at in self.files.values()],
            used=self.used or None,
            holder=holder or None,
            manifest=self.manifest,
            descriptor=(descriptor or b"")[:DESCRIPTOR_BYTES].decode("utf-8", "replace"),
        )


def patience(lock: str, lock_timeout: float) -> float:
    """Seconds without a heartbeat after which a lock is void."""
    owner = Owner.parse(lock)
    return lock_timeout if owner is not None and owner.is_ours else TENSORFLOW_HUB_TIMEOUT


def _is_filling(holder: str, top: str) -> bool:
    """Whether a folder is that of a process, `<host>.<pid>.<uid>`."""
    return bool(holder) and top[41:].partition(".")[0] == holder.rpartition(".")[2]


def look_at(objects: Objects, key: str) -> Look:
    """One entry, also if there is nothing of it."""
    return Look(objects, key, objects.list(key))


def all_looks(objects: Objects) -> list[Look]:
    """All entries, with their manifests and locks, which are read many at a time."""
    of_key: dict[str, dict[str, Listed]] = defaultdict(dict)
    for name, at in objects.list("").items():
        if re.match(r"[0-9a-f]{40}([./]|$)", name):
            of_key[name[:40]][name] = at
    found = [Look(objects, key, listed) for key, listed in of_key.items()]
    wanted = [name for look in found for name in look.wanted()]
    contents: dict[str, bytes | None] = {**dict.fromkeys(wanted), **objects.read_many(wanted)}
    for look in found:
        look.contents = contents
    return found
