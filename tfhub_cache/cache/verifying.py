"""Verifying models: every byte is read and compared with what was downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from tfhub_cache import settings
from tfhub_cache.cache.listing import chosen, entries, reading
from tfhub_cache.errors import CacheError
from tfhub_cache.fetching.progress import Progress
from tfhub_cache.manifest import File
from tfhub_cache.store.contract import Store
from tfhub_cache.store.entry import Entry
from tfhub_cache.urls import as_meant, key_of, redact

_CHUNK = 1 << 20
_LARGE = 100_000_000


@dataclass(frozen=True)
class Verified:
    """What came of verifying an entry.

    Attributes:
        handle: what was asked for.
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
    handles: Iterable[str | Entry] | None = None, *, fix: bool = False, jobs: int = 4
) -> Iterator[Verified]:
    """Reads the files of models and compares their SHA-256 with the manifest's.

    Args:
        handles: models as `find` takes them, each of which may mean several, or entries. None:
            every model in the cache, except those that are being downloaded.
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
    models = [one for one in entries() if one.is_there] if handles is None else handles
    subjects = list(chosen(models))
    wanted = [entry for _, entry in subjects if isinstance(entry, Entry)]
    total = sum(entry.manifest.size for entry in wanted if entry.manifest and entry.is_there)
    show = settings.DOWNLOAD_PROGRESS.value() if total > _LARGE else False
    with (
        reading() as cache,
        Progress("Verifying models", show) as progress,
        contextlib.closing(_Reader(cache.store, jobs, total, progress)) as reader,
    ):
        for handle, entry, flaws in [(*subject, reader.begin(subject[1])) for subject in subjects]:
            if isinstance(entry, CacheError):
                yield Verified(handle, error=entry)
                continue
            problems = _problems(cache.store, entry, flaws)
            if problems:
                # Another process may have replaced or removed it in the meantime.
                timeout = settings.LOCK_TIMEOUT.value()
                now = cache.store.settled(entry.key, timeout, lambda found: found.is_there)
                if not now.is_there and handles is None:
                    continue
                if now.manifest != entry.manifest:
                    entry, flaws = now, reader.begin(now)
                    problems = _problems(cache.store, entry, flaws)
            verified = Verified(handle, entry, tuple(problems), compared=bool(flaws))
            yield _fixed(verified, entry) if fix and problems else verified


class _Reader:
    """Reads files in threads, and compares them with what manifests say."""

    def __init__(self, store: Store, jobs: int, total: int, progress: Progress) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(max(1, jobs))
        self._lock = threading.Lock()
        self._read, self._total = 0, total
        self._progress = progress
        self._is_closed = False

    def begin(self, entry: Entry | CacheError) -> list[Future[str | None]]:
        """What is wrong with each file of an entry that has a manifest."""
        if isinstance(entry, CacheError) or entry.manifest is None or not entry.is_there:
            return []
        files = entry.manifest.files
        return [self._threads.submit(self._flaw, entry.key, file) for file in files]

    def close(self) -> None:
        self._is_closed = True
        self._threads.shutdown(cancel_futures=True)

    def _flaw(self, key: str, file: File) -> str | None:
        digest = hashlib.sha256()
        left = file.size
        try:
            with self._store.open_file(key, file.path) as stream:
                size = stream.seek(0, os.SEEK_END)
                if size != file.size:
                    return f"{file.path} has {size} bytes instead of {file.size}"
                stream.seek(0)
                while not self._is_closed and (chunk := stream.read(min(_CHUNK, left))):
                    left -= len(chunk)
                    digest.update(chunk)
                    with self._lock:
                        self._read += len(chunk)
                        self._progress(self._read, self._total)
        except FileNotFoundError:
            return f"{file.path} is missing"
        except OSError as error:
            return f"{file.path} can't be read: {error.strerror or error}"
        found = digest.hexdigest()
        if found != file.sha256:
            return f"{file.path} has other contents: sha256 {found} instead of {file.sha256}"
        return None


def _problems(store: Store, entry: Entry, flaws: list[Future[str | None]]) -> list[str]:
    if entry.manifest is None or not entry.is_there:
        return [entry.flaw] if entry.flaw else []
    problems = [problem for flaw in flaws if (problem := flaw.result())]
    if key_of(entry.manifest.handle) != entry.key:
        problems.append("its manifest is that of another handle")
    there = store.files(entry.key)
    expected = {file.path for file in entry.manifest.files}
    return problems + [f"{path} is not part of it" for path in sorted(there.keys() - expected)]


def _fixed(verified: Verified, entry: Entry) -> Verified:
    """Downloads again what differs."""
    from tfhub_cache.resolvers.archives import archive_resolver  # for downloads only

    handle = entry.handle
    if handle is None and key_of(as_meant(verified.handle)) == entry.key:
        handle = verified.handle
    resolver = archive_resolver(handle or "")
    try:
        if handle is None or resolver is None:
            raise CacheError(
                f"{entry.name} can't be downloaded again",
                cause=f"its handle is {'nothing that can be fetched' if handle else 'not known'}",
                advice=f"Verify it by its handle, or remove it: tfhub-cache rm {entry.key}",
                handle=redact(handle or entry.key),
            )
        resolver.refresh(handle)
    except (OSError, ValueError) as error:
        return replace(verified, error=error)
    return replace(verified, fixed=True)
