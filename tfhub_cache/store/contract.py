"""The file system under a cache: local disk, or an object store.

One class per kind hides every difference; nobody above asks which one it is. What is on it is
the truth: no database, no index, no state that could disagree with the folders.
The layout is tensorflow_hub's but for the manifest. For the entry `<key>`, the sha1 of a handle:

    <key>/                the model, exactly as published
    <key>.manifest.json   what was downloaded, and each file's size and digest
    <key>.descriptor.txt  for people: handle, time, host
    <key>.lock            while somebody downloads: `<host>.<pid>.<uid>`
    <key>.part            what has been received of the archive, and
    <key>.part.json       which archive and which of its bytes that is
    <key>.<uid>.tmp/      the folder that somebody is filling
    <key>.<uid>.*.tmp     what else they need for a moment, to publish and to tidy up

When an entry was last used is told by the time of its folder, in a bucket by that of `<key>.used`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection
from types import TracebackType
from typing import BinaryIO

from tfhub_cache.manifest import Archive, Manifest
from tfhub_cache.store.entry import ABSENT, Condition, Entry
from tfhub_cache.transfer.spool import Identity, Spool

__all__ = ["ABSENT", "Claim", "Contender", "Staging", "Store", "descriptor", "open_store"]


class Staging(abc.ABC):
    """The folder in which an entry is made. Paths are relative, with forward slashes."""

    @abc.abstractmethod
    def make_folder(self, path: str) -> None:
        """Makes a folder, and those above it; it may exist."""

    @abc.abstractmethod
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

    @abc.abstractmethod
    def clear(self) -> None:
        """Removes everything from the folder."""


class Claim(Staging):
    """The right to make one entry, and the folder in which it is made.

    A context manager: leaving it gives up the claim and removes what was not published.
    """

    @abc.abstractmethod
    def leftover(self) -> Spool | None:
        """What an earlier attempt has received of an archive, to go on with if it is the same."""

    @abc.abstractmethod
    def spool(self, identity: Identity) -> Spool | None:
        """A place for an archive's bytes, empty. It replaces what an earlier attempt has left.

        Returns:
            None if they can't be kept.

        Raises:
            OSError: if the store refuses.
        """

    @abc.abstractmethod
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

    @abc.abstractmethod
    def is_lost(self) -> bool:
        """Whether somebody has taken the claim over, since they saw no sign of life of us."""

    @abc.abstractmethod
    def release(self) -> None:
        """Gives up the claim and removes what was not published."""

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.release()
        except OSError:
            if kind is None:  # what ended it is more important
                raise


class Contender(abc.ABC):
    """Somebody who wants to make an entry, and may have to wait for somebody else."""

    poll_seconds: float
    """How long to wait between two attempts."""

    holder: str
    """Who was in the way at the last attempt, for people."""

    @abc.abstractmethod
    def progress(self) -> tuple[int, int | None]:
        """How far the holder is: bytes so far, and in all if that is known. For people.

        Raises:
            OSError: if the store can't be asked.
        """

    @abc.abstractmethod
    def attempt(self) -> Claim | None:
        """Tries once to get the claim.

        A holder that is dead is cleared away. "Dead" is certain on this machine; of another
        machine it means: without a sign of life for the lock timeout. After a claim that was got
        has been lost, it means that on this machine, too.

        Returns:
            The claim, or None while somebody alive has it.

        Raises:
            OSError: if the store can't be written.
        """


class Store(abc.ABC):
    """What a cache needs of its file system."""

    @abc.abstractmethod
    def path(self, key: str) -> str:
        """The path of an entry, as TensorFlow and users read it."""

    @abc.abstractmethod
    def flaw(self, key: str) -> str | None:
        """Why an entry can't be used, or None if it can. Cheap: asked at every resolve.

        Every file that the manifest lists must be there and have its size. An entry without a
        manifest, as tensorflow_hub makes them, must look like a SavedModel.

        Returns:
            `ABSENT` if there is no entry, words for people if it is damaged, None if it is whole.
        """

    @abc.abstractmethod
    def archive(self, key: str) -> Archive | None:
        """The archive of which an entry was made that `flaw` has just found whole.

        None if nothing tells it, as of an entry that tensorflow_hub made. Cheap, as `flaw`.
        """

    @abc.abstractmethod
    def is_claimed(self, key: str) -> bool:
        """Whether a lock says that somebody is making the entry, or died before tidying up.

        Cheap: asked at every resolve.
        """

    @abc.abstractmethod
    def record_use(self, key: str) -> float:
        """Records that an entry is used now, unless that was done within the last hour.

        It never fails: where it can't be written, it is not recorded.

        Returns:
            Seconds after which it is to be asked again.
        """

    @abc.abstractmethod
    def contend(
        self, key: str, lock_timeout: float, keep_free: int, *, replace: bool = False
    ) -> Contender:
        """Prepares to make an entry.

        Args:
            key: the entry.
            lock_timeout: seconds without a sign of life after which another machine's claim
                is void.
            keep_free: bytes of a disk that are to stay free.
            replace: whether a sound entry is to be replaced, too. Until then it can be used.
        """

    # What follows is for those who care for the cache. None of it is on the way of a resolve.

    @abc.abstractmethod
    def entries(self, lock_timeout: float) -> list[Entry]:
        """All that there is, in no particular order. Nothing is locked or changed.

        Args:
            lock_timeout: as of `contend`.

        Raises:
            OSError: if the cache can't be read. That there is none is no error.
        """

    @abc.abstractmethod
    def entry(self, key: str, lock_timeout: float) -> Entry:
        """What there is of one entry; its flaw is `ABSENT` if there is none."""

    @abc.abstractmethod
    def files(self, key: str) -> dict[str, int]:
        """The paths of an entry's files as they are now, with forward slashes, and their sizes."""

    @abc.abstractmethod
    def open_file(self, key: str, path: str) -> BinaryIO:
        """Opens one of an entry's files for reading; it can seek.

        Raises:
            OSError: if it can't be read; `FileNotFoundError` if it is not there.
        """

    @abc.abstractmethod
    def tidy(
        self,
        key: str,
        lock_timeout: float,
        condition: Condition,
        leftovers: Collection[str] | None = None,
    ) -> bool:
        """Removes what the dead left of an entry, and the entry itself on a condition.

        It is done with the right to make the entry, so that nobody makes it at the same time. It
        does not wait for it. Readers see the whole entry or none.

        Args:
            key: the entry.
            lock_timeout: as of `contend`.
            condition: asked of the entry, if there is one.
            leftovers: what the dead left of it, as far as it is known, as `Entry.leftovers`. None:
                it is looked for, which on a disk means to list the whole cache.

        Returns:
            Whether the entry was removed.

        Raises:
            InUse: if somebody alive has the right. Nothing was done then.
            OSError: if something can't be removed.
        """

    @abc.abstractmethod
    def free_space(self) -> int | None:
        """How many bytes are free where the cache is; None where that has no limit."""


def descriptor(manifest: Manifest) -> str:
    """The text of the descriptor file, line by line as tensorflow_hub writes it."""
    made = manifest.downloaded
    handle = manifest.handle.replace("\r", "\\r").replace("\n", "\\n")
    return (
        f"Module: {handle}\nDownload Time: {made.time}\n"
        f"Downloader Hostname: {made.host} (PID:{made.pid})"
    )


def open_store(root: str) -> Store:
    """The store for a cache folder as users write it."""
    openers: dict[str, Callable[[str], Store]] = {"": _open_local, "file": _open_local}
    scheme = root.partition("://")[0].lower() if "://" in root else ""
    return openers.get(scheme, _open_bucket)(root)


def _open_local(root: str) -> Store:
    from tfhub_cache.store.disk.store import LocalStore

    return LocalStore(root)


def _open_bucket(root: str) -> Store:
    from tfhub_cache.store.bucket.store import BucketStore

    return BucketStore(root)
