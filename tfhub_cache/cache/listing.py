"""What is in the cache."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tfhub_cache import settings
from tfhub_cache.errors import CacheError, ResolveError, reason
from tfhub_cache.fetching.lookup import open_cache
from tfhub_cache.store.contract import Store
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
    here = current()
    with here.as_cache_errors("read"):
        found = here.store.entries(here.lock_timeout)
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
    here = current()
    with here.as_cache_errors("read"):
        entry = here.store.entry(key_for(handle), here.lock_timeout)
    if not (entry.is_there or entry.leftovers or entry.holder):
        raise not_cached(handle, here)
    return entry


def free_space() -> int | None:
    """How many bytes are free where the cache is; None in a bucket, which has no limit.

    Raises:
        CacheError: if that can't be found out.
    """
    here = current()
    with here.as_cache_errors("read"):
        return here.store.free_space()


@dataclass(frozen=True)
class Current:
    """The cache that the settings name now.

    Attributes:
        root: its folder, as it may be shown.
        store: what it is on.
        lock_timeout: seconds; see `settings.LOCK_TIMEOUT`.
    """

    root: str
    store: Store
    lock_timeout: float

    @contextlib.contextmanager
    def as_cache_errors(self, what: str) -> Iterator[None]:
        """Turns the errors of a file system into a `CacheError` that names the cache."""
        try:
            yield
        except ResolveError:
            raise
        except OSError as error:
            message = f"Could not {what} the cache {self.root}"
            raise CacheError(message, cause=reason(error)) from error


def current() -> Current:
    """The cache that the settings name now."""
    root = settings.cache_dir()
    return Current(redact(root), open_cache(root).store, settings.LOCK_TIMEOUT.value())


def key_for(handle: str) -> str:
    """The name of an entry, from its handle or from that name itself."""
    return handle if re.fullmatch("[0-9a-f]{40}", handle) else key_of(as_meant(handle))


def not_cached(handle: str, here: Current) -> CacheError:
    """The error if there is no such entry."""
    shown, word = redact(handle), argument(as_meant(handle))
    is_known = word is not None and key_for(handle) != handle
    fetch = f", and `tfhub-cache resolve {word}` fetches it" if is_known else ""
    return CacheError(
        f"{shown} is not in the cache {here.root}. `tfhub-cache ls` shows what is{fetch}.",
        handle=shown,
    )
