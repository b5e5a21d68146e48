"""Which kind of store a cache is on, by its URL."""

from __future__ import annotations

from tfhub_cache import settings
from tfhub_cache.errors import CacheError
from tfhub_cache.store.contract import Store
from tfhub_cache.urls import redact


def open_store(root: str) -> Store:
    """The store for a cache folder as users write it.

    Raises:
        CacheError: if the credentials can't be used.
    """
    scheme, separator, _ = root.partition("://")
    scheme = scheme.lower()
    if not separator or scheme == "file":
        from tfhub_cache.store.disk.store import LocalStore

        return LocalStore(root)
    if scheme == "gs":
        _check_key_file(root)
    from tfhub_cache.store.bucket.store import BucketStore  # slow to import

    return BucketStore(root)


def _check_key_file(root: str) -> None:
    from tfhub_cache.clients import gcs, gcs_errors

    emulator, timeout, key_file = settings.google_storage()
    try:
        if key_file and not emulator:  # otherwise there is nothing to check
            gcs.file_system(None, timeout, key_file)
    except gcs_errors.StorageError as error:
        raise CacheError(
            f"Could not use the cache {redact(root)}", cause=str(error), advice=error.advice
        ) from None
