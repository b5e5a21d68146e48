"""Which kind of store a cache is on, by its URL."""

from __future__ import annotations

from tfhub_cache.store.contract import Store


def open_store(root: str) -> Store:
    """The store for a cache folder as users write it."""
    scheme, separator, _ = root.partition("://")
    if separator and scheme.lower() != "file":
        from tfhub_cache.store.bucket.store import BucketStore  # slow to import

        return BucketStore(root)
    from tfhub_cache.store.disk.store import LocalStore

    return LocalStore(root)
