"""A cache on a disk of this machine, or on one that machines share."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import stat
import time
from typing import BinaryIO

from absl import logging

from tfhub_cache.manifest import MOST_BYTES, Manifest, UnknownFormat
from tfhub_cache.store.contract import Claim, Store
from tfhub_cache.store.disk import files, inventory
from tfhub_cache.store.disk.aside import check_replaceable, discard, move_aside
from tfhub_cache.store.disk.lock import Lock
from tfhub_cache.store.disk.part import PART, discard_part, look_at_part, open_part
from tfhub_cache.store.entry import RECORD_SECONDS, Condition, Entry
from tfhub_cache.store.flaw import ABSENT, Flaw, FlawKind, flaw_without_manifest
from tfhub_cache.transfer.spool import Identity, Spool

_ROOM = 4
"""How many times its archive's size must be free for the archive to be kept beside the model."""


_SUFFIXES = ".manifest.tmp", ".descriptor.tmp", ".manifest.old.tmp", ".old.tmp", ".tmp"
"""Of what a process that makes an entry has beside it."""


class LocalStore(Store):
    """Entries are folders; publishing is one rename."""

    def __init__(self, root: str) -> None:
        self._shown_root = root
        self._root = os.path.abspath(root.removeprefix("file://"))
        # Manifests as they were read, with the stamps of their files; paths and sizes of files.
        self._manifests: dict[str, tuple[object, Manifest | None, list[tuple[str, int]]]] = {}

    def path(self, key: str) -> str:
        return os.path.join(self._shown_root, key)

    def flaw(self, key: str) -> Flaw | None:
        # Hot: this is what resolving a cached handle costs. One stat for each file and no more.
        entry = os.path.join(self._root, key)
        try:
            for place in self._root, entry:
                if os.path.islink(place) and files.is_planted_link(place):
                    return Flaw(FlawKind.PLANTED_LINK)
            manifest, sizes = self._expected(key, entry)
            if manifest is None:
                names = os.listdir(entry)
                has_variables = "variables" in names
                variables = os.listdir(os.path.join(entry, "variables")) if has_variables else ()
                return flaw_without_manifest(names, variables)
            for path, size in sizes:
                found = os.stat(path)
                if not stat.S_ISREG(found.st_mode):
                    return Flaw(FlawKind.NOT_REGULAR, (path,))
                if found.st_size != size:
                    return Flaw(FlawKind.OTHER_SIZE, (path, found.st_size, size))
        except FileNotFoundError as error:
            is_there = os.path.isdir(entry)
            return Flaw(FlawKind.MISSING, (error.filename,)) if is_there else ABSENT
        except ValueError:
            return Flaw(FlawKind.MANIFEST_UNREADABLE) if os.path.isdir(entry) else ABSENT
        except OSError as error:
            if not os.path.isdir(self._root):
                return ABSENT
            if isinstance(error, PermissionError):
                return Flaw(FlawKind.NOT_PERMITTED, (error.filename,))
            return Flaw(FlawKind.UNREADABLE, (error.filename, error.strerror))
        return None

    def manifest(self, key: str) -> Manifest | None:
        return self._manifests[key][1] if key in self._manifests else None

    def record_use(self, key: str) -> float:
        entry = os.path.join(self._root, key)
        with contextlib.suppress(OSError):  # the cache may be another user's
            age = time.time() - os.stat(entry).st_mtime
            if 0 <= age < RECORD_SECONDS:
                return RECORD_SECONDS - age
            os.utime(entry)
        return RECORD_SECONDS

    def contend(
        self, key: str, lock_timeout: float, keep_free: int, *, replace: bool = False
    ) -> Claim:
        self._check_root()
        os.makedirs(self._root, exist_ok=True)
        lock = Lock(os.path.join(self._root, key), lock_timeout)
        return _LocalClaim(self, self._root, key, lock, keep_free, replace)

    def entries(self, lock_timeout: float, key: str = "") -> list[Entry]:
        self._check_root()
        return inventory.entries(self, self._root, lock_timeout, key)

    def files(self, key: str) -> dict[str, object]:
        found = files.files_below(os.path.join(self._root, key))
        return {path: (status.st_size, status.st_mtime_ns) for path, status in found}

    def open_file(self, key: str, path: str) -> BinaryIO:
        return files.open_below(os.path.join(self._root, key), path)

    def tidy(self, key: str, lock_timeout: float, condition: Condition) -> bool:
        self._check_root()
        return inventory.tidy(self, self._root, key, lock_timeout, condition)

    def exists(self) -> bool:
        return os.path.isdir(self._root)

    def free_space(self) -> int | None:
        folders = [self._root, *map(str, pathlib.PurePath(self._root).parents)]
        existing = filter(os.path.isdir, folders)
        return next((shutil.disk_usage(folder).free for folder in existing), None)

    def _check_root(self) -> None:
        files.check_not_planted(self._root)
        if os.path.lexists(self._root) and not os.path.isdir(self._root):
            raise NotADirectoryError(errno.ENOTDIR, "It is not a folder", self._root)

    def _expected(self, key: str, entry: str) -> tuple[Manifest | None, list[tuple[str, int]]]:
        """The manifest of an entry, if there is one, and each file's path and size in it."""
        path = f"{entry}.manifest.json"
        try:
            status = os.stat(path)
        except FileNotFoundError:
            self._manifests.pop(key, None)
            return None, []
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._manifests.get(key)
        if known is None or known[0] != stamp:
            manifest, sizes = None, []
            with contextlib.suppress(UnknownFormat):  # of a later version, perhaps
                manifest = Manifest.from_json(files.read(path, MOST_BYTES))
                sizes = [(os.path.join(entry, file.path), file.size) for file in manifest.files]
            known = self._manifests[key] = stamp, manifest, sizes
        return known[1:]


class _LocalClaim(Claim):
    poll_seconds = 0.05

    def __init__(
        self, store: LocalStore, root: str, key: str, lock: Lock, keep_free: int, replace: bool
    ) -> None:
        self._store = store
        self._root = root
        self._key = key
        self._lock = lock
        self._keep_free = keep_free
        self._replace = replace
        self._entry = os.path.join(root, key)
        self._staging = self._beside(".tmp")
        self._manifest: os.stat_result | None = None  # ours, once it is written

    def attempt(self) -> Claim | None:
        self._manifest = None
        is_got = self._lock.attempt() is not None
        self.holder = self._lock.holder
        if is_got and self._begin():
            return self
        self.release()
        return None

    def progress(self) -> tuple[int, int | None]:
        part = look_at_part(self._entry)
        if part is None:
            return self._lock.unpacked(), None
        identity, received = part
        return received, identity.size

    def _begin(self) -> bool:
        """Removes what crashed processes left, and makes the folder; False if the lock is lost.

        Raises:
            OSError: if that is not possible, or what is in the way of the entry can't be replaced.
        """
        if self._replace or self._store.flaw(self._key) is not None:
            for suffix in "", ".manifest.json", ".descriptor.txt":
                if os.path.lexists(self._entry + suffix):
                    check_replaceable(self._entry + suffix)  # or the download would be in vain
        names = os.listdir(self._root)
        if self.is_lost():  # checked after the listing, in which nothing is a successor's then
            return False
        for name in names:
            if name.startswith(f"{self._key}.") and name.endswith(".tmp"):
                discard(os.path.join(self._root, name))
        os.mkdir(self._staging)
        return True

    def spool(self, identity: Identity) -> Spool | None:
        self._check_not_lost()  # if it is, the part file is another process's
        there = look_at_part(self._entry)
        free = shutil.disk_usage(self._root).free - self._keep_free + (there[1] if there else 0)
        # What can't be removed may be another user's, or a folder; it works without.
        with contextlib.suppress(OSError):
            if free > _ROOM * identity.size:  # it must not take the model's room
                return open_part(self._entry, identity, self.is_lost)
            discard_part(self._entry)
        return None

    def make_folder(self, path: str) -> None:
        # Not os.makedirs: the staging folder itself must not be made again. If it is gone, another
        # process took the lock over, and what is missing in it would go unnoticed.
        folder = self._staging
        for name in path.split("/"):
            folder = os.path.join(folder, name)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)

    def create_file(self, path: str, size: int, *, replace: bool) -> BinaryIO:
        free = shutil.disk_usage(self._staging).free
        if size > free - self._keep_free:
            # With room, the disk is not full: the archive says that the file is too large for it.
            raise OSError(
                errno.EFBIG if free > self._keep_free else errno.ENOSPC,
                f"No space left: a file of {size} bytes, and {free} are free, of which "
                f"{self._keep_free} must stay free",
            )
        folder = path.rpartition("/")[0]
        if folder:
            self.make_folder(folder)
        return open(os.path.join(self._staging, path), "wb" if replace else "xb")

    def clear(self) -> None:
        shutil.rmtree(self._staging)
        os.mkdir(self._staging)

    def is_lost(self) -> bool:
        with contextlib.suppress(OSError):
            return not self._lock.is_held()
        return False

    def publish(self, manifest: Manifest) -> None:
        # First everything that can fail for want of space, then the renames.
        beside = {
            self._write(".descriptor.tmp", manifest.descriptor()): f"{self._entry}.descriptor.txt",
            self._write(".manifest.tmp", manifest.to_json()): f"{self._entry}.manifest.json",
        }
        self._check_not_lost()
        with contextlib.suppress(OSError):
            os.utime(self._staging)  # its last use is now, however long the download took
        self._manifest = os.stat(self._beside(".manifest.tmp"))
        if os.path.lexists(self._entry):
            if not self._replace and self._store.flaw(self._key) is None:
                logging.warning("Module already exists in %s", self._entry)
                return
            # No system but Linux exchanges two folders in one step. Without an entry in between,
            # readers see that there is none.
            move_aside(self._entry, self._beside(".old.tmp"))
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self._entry}.manifest.json", self._beside(".manifest.old.tmp"))
        # A process that does not see our lock may publish too: this fails then, and the release
        # takes back what is half done.
        for unfinished, finished in beside.items():
            if os.path.isdir(finished):  # which a file can't replace
                discard(finished)
            os.replace(unfinished, finished)
        os.rename(self._staging, self._entry)
        if os.path.lexists(self._entry + PART):  # of an earlier version, which was of no use
            with contextlib.suppress(OSError):
                discard_part(self._entry)

    def _take_back(self) -> None:
        """Takes back our manifest, and what was moved aside, if the entry was not published."""
        if self._manifest is None or not os.path.lexists(self._staging) or self.is_lost():
            return
        manifest = f"{self._entry}.manifest.json"
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(manifest), self._manifest):
                os.unlink(manifest)
        if not os.path.lexists(self._entry):
            with contextlib.suppress(OSError):
                os.rename(self._beside(".manifest.old.tmp"), manifest)
            with contextlib.suppress(OSError):
                os.rename(self._beside(".old.tmp"), self._entry)

    def release(self) -> None:
        with (
            contextlib.suppress(OSError),  # the next process that wants the entry says so
            contextlib.ExitStack() as last_to_first,  # to the end, whatever interrupts one step
        ):
            last_to_first.callback(self._lock.release)
            for path in map(self._beside, _SUFFIXES):
                if os.path.lexists(path):
                    last_to_first.callback(discard, path)
            last_to_first.callback(self._take_back)

    def _check_not_lost(self) -> None:
        if self.is_lost():
            raise OSError(errno.ESTALE, "Another process took the lock over")

    def _beside(self, suffix: str) -> str:
        """A name of our own beside the entry; after a crash the lock's next owner removes it."""
        return f"{self._entry}.{self._lock.owner.uid}{suffix}"

    def _write(self, suffix: str, text: str) -> str:
        path = self._beside(suffix)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        return path
