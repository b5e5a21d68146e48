"""Pruning: removing what was not used for long, and what dead processes left behind."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfhub_cache.cache.listing import Current, current, entries
from tfhub_cache.cache.removing import told
from tfhub_cache.errors import CacheError
from tfhub_cache.fetching.eviction import by_last_use, last_use, take_away
from tfhub_cache.store.entry import Entry, InUse
from tfhub_cache.units import parse_duration, parse_size


@dataclass
class Pruned:
    """What was removed from the cache, or would be.

    Attributes:
        removed: the models, in the order in which they went.
        leftovers: what dead processes had left behind: names in the cache, and bytes.
        freed: the bytes of both.
        kept: models that were to go, but are in use, or were used in the meantime.
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
    dry_run: bool = False,
) -> Pruned:
    """Makes room in the cache.

    First goes what dead processes left behind: lock files, folders that were being filled, parts
    of archives, manifests without a model. Then the models that were not used for longest, until
    both limits hold. What somebody is downloading stays.

    Last use is recorded at most once an hour, so a model may have been used up to an hour later
    than its entry tells.

    Args:
        max_size: bytes that the models may have together: a number, or text such as `"20GB"` or
            `"500MiB"`. None: no limit.
        unused_for: the age of the last use from which on a model goes: seconds, or text such as
            `"30d"` or `"12h"`. None: no limit.
        dry_run: whether to only tell what would be removed.

    Returns:
        What was removed, or would be. What can't be removed is told there, and does not stop the
        rest.

    Raises:
        ValueError: if a text is no size or no duration.
        CacheError: if the cache can't be read.

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
    here = current()
    found = entries()
    pruned = Pruned()
    for entry in found:
        if entry.leftovers:
            left = entry.leftovers if dry_run else _sweep(here, entry, pruned)
            pruned.leftovers.update(left)
            pruned.freed += sum(left.values())
    models = [entry for entry in found if entry.is_there]
    pruned.size = sum(entry.size for entry in models)
    for entry in by_last_use(models):
        too_old = unused_for is not None and _age(entry) >= unused_for
        if not too_old and (max_size is None or pruned.size <= max_size):
            continue
        _take(here, entry, pruned, dry_run)
    return pruned


def _sweep(here: Current, entry: Entry, pruned: Pruned) -> Mapping[str, int]:
    """Removes what the dead left of an entry, and tells what that was."""
    try:
        # Looked at once more, as somebody else may sweep at the same time.
        left = here.store.entry(entry.key, here.lock_timeout).leftovers
        if left:
            here.store.tidy(entry.key, here.lock_timeout, lambda _: False)
        return left
    except InUse:
        return {}  # somebody has begun to download it, and sweeps themselves
    except OSError as error:
        pruned.errors.append(told(entry, error))
        return {}


def _take(here: Current, entry: Entry, pruned: Pruned, dry_run: bool) -> None:
    if dry_run:
        outcome = "removed" if entry.holder is None else "kept"
    else:
        try:
            outcome = take_away(here.store, entry, here.lock_timeout)
        except OSError as error:
            pruned.errors.append(told(entry, error))
            return
    if outcome == "kept":
        pruned.kept.append(entry)
        return
    pruned.size -= entry.size
    if outcome == "removed":
        pruned.removed.append(entry)
        pruned.freed += entry.size


def _age(entry: Entry) -> float:
    """Seconds since the last use; less than any limit if that is not known."""
    used = last_use(entry)
    if used is None:
        return -1.0
    return (datetime.datetime.now(datetime.timezone.utc) - used).total_seconds()
