"""A cache on a disk of this machine, or on one that machines share."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from typing import BinaryIO

from absl import logging

from tfhub_cache.manifest import Manifest
from tfhub_cache.store import ABSENT, Claim, Contender, Store, descriptor
from tfhub_cache.store.lock import HeldLock, LockContender, staging_folder


class LocalStore(Store):
    """Entries are folders; publishing is one rename."""

    def __init__(self, root: str) -> None:
        self._shown_root = root
        self._root = root.removeprefix("file://")
        self._expectations: dict[str, tuple[object, list[tuple[str, int]] | None]] = {}

    def path(self, key: str) -> str:
        return os.path.join(self._shown_root, key)

    def flaw(self, key: str) -> str | None:
        # Hot: this is what resolving a cached handle costs. One stat for each file and no more.
        entry = os.path.join(self._root, key)
        try:
            if _is_planted_link(self._root) or _is_planted_link(entry):
                return "another user has put a link in its place"
            expected = self._expected_sizes(key, entry)
            if expected is None:
                return _flaw_of_a_saved_model(entry)
            for path, size in expected:
                found = os.stat(path).st_size
                if found != size:
                    return f"{path} has {found} bytes instead of {size}"
        except FileNotFoundError as error:
            return f"{error.filename} is missing" if os.path.isdir(entry) else ABSENT
        except OSError as error:
            return f"{error.filename} can't be read: {error.strerror}"
        return None

    def contend(self, key: str, lock_timeout: float) -> Contender:
        os.makedirs(self._root, exist_ok=True)
        if _is_planted_link(self._root):
            raise PermissionError(
                errno.EPERM, f"{self._root} is a link that another user has put there"
            )
        return _LocalContender(self, key, os.path.abspath(self._root), lock_timeout)

    def _expected_sizes(self, key: str, entry: str) -> list[tuple[str, int]] | None:
        """Each file's path and size as the manifest has them; None without a manifest."""
        path = f"{entry}.manifest.json"
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._expectations.get(key)
        if known is None or known[0] != stamp:
            known = self._expectations[key] = (stamp, _read_sizes(path, entry))
        return known[1]


class _LocalContender(Contender):
    poll_seconds = 0.05

    def __init__(self, store: LocalStore, key: str, root: str, lock_timeout: float) -> None:
        self._store = store
        self._key = key
        self._root = root
        self._lock = LockContender(os.path.join(root, key), lock_timeout)

    def attempt(self) -> Claim | None:
        lock = self._lock.attempt()
        self.holder = self._lock.holder
        return None if lock is None else _LocalClaim(self._store, self._key, self._root, lock)


class _LocalClaim(Claim):
    def __init__(self, store: LocalStore, key: str, root: str, lock: HeldLock) -> None:
        self._store = store
        self._key = key
        self._root = root
        self._lock = lock
        self._entry = os.path.join(root, key)
        self._staging = staging_folder(self._entry, lock.owner.uid)
        try:
            self._sweep()
            os.mkdir(self._staging)
        except BaseException:
            lock.release()
            raise

    def make_folder(self, path: str) -> None:
        os.makedirs(os.path.join(self._staging, path), exist_ok=True)

    def create_file(self, path: str, *, replace: bool) -> BinaryIO:
        full_path = os.path.join(self._staging, path)
        os.makedirs(os.path.dirname(full_path), exist_ok=True)
        return open(full_path, "wb" if replace else "xb")

    def check_space(self, size: int) -> None:
        free = shutil.disk_usage(self._staging).free
        if size > free:
            raise OSError(
                errno.ENOSPC, f"No space left: a file of {size} bytes, and {free} are free"
            )

    def clear(self) -> None:
        shutil.rmtree(self._staging)
        os.mkdir(self._staging)

    def publish(self, manifest: Manifest) -> None:
        # First everything that can fail for want of space, then the renames.
        beside = {
            self._write(".descriptor.tmp", descriptor(manifest)): f"{self._entry}.descriptor.txt",
            self._write(".manifest.tmp", manifest.to_json()): f"{self._entry}.manifest.json",
        }
        if os.path.lexists(self._entry):
            if self._store.flaw(self._key) is None:
                logging.warning("Module already exists in %s", self._entry)
                return
            # No system but Linux exchanges two folders in one step. Without a manifest or an
            # entry in between, readers see that there is none.
            os.rename(self._entry, self._beside(".old.tmp"))
        try:
            for unfinished, finished in beside.items():
                os.replace(unfinished, finished)
            os.rename(self._staging, self._entry)
        except OSError:
            if not os.path.isdir(self._entry):
                with contextlib.suppress(OSError):
                    os.rename(self._beside(".old.tmp"), self._entry)
                raise
            logging.warning("Module already exists in %s", self._entry)

    def release(self) -> None:
        for suffix in ".tmp", ".old.tmp", ".descriptor.tmp", ".manifest.tmp":
            _remove(self._beside(suffix))
        self._lock.release()

    def _beside(self, suffix: str) -> str:
        """A name of our own beside the entry, which the next holder sweeps away if we die."""
        return f"{self._entry}.{self._lock.owner.uid}{suffix}"

    def _sweep(self) -> None:
        """Removes what dead holders left of this entry. Nobody alive but us works on it."""
        for name in os.listdir(self._root):
            if name.startswith(f"{self._key}.") and name.endswith(".tmp"):
                _remove(os.path.join(self._root, name))

    def _write(self, suffix: str, text: str) -> str:
        path = self._beside(suffix)
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
        return path


def _is_planted_link(path: str) -> bool:
    """Whether a path is a link that belongs neither to this user nor to the administrator."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, _user())


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # Windows tells no owners


def _read_sizes(path: str, entry: str) -> list[tuple[str, int]] | None:
    try:
        with open(path, "rb") as file:
            manifest = Manifest.from_json(file.read())
    except ValueError:
        return None  # as good as none: the entry itself may be sound
    return [(os.path.join(entry, file.path), file.size) for file in manifest.files]


def _flaw_of_a_saved_model(entry: str) -> str | None:
    """What a folder lacks to be a SavedModel, as far as names tell."""
    names = set(os.listdir(entry))
    if names.isdisjoint(("saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb")):
        return f"{entry} contains neither 'saved_model.pb' nor 'saved_model.pbtxt'"
    if "variables" in names:
        variables = set(os.listdir(os.path.join(entry, "variables")))
        if variables:
            return _flaw_of_variables(os.path.join(entry, "variables"), variables)
    return None


def _flaw_of_variables(folder: str, names: set[str]) -> str | None:
    if "variables.index" not in names:
        return f"{os.path.join(folder, 'variables.index')} is missing"
    shards = [name for name in names if name.startswith("variables.data-")]
    expected = shards[0].rpartition("-of-")[2] if shards else ""
    if not expected.isdecimal() or len(shards) != int(expected):
        return f"{folder} holds {len(shards)} of {expected or 'the'} data files"
    return None


def _remove(path: str) -> None:
    """Removes a file or a folder, as far as that can be done; a link itself, not its target."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
