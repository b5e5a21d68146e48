"""Removing models from the cache."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tfhub_cache import settings
from tfhub_cache.cache.listing import find, reading
from tfhub_cache.errors import CacheError, reason
from tfhub_cache.fetching.eviction import name_of
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


def remove(handles: Iterable[str | Entry]) -> list[Removed]:
    """Removes models from the cache, and what crashed processes left of them.

    A model that a process is downloading is not touched. A process that resolves a handle at the
    same time gets the whole model or none. A program that is just loading it either has all that it
    needs, or gets an error about a file that is not there.

    Args:
        handles: handles, names of entries' folders, or entries as `entries` returns them.

    Returns:
        What came of each, in the same order. One that fails does not stop the others.

    Raises:
        CacheError: if the cache can't be read.

    Example:
        ```python
        import tfhub_cache as hub

        hub.cache.remove(["https://tfhub.dev/google/nnlm-en-dim128/2"])
        ```
    """
    with reading() as cache:
        return [_remove(handle, cache.store) for handle in handles]


def _remove(subject: str | Entry, store: Store) -> Removed:
    if isinstance(subject, Entry):
        handle, entry = subject.handle or subject.key, subject
    else:
        try:
            handle, entry = subject, find(subject)
        except CacheError as error:
            return Removed(subject, error=error)
    lock_timeout = settings.LOCK_TIMEOUT.value()
    try:
        store.tidy(entry.key, lock_timeout, lambda _: True)
    except OSError as error:
        is_busy = isinstance(error, InUse) and entry.is_there
        if is_busy and not store.entry(entry.key, lock_timeout).is_there:
            return Removed(handle, entry)  # the process that is busy with it removes it
        return Removed(handle, entry, error=removal_error(entry, error))
    return Removed(handle, entry)


def removal_error(entry: Entry, error: OSError) -> CacheError:
    """Why an entry could not be removed, and what to do."""
    name = name_of(entry)
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    return CacheError(
        f"{name} is not removed, or not all of it",
        cause=reason(cause),
        advice="Try again when no process is downloading it. Otherwise check the permissions of "
        f"{redact(entry.path)}, and whether a program has its files open.",
        handle=name,
    )
