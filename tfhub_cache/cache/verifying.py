"""Verifying models: every byte is read and compared with what was downloaded."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from tfhub_cache import settings
from tfhub_cache.cache.listing import entries, find, reading
from tfhub_cache.errors import CacheError
from tfhub_cache.manifest import File
from tfhub_cache.store.contract import Store
from tfhub_cache.store.entry import Entry
from tfhub_cache.urls import as_meant, key_of

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Verified:
    """What came of verifying an entry.

    Attributes:
        handle: what was asked for: a handle, or the name of the entry's folder.
        entry: the entry; None if there is none.
        problems: what differs from what was downloaded; of an entry without a manifest, what a
            SavedModel would have.
        compared: whether contents were compared. Entries without a manifest, as those of
            tensorflow_hub, have nothing to be compared with.
        fixed: whether what differed was downloaded again.
        error: why it could not be verified, or not be downloaded again.
    """

    handle: str
    entry: Entry | None = None
    problems: tuple[str, ...] = ()
    compared: bool = False
    fixed: bool = False
    error: OSError | ValueError | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return self.error is None and (self.fixed or not self.problems)


def verify(
    handles: Iterable[str] | None = None, *, fix: bool = False, jobs: int = 4
) -> Iterator[Verified]:
    """Reads the files of models and compares their SHA-256 with the manifest's.

    Args:
        handles: handles, or names of entries' folders; None: every model in the cache, except
            those that are being downloaded.
        fix: whether to download again what differs. It needs the network. A model is replaced when
            the new one is complete.
        jobs: how many files are read at a time.

    Yields:
        What came of each, in the order of the handles.

    Raises:
        CacheError: if the cache can't be read.

    Example:
        ```python
        import tfhub_cache as hub

        for verified in hub.cache.verify():
            if verified.problems:
                print(verified.handle, *verified.problems)
        ```
    """
    stop = threading.Event()
    executor = ThreadPoolExecutor(max(1, jobs))

    def begin(entry: Entry | CacheError) -> list[Future[str | None]]:
        if isinstance(entry, CacheError) or entry.manifest is None or not entry.is_there:
            return []
        files = entry.manifest.files
        return [executor.submit(_flaw, cache.store, entry.key, file, stop) for file in files]

    try:
        with reading() as cache:
            subjects: list[tuple[str, Entry | CacheError]]
            if handles is None:
                models = [entry for entry in entries() if entry.is_there]
                subjects = [(entry.handle or entry.key, entry) for entry in models]
            else:
                subjects = [(handle, _found(handle)) for handle in handles]
            for handle, entry, flaws in [(*subject, begin(subject[1])) for subject in subjects]:
                if isinstance(entry, CacheError):
                    yield Verified(handle, error=entry)
                    continue
                problems = _problems(cache.store, entry, flaws)
                if problems:
                    # Another process may have replaced or removed it in the meantime.
                    now = cache.store.settled(
                        entry.key, settings.LOCK_TIMEOUT.value(), lambda found: found.is_there
                    )
                    if not now.is_there and handles is None:
                        continue
                    if now.manifest != entry.manifest:
                        entry, flaws = now, begin(now)
                        problems = _problems(cache.store, entry, flaws)
                verified = Verified(handle, entry, tuple(problems), compared=bool(flaws))
                yield _fixed(verified, entry) if fix and problems else verified
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _found(handle: str) -> Entry | CacheError:
    try:
        return find(handle)
    except CacheError as error:
        return error


def _problems(store: Store, entry: Entry, flaws: list[Future[str | None]]) -> list[str]:
    if entry.manifest is None or not entry.is_there:
        return [entry.flaw] if entry.flaw else []
    problems = [problem for flaw in flaws if (problem := flaw.result())]
    if key_of(entry.manifest.handle) != entry.key:
        problems.append("its manifest is that of another handle")
    there = store.files(entry.key)
    expected = {file.path for file in entry.manifest.files}
    return problems + [f"{path} is not part of it" for path in sorted(there.keys() - expected)]


def _flaw(store: Store, key: str, file: File, stop: threading.Event) -> str | None:
    """What is wrong with a file."""
    digest = hashlib.sha256()
    left = file.size
    try:
        with store.open_file(key, file.path) as stream:
            size = stream.seek(0, os.SEEK_END)
            if size != file.size:
                return f"{file.path} has {size} bytes instead of {file.size}"
            stream.seek(0)
            while not stop.is_set() and (chunk := stream.read(min(_CHUNK, left))):
                left -= len(chunk)
                digest.update(chunk)
    except FileNotFoundError:
        return f"{file.path} is missing"
    except OSError as error:
        return f"{file.path} can't be read: {error.strerror or error}"
    found = digest.hexdigest()
    if found != file.sha256:
        return f"{file.path} has other contents: sha256 {found} instead of {file.sha256}"
    return None


def _fixed(verified: Verified, entry: Entry) -> Verified:
    """Downloads again what differs."""
    from tfhub_cache.resolvers.archives import fetch_again  # for downloads only

    handle = entry.handle
    if handle is None and key_of(as_meant(verified.handle)) == entry.key:
        handle = verified.handle
    try:
        if handle is None:
            raise CacheError(
                f"{entry.key} can't be downloaded again, as its handle is not known.",
                advice="Give the handle to `tfhub-cache verify --fix`, or remove it: "
                f"tfhub-cache rm {entry.key}",
                handle=entry.key,
            )
        fetch_again(handle)
    except (OSError, ValueError) as error:
        return replace(verified, error=error)
    return replace(verified, fixed=True)
