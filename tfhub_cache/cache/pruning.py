"""Pruning: removing what was not used for long, and what crashed processes left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tfhub_cache import settings
from tfhub_cache.cache.listing import entries, meant
from tfhub_cache.cache.removing import removal_error
from tfhub_cache.errors import CacheError
from tfhub_cache.fetching.eviction import AT_ONCE, Outcome, evict, last_use
from tfhub_cache.fetching.lookup import open_cache
from tfhub_cache.fetching.progress import counted
from tfhub_cache.notation import parse_duration, parse_size
from tfhub_cache.store.entry import Entry, InUse


@dataclass
class Pruned:
    """What was removed from the cache, or would be.

    Attributes:
        removed: the models, in the order in which they went.
        leftovers: what crashed processes had left behind: names in the cache, and bytes.
        freed: the bytes of both.
        kept: models that should have gone, but are in use, or were used in the meantime.
        errors: what could not be removed.
        size: bytes of the models that are left.
    """

    removed: list[Entry] = field(default_factory=list)
    leftovers: dict[str, int] = field(default_factory=dict)
    freed: int = 0
    kept: list[Entry] = field(default_factory=list)
    errors: list[CacheError] = field(default_factory=list)
    size: int = 0


def prune(
    max_size: int | str | None = None,
    unused_for: float | str | None = None,
    *,
    keep: Iterable[str] = (),
    dry_run: bool = False,
    confirm: Callable[[Pruned], object] | None = None,
) -> Pruned:
    """Makes room in the cache.

    First goes what crashed processes left behind: lock files, folders that were being filled, parts
    of archives, manifests without a model. Then the least recently used models, until both limits
    hold. What a process is downloading stays.

    Last use is recorded at most once an hour, so a model may have been used up to an hour later
    than its entry says.

    Args:
        max_size: bytes that the models may have together: a number, or text such as `"20GB"` or
            `"500MiB"`. None: no limit.
        unused_for: the age of the last use from which on a model goes: seconds, or text such as
            `"30d"` or `"12h"`. None: no limit.
        keep: models that stay, as `find` takes them; each may mean several.
        dry_run: whether to report what would be removed, and remove nothing.
        confirm: is called with what would be removed, before anything is. If it raises an error,
            nothing is removed.

    Returns:
        What was removed, or would be. What can't be removed is among its errors, and does not stop
        the rest.

    Raises:
        ValueError: if a text is not a valid size or duration.
        CacheError: if the cache can't be read, or there is nothing that one of `keep` means.

    Example:
        ```python
        import tfhub_cache as hub

        pruned = hub.cache.prune(max_size="20GB", unused_for="30d")
        print(len(pruned.removed), "models,", pruned.freed, "bytes")
        ```
    """
    if isinstance(max_size, str):
        max_size = parse_size(max_size)
    if isinstance(unused_for, str):
        unused_for = parse_duration(unused_for)

    found = entries()
    staying = {entry.key for entry in meant(keep, lambda: found)}
    store = open_cache(settings.cache_dir()).store

    def must_go(entry: Entry) -> bool:
        used = last_use(entry)
        return unused_for is not None and used is not None and time.time() - used >= unused_for

    def must_stay(entry: Entry) -> bool:
        return entry.key in staying

    going = partial(evict, store, found, max_size, must_go=must_go, must_stay=must_stay)

    def sweep(entry: Entry) -> OSError | None:
        try:
            store.tidy(entry.key, settings.LOCK_TIMEOUT.value(), lambda _: False)
        except OSError as error:
            return error
        return None

    left = [entry for entry in found if entry.leftovers]
    size = sum(entry.size for entry in found if entry.is_there)
    plan = _pruned(size, going(dry_run=True), ((entry, None) for entry in left))
    if dry_run:
        return plan
    if confirm is not None:
        confirm(plan)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        swept = list(zip(left, threads.map(sweep, left), strict=True))
    removed = counted(going(), len(plan.removed), "Removing models")
    return _pruned(size, removed, swept)


def _pruned(
    size: int,
    removed: Iterable[tuple[Entry, Outcome]],
    swept: Iterable[tuple[Entry, OSError | None]],
) -> Pruned:
    pruned = Pruned(size=size)
    for entry, error in swept:
        if error is None:
            pruned.leftovers.update(entry.leftovers)
            pruned.freed += sum(entry.leftovers.values())
        elif not isinstance(error, InUse):  # a process that downloads it sweeps itself
            pruned.errors.append(removal_error(entry, error))
    for entry, outcome in removed:
        if isinstance(outcome, OSError):
            pruned.errors.append(removal_error(entry, outcome))
        elif outcome == "kept":
            pruned.kept.append(entry)
        else:
            pruned.size -= entry.size
            if outcome == "removed":
                pruned.removed.append(entry)
                pruned.freed += entry.size
    return pruned
