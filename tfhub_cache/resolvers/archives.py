"""Handles of archives: downloaded once, unpacked into the cache.

They are the pages and archives of the hosting protocol in COMPRESSED mode, and `gs://` archives
in every mode. Protocol: https://www.tensorflow.org/hub/hosting
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence

from tfhub_cache import pins, settings
from tfhub_cache.clients.kaggle import page_of
from tfhub_cache.errors import CacheError, DownloadError, reason
from tfhub_cache.fetching.lookup import open_cache
from tfhub_cache.pins import Locked, Pin
from tfhub_cache.resolver import HttpResolverBase, Resolver
from tfhub_cache.resolvers import kaggle
from tfhub_cache.source.contract import Source
from tfhub_cache.source.mirrors import addresses
from tfhub_cache.urls import (
    Origin,
    append_query,
    as_meant,
    host_of,
    key_of,
    origin,
    redact,
    request_target,
)

_CN_PAGES = Origin("https", "hub.tensorflow.google.cn", 443)
_CN_ARCHIVES = "https://gcs.tensorflow.google.cn/tfhub-modules"
_OURS = HttpResolverBase._call_urlopen
_ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz")


class ArchiveResolver(Resolver):
    """Serves archives from the cache."""

    def __call__(self, handle: str) -> str:
        locked = _locked(handle)
        cached = open_cache(settings.cache_dir()).lookup(handle, locked)
        return cached or kaggle.attached(handle) or self.fetch(handle, locked)

    def refresh(self, handle: str) -> str:
        return self.fetch(handle, _locked(handle), refresh=True)

    def fetch(self, handle: str, locked: Locked | None, *, refresh: bool = False) -> str:
        """Downloads an archive into the cache, or waits for another process to do it.

        Args:
            handle: a handle that this resolver serves.
            locked: the archive that it must be; None: any.
            refresh: whether to replace an intact entry.

        Returns:
            The entry's path.

        Raises:
            ResolveError: as `Cache.fetch`.
            UnsafeArchiveError: if the archive must not be unpacked.
        """
        sources = [] if settings.OFFLINE.value() else self._sources(handle)
        try:
            return open_cache(settings.cache_dir()).fetch(handle, sources, locked, refresh=refresh)
        except DownloadError as error:
            kaggle.explain(error, handle)
            raise

    def pin(self, handle: str, *, refresh: bool = False) -> Pin:
        """What a handle's entry consists of. It is fetched if it is not in the cache.

        No lock file is looked at, as this is what they are made of.

        Args:
            handle: a handle that this resolver serves.
            refresh: whether to fetch again what is in the cache.

        Raises:
            ResolveError: if it can't be fetched.
            UnsafeArchiveError: if its archive must not be unpacked.
        """
        cache = open_cache(settings.cache_dir())
        if refresh or cache.lookup(handle) is None:
            self.fetch(handle, None, refresh=refresh)
        try:
            if cache.lookup(handle) is None:
                raise FileNotFoundError("it was removed just after it was fetched")
            return cache.pin(key_of(handle))
        except OSError as error:
            what = f"The cached {redact(handle)} can't be read"
            raise CacheError(what, cause=reason(error)) from error

    @abc.abstractmethod
    def _sources(self, handle: str) -> Sequence[Source]:
        """Where the archive of a handle is, in the order in which it is asked for."""


# The sources are imported when something is downloaded: requests and gcsfs are slow to import.


class HttpArchiveResolver(ArchiveResolver, HttpResolverBase):
    """Serves http(s) handles in COMPRESSED and AUTO mode."""

    def is_supported(self, handle: str) -> bool:
        return (
            handle[:8].lower().startswith(("http://", "https://"))
            and settings.LOAD_FORMAT.value() is not settings.ModelLoadFormat.UNCOMPRESSED
        )

    def cached_as_written(self, handle: str) -> str | None:
        """The path of the entry, if any, that is named after a handle with white space around it.

        tensorflow_hub takes a handle with the end of a line, and names the entry after both.
        """
        return open_cache(settings.cache_dir()).lookup(handle, _locked(as_meant(handle)))

    def _sources(self, handle: str) -> Sequence[Source]:
        url = archive_url(handle)
        if type(self)._call_urlopen is not _OURS:
            from tfhub_cache.resolvers.urlopen import OpenedArchive

            return [OpenedArchive(handle, url, self._call_urlopen)]
        from tfhub_cache.source.http import HttpArchive
        from tfhub_cache.source.kaggle import KaggleArchive

        access = settings.access(vars(self).get("_context"))
        is_on_kaggle = host_of(handle) in kaggle.HOSTS
        return [
            KaggleArchive(handle, address.url, kaggle.credentials, access)
            if is_on_kaggle and not address.is_mirror
            else HttpArchive(handle, address.url, access, address.is_mirror)
            for address in addresses(handle, url, "compressed", settings.MIRROR.value())
        ]


class GcsArchiveResolver(ArchiveResolver):
    """Serves `gs://` archives, which are known by their suffix as in tensorflow_hub."""

    def is_supported(self, handle: str) -> bool:
        return handle.startswith("gs://") and handle.endswith(_ARCHIVE_SUFFIXES)

    def _sources(self, handle: str) -> Sequence[Source]:
        from tfhub_cache.source.gcs import GcsArchive

        return [GcsArchive(handle, settings.google_storage())]


def archive_url(handle: str) -> str:
    """The URL at which the archive of an http(s) handle is asked for."""
    with contextlib.suppress(ValueError):  # one that can't be asked is refused where it is asked
        if origin(handle) == _CN_PAGES:
            return f"{_CN_ARCHIVES}{request_target(handle)}.tar.gz"
    page = page_of(handle) if host_of(handle) in kaggle.HOSTS else handle
    return append_query(page, "tf-hub-format", "compressed")


def archive_resolver(handle: str) -> ArchiveResolver | None:
    """The resolver for a handle, in every mode; None if it is not served from the cache."""
    if GcsArchiveResolver().is_supported(handle):
        return GcsArchiveResolver()
    return HttpArchiveResolver() if HttpArchiveResolver().is_http_protocol(handle) else None


def _locked(handle: str) -> Locked | None:
    file = settings.LOCKFILE.value()
    return None if file is None else pins.locked(handle, file)
