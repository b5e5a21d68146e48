"""Fetching: a handle and a source go in, the path of a whole entry in the cache comes out.

Readers never lock: they see a whole entry or none. Whoever finds none, or a damaged one, contends
for the right to make it; one gets it, the others wait for the entry. docs/design.md draws it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import functools
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from absl import logging

from tfhub_cache.cache import interruption
from tfhub_cache.errors import (
    ArchiveError,
    CacheError,
    DownloadError,
    ResolveError,
    UnsafeArchiveError,
)
from tfhub_cache.manifest import Manifest, Origin
from tfhub_cache.progress import Progress
from tfhub_cache.source import Download, Source
from tfhub_cache.store import ABSENT, Claim, Store, open_store
from tfhub_cache.urls import redact
from tfhub_cache.version import __version__

if TYPE_CHECKING:
    from tfhub_cache.transfer import Transfer

_LONG_WAIT = 10.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_LEAST_PARALLEL = 4 << 20
"""Bytes of an archive from which on it pays to inflate and to digest in threads of their own."""


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        lock_timeout: seconds without a sign of life after which another machine's download
            counts as dead.
        connections: how many connections a download may have at most.
        show_progress: whether to draw a progress bar; None: where somebody looks.
        max_ratio: how many times larger than its archive a model may be.
        max_files: how many files and folders a model may have.
        keep_free: bytes of the disk that are to stay free.
        max_size: bytes that the cache may have afterwards; None: as many as it gets.
        keep_used: seconds for which an entry stays after its last use, whatever `max_size` says.
        refresh: whether to fetch what is there and whole, too. It can be used until it is replaced.
    """

    lock_timeout: float
    connections: int
    show_progress: bool | None
    max_ratio: float
    max_files: int
    keep_free: int
    max_size: int | None = None
    keep_used: float = 0.0
    refresh: bool = False


class Cache:
    """A folder of models, each unpacked under the sha1 of its handle."""

    def __init__(self, root: str, store: Store) -> None:
        self._root = root
        self._store = store
        self._untidy: set[str] = set()
        self._record_at: dict[str, float] = {}

    @property
    def store(self) -> Store:
        """The file system that it is on."""
        return self._store

    def lookup(self, handle: str) -> str | None:
        """The path of the handle's entry, or None if it must be fetched.

        No lock, no network, nothing written: this is what every resolve of a cached model costs,
        unless somebody who died after publishing the entry has to be tidied up after, or an hour
        has gone since its use was recorded.
        """
        key = key_of(handle)
        if self._store.flaw(key) is not None:
            return None
        if self._store.is_claimed(key):
            self._tidy(key)
        now = time.monotonic()
        if now >= self._record_at.get(key, now):
            self._record_at[key] = now + self._store.record_use(key)
        return self._store.path(key)

    def fetch(self, handle: str, source: Source, options: FetchOptions) -> str:
        """Makes the handle's entry, or waits for whoever is making it.

        Args:
            handle: the handle as the user wrote it; its sha1 names the entry.
            source: where the archive is; asked only if this call has to download.
            options: how.

        Returns:
            The entry's path.

        Raises:
            DownloadError: if the archive can't be fetched, or is not what the server promised.
            ArchiveError: if what was fetched is no sound archive.
            UnsafeArchiveError: if the archive must not be unpacked.
            CacheError: if the cache can't be written.
        """
        key = key_of(handle)
        flaw = self._store.flaw(key)
        made = False
        try:
            while claim := self._claim(handle, key, options):
                with claim:
                    # Whoever had the claim before may just have made the entry.
                    if not options.refresh and self._store.flaw(key) is None:
                        break
                    try:
                        self._make(handle, flaw, source, claim, options)
                        made = True
                        break
                    except OSError:
                        if not _is_lost(claim):
                            raise
                logging.warning("Somebody took over the download of '%s'.", redact(handle))
        except OSError as error:
            failure = _failure(handle, self._root, flaw, error)
            raise failure from (None if failure is error else error)
        if made and options.max_size is not None:
            self._make_room(key, options, options.max_size)
        return self._store.path(key)

    def _make_room(self, key: str, options: FetchOptions, max_size: int) -> None:
        """Removes what was not used for longest, if the cache has grown too large."""
        from tfhub_cache.cache.eviction import make_room  # only where there is a limit

        try:
            make_room(
                self._store,
                max_size,
                keep_used=options.keep_used,
                keep=key,
                lock_timeout=options.lock_timeout,
            )
        except OSError as error:  # the model is there all the same
            logging.warning("Could not make room in the cache %s: %s", self._root, error)

    def _tidy(self, key: str) -> None:
        """Removes what somebody left who died after publishing, if they are dead."""
        if key in self._untidy:
            return
        try:
            claim = self._store.contend(key, float("inf"), 0).attempt()
            if claim is not None:
                claim.release()
        except OSError:
            self._untidy.add(key)  # it is not ours to remove, and need not be tried again

    def _claim(self, handle: str, key: str, options: FetchOptions) -> Claim | None:
        """Waits for the claim, or for the entry (then None), whichever comes first."""
        contender = self._store.contend(
            key, options.lock_timeout, options.keep_free, replace=options.refresh
        )
        # tensorflow_hub's line, at its level; and one that is seen, if it takes long.
        lines = iter([(0.0, logging.INFO), (_LONG_WAIT, logging.WARNING)])
        begun = time.monotonic()
        tell_after, level = next(lines)
        with Progress(f"Waiting for {redact(handle)}", options.show_progress) as progress:
            while (claim := contender.attempt()) is None:
                if time.monotonic() - begun >= tell_after:
                    logging.log(
                        level,
                        "Module '%s' already being downloaded by '%s'. Waiting.",
                        redact(handle),
                        contender.holder,
                    )
                    tell_after, level = next(lines, (float("inf"), level))
                if progress.is_due():
                    with contextlib.suppress(OSError):  # it is only for people
                        progress(*contender.progress())
                time.sleep(contender.poll_seconds)
                interruption.check()
                if not options.refresh and self._store.flaw(key) is None:
                    return None
        return claim

    def _make(
        self, handle: str, flaw: str | None, source: Source, claim: Claim, options: FetchOptions
    ) -> None:
        """Downloads the archive and publishes what it holds."""
        shown = redact(handle)
        if flaw not in (None, ABSENT):
            logging.warning("The cached '%s' is damaged: %s. Fetching it again.", shown, flaw)
        logging.info("Downloading TF-Hub Module '%s'.", shown)
        claim.publish(_download(handle, source, claim, options))
        logging.info("Downloaded TF-Hub Module '%s'.", shown)


def key_of(handle: str) -> str:
    """The name of a handle's entry; as tensorflow_hub has it, the handle is not normalised."""
    return hashlib.sha1(handle.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def open_cache(root: str) -> Cache:
    """The cache in a folder as users write it: local, relative, `file://` or `gs://`.

    Raises:
        CacheError: if there is no file system for such a folder.
    """
    # A relative one is another when the program has changed its folder.
    return _open_cache(root, "" if os.path.isabs(root) or "://" in root else os.getcwd())


@functools.lru_cache(maxsize=64)
def _open_cache(root: str, folder: str) -> Cache:
    logging.info("Using %s to cache modules.", root)
    return Cache(root, open_store(root))


def _download(handle: str, source: Source, claim: Claim, options: FetchOptions) -> Manifest:
    """Fills the claim's folder; once more from the start where that may help."""
    with _transfer(handle, source, claim, options) as transfer:
        try:
            return _receive(handle, transfer, claim, options)
        except OSError as error:
            interruption.check()
            in_memory = error.errno in _NO_ROOM and transfer.takes_room
            is_damaged = isinstance(error, ArchiveError | DownloadError)
            is_final = transfer.broke_off or transfer.download.is_web_page
            if not in_memory and (is_final or not is_damaged):
                raise
            logging.warning("%s Trying once more from the start.", error)
    claim.clear()
    # With what may have been the trouble left out: several connections, a file beside the model.
    simply = dataclasses.replace(options, connections=1)
    with _transfer(handle, source, claim, simply, in_memory=in_memory) as transfer:
        return _receive(handle, transfer, claim, options)


@contextlib.contextmanager
def _transfer(
    handle: str, source: Source, claim: Claim, options: FetchOptions, *, in_memory: bool = False
) -> Iterator[Transfer]:
    from tfhub_cache.transfer import Transfer  # for downloads only

    with (
        Progress(f"Downloading {redact(handle)}", options.show_progress) as progress,
        Transfer(
            handle, source, claim, options.connections, progress, in_memory=in_memory
        ) as transfer,
        interruption.closes(transfer),
    ):
        yield transfer


def _receive(handle: str, transfer: Transfer, claim: Claim, options: FetchOptions) -> Manifest:
    # Needed for downloads only, and slow to import.
    from tfhub_cache.archive import Limits, unpack
    from tfhub_cache.integrity import CheckedStream
    from tfhub_cache.readahead import ReadAhead

    download = transfer.download
    checked = CheckedStream(handle, download, transfer)
    is_large = download.size is None or download.size >= _LEAST_PARALLEL
    limits = Limits(options.max_ratio, options.max_files)
    try:
        files = unpack(ReadAhead(checked) if is_large else checked, claim, limits, is_large)
    except ArchiveError as error:
        raise _no_module(handle, download, error) from error
    except UnsafeArchiveError as error:
        raise UnsafeArchiveError(
            f"{redact(handle)} is not unpacked, and nothing of it is kept. {error}"
        ) from error
    return Manifest(
        handle=handle,
        url=download.url,
        archive=checked.archive(),
        files=files,
        downloaded=Origin(
            time=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            host=socket.gethostname(),
            pid=os.getpid(),
            library=f"tfhub-cache {__version__}",
        ),
        validators=dict(download.validators),
    )


def _is_lost(claim: Claim) -> bool:
    """Whether a claim was taken over, as far as that can be found out."""
    try:
        return claim.is_lost()
    except OSError:
        return False


def _failure(handle: str, root: str, flaw: str | None, error: OSError) -> ResolveError:
    """What is raised when there is no entry after all."""
    shown = redact(handle)
    if not isinstance(error, ResolveError):
        file = "" if error.filename is None else f" ({os.fspath(error.filename)})"
        error = CacheError(
            f"Could not keep {shown} in the cache {root}: {error.strerror or error}{file}. Check "
            "the folder's permissions and free space, or set TFHUB_CACHE_DIR to a folder that "
            "can be written.",
            handle=shown,
        )
    error.handle = error.handle or shown
    if flaw in (None, ABSENT):
        return error
    return type(error)(
        f"The cached {shown} is damaged ({flaw}), and fetching it again failed. {error}",
        handle=error.handle,
        url=error.url,
        status=error.status,
    )


def _no_module(handle: str, download: Download, error: ArchiveError) -> ArchiveError:
    if download.is_web_page:
        advice = (
            "The server sent a web page: open the handle in a browser; the model may need a "
            "login, or the handle may lack its version"
        )
    else:
        advice = "The download may be damaged or the handle may not name a model; try again"
    return ArchiveError(
        f"{download.url} does not appear to be a valid module. Resolving {redact(handle)} "
        f"failed: {error}. {advice}.",
        handle=redact(handle),
        url=download.url,
    )
