"""Removing models from the cache."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tfhub_cache import settings
from tfhub_cache.cache.listing import Chosen, chosen, reading
from tfhub_cache.errors import CacheError, reason
from tfhub_cache.fetching.eviction import AT_ONCE
from tfhub_cache.fetching.progress import counted
from tfhub_cache.store.contract import Store
from tfhub_cache.store.entry import Entry, InUse
from tfhub_cache.urls import redact


@dataclass(frozen=True)
class Removed:
    """What came of removing an entry.

    Attributes:
        handle: what was asked for.
        entry: what there was; None if there was nothing.
        error: why it is still there; None if it is not.
    """

    handle: str
    entry: Entry | None = None
    error: CacheError | None = None


def remove(handles: Iterable[str | Entry], *, dry_run: bool = False) -> list[Removed]:
    """Removes models from the cache, and what crashed processes left of them.

    A model that a process is downloading is not touched. A process that resolves a handle at the
    same time gets the whole model or none. A program that is just loading it either has all that it
    needs, or gets an error about a file that is not there.

    Args:
        handles: models as `find` takes them, or entries as `entries` returns them. A pattern, such
            as `https://tfhub.dev/google/*`, may mean several models; any other text must mean one.
        dry_run: whether to report what would be removed, and remove nothing.

    Returns:
        What came of each model, in the same order. One that fails does not stop the others.

    Raises:
        CacheError: if the cache can't be read.

    Example:
        ```python
        import tfhub_cache as hub

        hub.cache.remove(["https://tfhub.dev/google/nnlm-en-dim128/2"])
        ```
    """

    def remove_one(named: Chosen) -> Removed:
        handle, found = named
        if isinstance(found, CacheError):
            return Removed(handle, error=found)
        if not dry_run:
            return Removed(handle, found, _remove(cache.store, found))
        if found.holder is not None:
            return Removed(handle, found, removal_error(found, InUse(found.holder)))
        return Removed(handle, found)

    wanted = list(chosen(handles, one_each=True))
    with reading() as cache, ThreadPoolExecutor(AT_ONCE) as threads:
        return [*counted(threads.map(remove_one, wanted), len(wanted), "Removing models")]


def _remove(store: Store, entry: Entry) -> CacheError | None:
    lock_timeout = settings.LOCK_TIMEOUT.value()
    try:
        store.tidy(entry.key, lock_timeout, lambda _: True)
    except OSError as error:
        is_busy = isinstance(error, InUse) and entry.is_there
        if is_busy and not store.entry(entry.key, lock_timeout).is_there:
            return None  # the process that is busy with it removes it
        return removal_error(entry, error)
    return None


def removal_error(entry: Entry, error: OSError) -> CacheError:
    """Why an entry could not be removed, and what to do."""
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return CacheError(
        f"{entry.name} is not removed, or not all of it",
        cause=reason(cause),
        advice="Try again when no process is downloading it. Otherwise check the permissions of "
        f"{redact(entry.path)}, and whether a program has its files open.",
        handle=entry.name,
    )
