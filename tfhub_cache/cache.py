"""The cache: a handle and a source go in, the path of a whole entry comes out.

Readers never lock: they see a whole entry or none. Whoever finds none contends for the right to
make it; one gets it, the others wait for the entry. docs/design.md draws it.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
import socket
import time

from absl import logging

from tfhub_cache.errors import ArchiveError, CacheError, ResolveError
from tfhub_cache.source import Download, Source
from tfhub_cache.store import Claim, Store, open_store
from tfhub_cache.urls import redact


class Cache:
    """A folder of models, each unpacked under the sha1 of its handle."""

    def __init__(self, root: str, store: Store) -> None:
        self._root = root
        self._store = store

    def lookup(self, handle: str) -> str | None:
        """The path of the handle's entry, or None if it must be fetched.

        No lock, no network, nothing written: this is what every resolve of a cached model costs.
        """
        key = _key(handle)
        return self._store.path(key) if self._store.flaw(key) is None else None

    def fetch(
        self, handle: str, source: Source, *, lock_timeout: float, show_progress: bool
    ) -> str:
        """Makes the handle's entry, or waits for whoever is making it.

        Args:
            handle: the handle as the user wrote it; its sha1 names the entry.
            source: where the archive comes from; asked only if this call has to download.
            lock_timeout: seconds without a sign of life after which another machine's download
                counts as dead.
            show_progress: whether to draw a progress bar.

        Returns:
            The entry's path.

        Raises:
            DownloadError: if the archive can't be fetched.
            ArchiveError: if what was fetched is no sound archive.
            UnsafeArchiveError: if the archive must not be unpacked.
            CacheError: if the cache can't be written.
        """
        key = _key(handle)
        try:
            claim = self._claim(handle, key, lock_timeout)
            if claim is not None:
                with claim:
                    # Whoever held the claim before may just have made the entry.
                    if self._store.flaw(key) is not None:
                        self._make(handle, source, claim, show_progress)
        except ResolveError:
            raise
        except OSError as error:
            raise CacheError(
                f"Could not keep {redact(handle)} in the cache {self._root}: "
                f"{error.strerror or error}. Check the folder's permissions and free space, or "
                "set TFHUB_CACHE_DIR to a folder that can be written.",
                handle=redact(handle),
            ) from error
        return self._store.path(key)

    def _claim(self, handle: str, key: str, lock_timeout: float) -> Claim | None:
        """Waits for the claim, or for the entry (then None), whichever comes first."""
        contender = self._store.contend(key, lock_timeout)
        told = False
        while (claim := contender.attempt()) is None:
            if not told:
                logging.info(
                    "Module '%s' already being downloaded by '%s'. Waiting.",
                    redact(handle),
                    contender.holder,
                )
                told = True
            time.sleep(contender.poll_seconds)
            if self._store.flaw(key) is None:
                return None
        return claim

    def _make(self, handle: str, source: Source, claim: Claim, show_progress: bool) -> None:
        # Needed for downloads only, and slow to import.
        from tfhub_cache.archive import unpack
        from tfhub_cache.progress import Progress

        logging.info("Downloading TF-Hub Module '%s'.", redact(handle))
        with source(handle) as download, Progress(handle, download, show_progress) as progress:
            try:
                unpack(progress, claim)
            except ArchiveError as error:
                raise _no_module(handle, download, error) from error
        claim.publish(_descriptor(handle))
        logging.info("Downloaded TF-Hub Module '%s'.", redact(handle))


@functools.lru_cache(maxsize=16)
def open_cache(root: str) -> Cache:
    """The cache in a folder as users write it: local, relative, `file://` or `gs://`."""
    logging.info("Using %s to cache modules.", root)
    return Cache(root, open_store(root))


def _key(handle: str) -> str:
    """The name of a handle's entry; as tensorflow_hub has it, the handle is not normalised."""
    return hashlib.sha1(handle.encode("utf-8"), usedforsecurity=False).hexdigest()


def _descriptor(handle: str) -> str:
    now = datetime.datetime.now()
    return (
        f"Module: {handle}\nDownload Time: {now}\n"
        f"Downloader Hostname: {socket.gethostname()} (PID:{os.getpid()})"
    )


def _no_module(handle: str, download: Download, error: ArchiveError) -> ArchiveError:
    if download.media_type in ("text/html", "application/xhtml+xml"):
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
