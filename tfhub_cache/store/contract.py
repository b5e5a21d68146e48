"""The file system under a cache: local disk, or an object store.

One class per kind hides every difference; no caller asks which one it is. What is on it is the
truth: no database, no index, no state that could disagree with the folders.
The layout is tensorflow_hub's, plus the manifest. For the entry `<key>`, the sha1 of a handle:

    <key>/                the model, exactly as published
    <key>.manifest.json   what was downloaded, and each file's size and digest
    <key>.descriptor.txt  for people: handle, time, host
    <key>.lock            while a process downloads: `<host>.<pid>.<uid>`
    <key>.part            what has been received of the archive, and
    <key>.part.json       which archive and which of its bytes that is
    <key>.<uid>.tmp/      the folder that a process is filling
    <key>.<uid>.*.tmp     what else it needs for a moment, to publish and to tidy up

The time of an entry's folder is that of its last use; in a bucket that of `<key>.used`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import BinaryIO, Protocol

from tfhub_cache.manifest import Manifest
from tfhub_cache.store.entry import Condition, Entry, describe
from tfhub_cache.store.flaw import ABSENT, Flaw
from tfhub_cache.transfer.spool import Identity, Spool

MOMENT = 2.0
"""Seconds within which an entry that is being replaced is there again."""
_LOOK_EVERY = 0.05


class Staging(Protocol):
    """The folder in which an entry is made. Paths are relative, with forward slashes."""

    def make_folder(self, path: str) -> None:
        """Makes a folder, and those above it; it may exist."""

    def create_file(self, path: str, size: int, *, replace: bool) -> BinaryIO:
        """Opens a file for writing, in folders made as needed.

        Args:
            path: the file.
            size: how many bytes will be written.
            replace: whether a file of that name may be there already.

        Raises:
            FileExistsError: if it is there and must not.
            OSError: with `errno.EFBIG` if it is larger than the room that there is, and with
                `errno.ENOSPC` if there is none.
        """

    def clear(self) -> None:
        """Removes everything from the folder."""


class Claim(Staging, Protocol):
    """The right to make one entry, and the folder in which it is made. See `Store.contend`.

    Only `attempt`, `progress` and `release` may be called without having it. `release` must follow.
    """

    poll_seconds: float
    """How long to wait between two attempts."""

    holder: str = ""
    """Which process had the claim at the last attempt, for people."""

    def attempt(self) -> Claim | None:
        """Tries once to get the claim.

        The claim of a crashed process is taken over. On this machine a crash is certain; of another
        machine it means: without a sign of life for the lock timeout. After the claim was got and
        lost, it means that on this machine, too.

        Returns:
            This, or None while a running process has the claim.

        Raises:
            OSError: if the store can't be written.
        """

    def progress(self) -> tuple[int, int | None]:
        """How far the holder is: bytes so far, and in all if that is known. For people.

        Raises:
            OSError: if the store can't be asked.
        """

    def spool(self, identity: Identity) -> Spool | None:
        """A place for an archive's bytes, which has those that an earlier attempt has received.

        Returns:
            None if they can't be kept.

        Raises:
            OSError: if the store refuses.
        """

    def publish(self, manifest: Manifest) -> None:
        """Makes what was written the entry. A damaged one is replaced.

        On a disk a new entry appears in one step. For one that is replaced there are two, and
        between them readers see that there is none.

        If another process published an intact entry in the meantime (tensorflow_hub may), theirs
        stays, unless the claim is there to replace it.

        Args:
            manifest: what was written.

        Raises:
            OSError: if the store refuses. The entry is then as it was before, or that of another
                process, which the caller has to look at.
        """

    def is_lost(self) -> bool:
        """Whether another process has taken the claim over, as it saw no sign of life of ours.

        Where that can't be found out, it has not.
        """

    def release(self) -> None:
        """Gives up the claim, if it was got, and removes what was not published.

        It never fails: what can't be removed is in the way of the next process, which says so.
        """


class Store(Protocol):
    """What a cache needs of its file system."""

    def path(self, key: str) -> str:
        """The path of an entry, as TensorFlow and users read it."""

    def flaw(self, key: str) -> Flaw | None:
        """Why an entry can't be used, or None if it is intact. Cheap: called by every resolve.

        Every file that the manifest lists must be there and have its size. An entry without a
        manifest, as tensorflow_hub makes them, must look like a SavedModel.
        """

    def manifest(self, key: str) -> Manifest | None:
        """The manifest of an entry that `flaw` has just found intact. Cheap, as `flaw`.

        None if it has none, such as an entry that tensorflow_hub made.
        """

    def record_use(self, key: str) -> float:
        """Records that an entry is used now, unless that was done within the last hour.

        It never fails: where it can't be written, it is not recorded.

        Returns:
            Seconds after which to call it again.
        """

    def contend(
        self, key: str, lock_timeout: float, keep_free: int, *, replace: bool = False
    ) -> Claim:
        """The claim for an entry, which `Claim.attempt` gets.

        Args:
            key: the entry.
            lock_timeout: seconds without a sign of life after which another machine's claim
                is void.
            keep_free: bytes of a disk that are to stay free.
            replace: whether an intact entry is replaced, too. Until then it can be used.
        """

    # What follows is for looking after the cache. A resolve of a cached model calls none of it.

    def entries(self, lock_timeout: float, key: str = "") -> list[Entry]:
        """All entries, in no particular order. Nothing is locked or changed.

        Args:
            lock_timeout: see `contend`.
            key: the entry that is asked for; empty: all of them.

        Raises:
            OSError: if the cache can't be read. That there is no cache is not an error.
        """

    def entry(self, key: str, lock_timeout: float) -> Entry:
        """One entry, also if there is nothing of it."""
        found = self.entries(lock_timeout, key)
        return found[0] if found else describe(key, self.path(key), {}, ABSENT)

    def settled(
        self,
        key: str,
        lock_timeout: float,
        is_settled: Callable[[Entry], bool],
        seconds: float = MOMENT,
    ) -> Entry:
        """Waits for an entry that another process replaces or removes at this moment.

        Args:
            key: the entry.
            lock_timeout: see `contend`.
            is_settled: whether it is as it was waited for.
            seconds: how long to wait at most.

        Returns:
            The entry when it is settled, when no process holds it, or when the time is up.
        """
        deadline = time.monotonic() + seconds
        while True:
            entry = self.entry(key, lock_timeout)
            if entry.holder is None or is_settled(entry) or time.monotonic() >= deadline:
                return entry
            time.sleep(_LOOK_EVERY)

    def files(self, key: str) -> dict[str, object]:
        """The paths of an entry's files as they are now, with forward slashes.

        Each has a value by which a change of the file is noticed: of its size and time.
        """

    def open_file(self, key: str, path: str) -> BinaryIO:
        """Opens one of an entry's files for reading; it can seek.

        Raises:
            OSError: if it can't be read; `FileNotFoundError` if it is not there.
        """

    def tidy(self, key: str, lock_timeout: float, condition: Condition) -> bool:
        """Removes what crashed processes left of an entry, and on a condition the entry itself.

        It does not wait for a process that has the claim. On a disk it is done with the claim; in a
        bucket, what a process begins in the meantime has other names. Readers see the whole entry
        or none.

        Args:
            key: the entry.
            lock_timeout: see `contend`.
            condition: is called with the entry, if there is one.

        Returns:
            Whether the entry was removed.

        Raises:
            InUse: if a running process has the claim. Nothing was done then.
            OSError: if something can't be removed.
        """

    def exists(self) -> bool:
        """Whether the cache is there. Where folders come with what is in them, it always is."""
        return True

    def occupied(self) -> int | None:
        """Bytes of all that is in the cache, or more; None if that is known from `entries` only.

        Raises:
            OSError: if the cache can't be read.
        """
        return None

    def free_space(self) -> int | None:
        """How many bytes are free where the cache is; None where that has no limit."""
