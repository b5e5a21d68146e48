"""What is in the cache."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from tfhub_cache import settings
from tfhub_cache.errors import CacheError, ResolveError, reason
from tfhub_cache.fetching.lookup import Cache, open_cache
from tfhub_cache.store.entry import Entry
from tfhub_cache.urls import argument, as_meant, key_of, redact

__all__ = ["Entry", "entries", "find", "free_space"]


def entries() -> list[Entry]:
    """Everything in the cache: models, running downloads, and what crashed processes left.

    Nothing is locked, changed or downloaded. Sizes come from the manifests; only models of
    tensorflow_hub and damaged ones are measured file by file.

    Returns:
        The entries, in the order of their handles; those whose handle is not known come last.

    Raises:
        CacheError: if the cache can't be read. That there is no cache is not an error.

    Example:
        ```python
        import tfhub_cache as hub

        print(sum(entry.size for entry in hub.cache.entries()), "bytes")
        ```
    """
    with reading() as cache:
        found = cache.store.entries(settings.LOCK_TIMEOUT.value())
    return sorted(found, key=lambda entry: (entry.handle is None, entry.handle or "", entry.key))


def find(handle: str) -> Entry:
    """One entry of the cache.

    Args:
        handle: the handle as it was written when it was resolved, or the name of the entry's
            folder.

    Raises:
        CacheError: if there is nothing of it, or the cache can't be read.

    Example:
        ```python
        import tfhub_cache as hub

        print(hub.cache.find("https://tfhub.dev/google/nnlm-en-dim128/2").used)
        ```
    """
    key, shown = key_for(handle), redact(handle)
    with reading() as cache:
        entry = cache.store.entry(key, settings.LOCK_TIMEOUT.value())
    if not (entry.is_there or entry.leftovers or entry.holder):
        word = argument(as_meant(handle)) if key != handle else None
        fetch = "" if word is None else f", and `tfhub-cache resolve {word}` fetches it"
        raise CacheError(
            f"{shown} is not in the cache {cache.root}. `tfhub-cache ls` shows what is{fetch}.",
            handle=shown,
        )
    return entry


def free_space() -> int | None:
    """How many bytes are free where the cache is; None in a bucket, which has no limit.

    Raises:
        CacheError: if that can't be found out.
    """
    with reading() as cache:
        return cache.store.free_space()


@contextlib.contextmanager
def reading() -> Iterator[Cache]:
    """The cache that the settings name now; an error of its file system says which one it is."""
    cache = open_cache(settings.cache_dir())
    try:
        yield cache
    except ResolveError:
        raise
    except OSError as error:
        message = f"Could not read the cache {cache.root}"
        raise CacheError(message, cause=reason(error)) from error


def key_for(handle: str) -> str:
    """The name of an entry, from its handle or from that name itself."""
    return handle if re.fullmatch("[0-9a-f]{40}", handle) else key_of(as_meant(handle))
