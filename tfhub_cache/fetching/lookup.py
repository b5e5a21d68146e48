"""Fetching: a handle and a source go in, the path of an intact entry in the cache comes out.

Readers never lock: they see a whole entry or none. A process that finds none, or a damaged one,
contends for the claim, the right to make it; one gets it, the others wait for the entry.
docs/design.md draws it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence

from absl import logging

from tfhub_cache import offline, settings
from tfhub_cache.errors import CacheError, ResolveError, reason
from tfhub_cache.fetching import batch
from tfhub_cache.fetching.progress import Progress
from tfhub_cache.manifest import File, digest_of
from tfhub_cache.pins import Locked, Pin
from tfhub_cache.retrying import pause_after
from tfhub_cache.source.contract import Source
from tfhub_cache.store.contract import Claim, Store
from tfhub_cache.store.flaw import ABSENT, Flaw, FlawKind
from tfhub_cache.store.opening import open_store
from tfhub_cache.urls import key_of, printable, redact

_CHUNK = 1 << 20
_LONG_WAIT = 10.0
_LIMITS = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_AT_A_LIMIT = (
    "This process or machine is at a limit of threads, open files or memory: end what is not "
    "needed, or raise the limit (ulimit -a shows it)."
)
_NOT_WRITTEN = (
    "Check the folder's permissions and free space, or set TFHUB_CACHE_DIR to a folder that can be "
    "written."
)


class Cache:
    """A folder of models, each unpacked under the sha1 of its handle.

    Attributes:
        root: the folder, as it may be shown.
        store: the file system that it is on.
    """

    def __init__(self, root: str, store: Store) -> None:
        self.root = redact(root)
        self.store = store
        self._record_at: dict[str, float] = {}
        self._pins: dict[str, tuple[object, Pin]] = {}

    def lookup(self, handle: str, locked: Locked | None = None) -> str | None:
        """The path of the handle's entry, or None if it must be fetched.

        An entry that does not consist of what is locked must be fetched, too.

        No lock, no network, nothing written: this is what every resolve of a cached model costs,
        unless an hour has gone since its use was recorded.
        """
        key = key_of(handle)
        flaw = self.store.flaw(key) if locked is None else self._flaw(key, locked)
        if flaw is not None:
            return None
        now = time.monotonic()
        if now >= self._record_at.get(key, now):
            self._record_at[key] = now + self.store.record_use(key)
        return self.store.path(key)

    def fetch(
        self,
        handle: str,
        sources: Sequence[Source],
        locked: Locked | None = None,
        *,
        refresh: bool = False,
    ) -> str:
        """Makes the handle's entry, or waits for the process that is making it.

        Args:
            handle: the handle as the user wrote it; its sha1 names the entry.
            sources: where the archive is, in the order in which they are asked, if this call has
                to download. Empty if nothing may be downloaded.
            locked: what the model has to consist of; None: anything.
            refresh: whether to replace an intact entry. It can be used until it is replaced.

        Returns:
            The entry's path.

        Raises:
            DownloadError: if the archive can't be downloaded, or is not what the server promised.
            ArchiveError: if what was downloaded is not an intact archive.
            UnsafeArchiveError: if the archive must not be unpacked.
            CacheError: if the cache can't be written.
            OfflineError: if nothing may be downloaded.
            LockfileError: if what was downloaded is not what is locked.
        """
        key, shown = key_of(handle), redact(handle)
        lock_timeout = settings.LOCK_TIMEOUT.value()
        max_size, keep_used = settings.CACHE_MAX_SIZE.value(), settings.CACHE_KEEP_USED.value()
        flaw = self._flaw(key, locked)

        def is_there() -> bool:
            return not refresh and self._flaw(key, locked) is None

        def is_put_in_place() -> bool:
            """Whether another process that replaces the entry has it there within a moment."""
            with contextlib.suppress(OSError):  # what can't be listed may still be readable
                self.store.settled(key, lock_timeout, lambda _: refresh or is_there())
            return is_there()

        try:
            if not sources:
                if is_put_in_place():
                    return self.store.path(key)
                if flaw is not None and flaw.kind is FlawKind.NOT_PERMITTED:
                    raise offline.refusal_of_unreadable(self.store.path(key))
                raise offline.refusal(handle, self.root)
            if flaw is not None and flaw != ABSENT:
                why = flaw.summary, printable(str(flaw))
                logging.warning("The cached '%s' is %s: %s. Fetching it again.", shown, *why)
            claim = self.store.contend(
                key,
                lock_timeout,
                settings.UNPACK_KEEP_FREE.value(),
                # A process without the lock file may make another one meanwhile.
                replace=refresh or locked is not None,
            )
            made = _make_or_wait(claim, handle, sources, locked, is_there)
        except OSError as error:
            # Where the disk refuses, the entry may still be there: made by another process, say.
            if sources and not isinstance(error, ResolveError) and is_put_in_place():
                logging.warning("'%s' is in the cache, but: %s", shown, error)
                return self.store.path(key)
            failure = self._explained(error, handle, flaw)
            if failure is error:
                raise
            raise failure from error
        if made and max_size is not None:
            from tfhub_cache.fetching.eviction import make_room  # only where there is a limit

            make_room(self.store, max_size, keep_used, {key, *batch.keys()})
        return self.store.path(key)

    def pin(self, key: str) -> Pin:
        """What an entry consists of that `Store.flaw` has just found intact.

        The files of an entry without a manifest, as tensorflow_hub makes them, are read once in a
        process, and again when the size or the time of one has changed.

        Raises:
            OSError: if a file can't be read.
        """
        manifest = self.store.manifest(key)
        if manifest is not None:
            return Pin.of(manifest)
        stamps = self.store.files(key)
        known = self._pins.get(key)
        if known is None or known[0] != stamps:
            files = []
            for path in stamps:
                digest, size = hashlib.sha256(), 0
                with self.store.open_file(key, path) as stream:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
                        size += len(chunk)
                files.append(File(path, size, digest.hexdigest()))
            pin = Pin(sum(file.size for file in files), digest_of(files))
            known = self._pins[key] = (stamps, pin)
        return known[1]

    def _flaw(self, key: str, locked: Locked | None) -> Flaw | None:
        """Why an entry can't be used, or None if it can."""
        flaw = self.store.flaw(key)
        if flaw is not None or locked is None:
            return flaw
        try:
            pin = self.pin(key)
        except OSError as error:
            return Flaw(FlawKind.CONTENT_UNREADABLE, (reason(error),))
        return None if pin == locked.pin else Flaw(FlawKind.OTHER_FILES, (pin,))

    def _explained(self, error: OSError, handle: str, flaw: Flaw | None) -> ResolveError:
        """An error that says for which handle, and why what is cached could not be used."""
        shown = redact(handle)
        if not isinstance(error, ResolveError):
            error = CacheError(
                f"Could not keep {shown} in the cache {self.root}",
                cause=reason(error),
                advice=_AT_A_LIMIT if error.errno in _LIMITS else _NOT_WRITTEN,
            )
        error.handle = error.handle or shown
        if flaw is not None and flaw != ABSENT:
            error.before = (
                f"The cached {shown} is {flaw.summary} ({printable(str(flaw))}), and fetching it "
                "again failed."
            )
        return error


def open_cache(root: str) -> Cache:
    """The cache in a folder as users write it: local, relative, `file://` or `gs://`.

    Raises:
        CacheError: if there is no file system for such a folder.
    """
    # A relative one is another when the program has changed its folder.
    return _open_cache(root, "" if os.path.isabs(root) or "://" in root else os.getcwd())


@functools.lru_cache(maxsize=64)
def _open_cache(root: str, folder: str) -> Cache:
    logging.info("Using %s to cache modules.", redact(root))
    return Cache(root, open_store(root))


def _make_or_wait(
    claim: Claim,
    handle: str,
    sources: Sequence[Source],
    locked: Locked | None,
    is_there: Callable[[], bool],
) -> bool:
    """Makes an entry, unless another process does; whether it was made."""
    from tfhub_cache.fetching.download import download  # only if there is no entry

    shown = redact(handle)
    attempt = 0
    try:
        while True:
            attempt += 1
            _wait(claim, handle, is_there)
            # The process that had the claim before may just have made the entry.
            if is_there():
                return False
            try:
                logging.info("Downloading TF-Hub Module '%s'.", shown)
                claim.publish(download(handle, sources, claim, locked))
                logging.info("Downloaded TF-Hub Module '%s'.", shown)
                return True
            except OSError:
                if not claim.is_lost():
                    raise
            claim.release()
            _pause_after_loss(handle, attempt)
    finally:
        claim.release()


def _wait(claim: Claim, handle: str, is_there: Callable[[], bool]) -> None:
    """Waits for the claim, or for the entry, whichever comes first."""
    # tensorflow_hub's line, at its level; and one that is seen by default, if it takes long.
    lines = iter([(0.0, logging.INFO), (_LONG_WAIT, logging.WARNING)])
    begun = time.monotonic()
    log_after, level = next(lines)
    show_progress = settings.DOWNLOAD_PROGRESS.value()
    with Progress(f"Waiting for {redact(handle)}", show_progress) as progress:
        while claim.attempt() is None:
            if time.monotonic() - begun >= log_after:
                logging.log(
                    level,
                    "Module '%s' already being downloaded by '%s'. Waiting.",
                    redact(handle),
                    printable(claim.holder),
                )
                log_after, level = next(lines, (float("inf"), level))
            if progress.is_due():
                with contextlib.suppress(OSError):  # it is only for people
                    progress(*claim.progress())
            batch.pause(claim.poll_seconds)
            if is_there():
                return


def _pause_after_loss(handle: str, attempt: int) -> None:
    """Lets time pass before a claim is contended for again that others have taken over.

    Raises:
        OSError: if that has happened too often.
    """
    logging.warning("Another process took over the download of '%s'.", redact(handle))
    pause = pause_after(attempt)
    if pause is None:
        raise OSError(
            errno.ESTALE,
            f"other processes took the download over {attempt} times, as if this one had crashed; "
            "machines that share a cache need different host names",
        )
    batch.pause(pause)
