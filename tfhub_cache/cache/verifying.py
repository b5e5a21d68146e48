"""Verifying models: every byte is read and compared with what was downloaded."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from tfhub_cache.cache.listing import Current, current, entries, find, key_for
from tfhub_cache.errors import CacheError, ResolveError
from tfhub_cache.manifest import File
from tfhub_cache.store.entry import Entry
from tfhub_cache.urls import argument, as_meant, key_of, redact

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
    here = current()
    stop = threading.Event()
    executor = ThreadPoolExecutor(max(1, jobs))
    try:
        if handles is None:
            subjects = [(entry.handle or entry.key, entry) for entry in entries() if entry.is_there]
            reading = [_Reading(here, *subject, executor, stop) for subject in subjects]
        else:
            reading = [_Reading(here, handle, None, executor, stop) for handle in handles]
        for one in reading:
            verified = one.outcome()
            if verified is not None:
                yield _fixed(verified) if fix and verified.problems else verified
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


class _Reading:
    """An entry whose files are being read."""

    def __init__(
        self,
        here: Current,
        handle: str,
        entry: Entry | None,
        executor: ThreadPoolExecutor,
        stop: threading.Event,
    ) -> None:
        self._here = here
        self._handle = handle
        self._executor = executor
        self._stop = stop
        self._was_asked_for = entry is None
        self._error: ResolveError | None = None
        try:
            self._begin(entry or _found(handle))
        except ResolveError as error:
            self._error = error

    def _begin(self, entry: Entry) -> None:
        self._entry = entry
        self._digests: list[tuple[File, Future[str | None]]] = []
        if entry.manifest is not None and entry.is_there:
            self._digests = [
                (file, self._executor.submit(self._flaw, entry.key, file))
                for file in entry.manifest.files
            ]

    def outcome(self) -> Verified | None:
        """What came of it; None if the entry has been removed while it was read."""
        if self._error is not None:
            return Verified(self._handle, error=self._error)
        problems = self._problems()
        if problems:
            # Another process may have replaced or removed it in the meantime.
            here, key = self._here, self._entry.key
            now = here.store.settled(key, here.lock_timeout, lambda entry: entry.is_there)
            if not now.is_there and not self._was_asked_for:
                return None
            if now.manifest != self._entry.manifest:
                self._begin(now)
                problems = self._problems()
        compared = bool(self._digests)
        return Verified(self._handle, self._entry, tuple(problems), compared)

    def _problems(self) -> list[str]:
        entry = self._entry
        if entry.manifest is None or not entry.is_there:
            return [entry.flaw] if entry.flaw else []
        problems = [problem for _, flaw in self._digests if (problem := flaw.result())]
        if key_of(entry.manifest.handle) != entry.key:
            problems.append("its manifest is that of another handle")
        with self._here.as_cache_errors("read"):
            there = self._here.store.files(entry.key)
        expected = {file.path for file in entry.manifest.files}
        problems += [f"{path} is not part of it" for path in sorted(there) if path not in expected]
        return problems

    def _flaw(self, key: str, file: File) -> str | None:
        """What is wrong with a file."""
        digest = hashlib.sha256()
        left = file.size
        try:
            with self._here.store.open_file(key, file.path) as stream:
                size = stream.seek(0, os.SEEK_END)
                if size != file.size:
                    return f"{file.path} has {size} bytes instead of {file.size}"
                stream.seek(0)
                while left and (chunk := stream.read(min(_CHUNK, left))):
                    if self._stop.is_set():
                        break
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


def _found(handle: str) -> Entry:
    entry = find(handle)
    if entry.is_there:
        return entry
    name, word = redact(handle), argument(as_meant(handle))
    how = (
        "To resolve it"
        if word is None or key_for(handle) == handle
        else f"`tfhub-cache resolve {word}`"
    )
    why = "crashed processes have left of it" if entry.holder is None else "has arrived so far"
    raise CacheError(
        f"{name} can't be verified: there is only what {why}. {how} fetches it, or waits for it.",
        handle=name,
    )


def _fixed(verified: Verified) -> Verified:
    """Downloads again what differs."""
    from tfhub_cache.resolvers.archives import fetch_again  # for downloads only

    entry = verified.entry
    assert entry is not None  # or nothing would differ
    handle = entry.handle
    if handle is None and key_of(as_meant(verified.handle)) == entry.key:
        handle = verified.handle
    if handle is None:
        return replace(
            verified,
            error=ResolveError(
                f"{entry.key} can't be downloaded again, as its handle is not known.",
                advice="Give the handle to `tfhub-cache verify --fix`, or remove it: "
                f"tfhub-cache rm {entry.key}",
                handle=entry.key,
            ),
        )
    try:
        fetch_again(handle)
    except (OSError, ValueError) as error:
        return replace(verified, error=error)
    return replace(verified, fixed=True)
