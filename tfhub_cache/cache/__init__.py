"""The cache: what is in it, whether it is intact, and how to make room.

    import tfhub_cache as hub

    for entry in hub.cache.entries():
        print(entry.handle, entry.size, entry.state)

All functions work on the cache that the settings name at the time of the call, on a disk and in a
bucket. The command `tfhub-cache` is made of them. How entries get in is in `fetching`.
"""

from __future__ import annotations

from tfhub_cache.cache.bug_report import Environment, environment
from tfhub_cache.cache.details import Info, info
from tfhub_cache.cache.listing import Entry, entries, exists, find, free_space
from tfhub_cache.cache.pinning import lock
from tfhub_cache.cache.pruning import Pruned, prune
from tfhub_cache.cache.removing import Removed, remove
from tfhub_cache.cache.resolving import Resolved, refresh, resolve_all
from tfhub_cache.cache.verifying import Verified, verify

__all__ = [
    "Entry",
    "Environment",
    "Info",
    "Pruned",
    "Removed",
    "Resolved",
    "Verified",
    "entries",
    "environment",
    "exists",
    "find",
    "free_space",
    "info",
    "lock",
    "prune",
    "refresh",
    "remove",
    "resolve_all",
    "verify",
]


def __dir__() -> list[str]:
    return __all__
