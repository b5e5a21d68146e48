"""Which kind of store a cache is on, by its URL, and which URLs can't be one."""

from __future__ import annotations

import re

from tfhub_cache.errors import CacheError
from tfhub_cache.store.contract import Store
from tfhub_cache.urls import redact

_WITH_HOST = frozenset({"abfs", "abfss", "az", "gcs", "gs", "s3", "s3a", "sftp", "ssh"})
"""Schemes after which a bucket or a host comes; `memory:///name` is right."""
_PATTERN = re.compile("[][*?]")


def open_store(root: str) -> Store:
    """The store for a cache folder as users write it.

    Raises:
        CacheError: if there can be no cache at such a URL.
    """
    scheme, separator, rest = root.partition("://")
    scheme = scheme.lower()
    if not separator or (rest and scheme in ("file", "local")):
        from tfhub_cache.store.disk.store import LocalStore

        return LocalStore(f"file://{rest}" if scheme == "local" else root)
    flaw = None
    if not rest.strip("/") or (scheme in _WITH_HOST and rest.startswith("/")):
        flaw = f"after {scheme}:// a name is missing; perhaps a variable in it is empty"
    elif _PATTERN.search(rest.partition("/")[2]):
        flaw = "its path has one of * ? [ ], which make a pattern of it"
    if flaw:
        advice = "Check TFHUB_CACHE_DIR."
        raise CacheError(f"{redact(root)} can't be a cache", cause=flaw, advice=advice)
    from tfhub_cache.store.bucket.store import BucketStore  # slow to import

    return BucketStore(f"gs://{rest}" if scheme == "gcs" else root)
