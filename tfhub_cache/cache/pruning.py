"""Pruning: removing what was not used for long, and what crashed processes left behind."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field

from tfhub_cache.cache.listing import Current, current, entries
from tfhub_cache.cache.removing import removal_error
from tfhub_cache.errors import CacheError
from tfhub_cache.fetching.eviction import Plan, last_use, take_away
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
    dry_run: bool = False,
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
        dry_run: whether to report what would be removed, and remove nothing.

    Returns:
        What was removed, or would be. What can't be removed is among its errors, and does not stop
        the rest.

    Raises:
        ValueError: if a text is not a valid size or duration.
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
    plan = Plan(
        found,
        max_size,
        must_go=lambda entry: unused_for is not None and _age(entry) >= unused_for,
    )
    for entry in plan:
        outcome = _outcome_planned(entry) if dry_run else _take(here, entry, pruned)
        if outcome in ("kept", "failed"):
            plan.put_back(entry)
        if outcome == "kept":
            pruned.kept.append(entry)
        elif outcome == "removed":
            pruned.removed.append(entry)
            pruned.freed += entry.size
    pruned.size = plan.size
    return pruned


def _sweep(here: Current, entry: Entry, pruned: Pruned) -> Mapping[str, int]:
    """Removes what crashed processes left of an entry, and returns what that was."""
    try:
        # Looked at once more, as another process may sweep at the same time.
        left = here.store.entry(entry.key, here.lock_timeout).leftovers
        if left:
            here.store.tidy(entry.key, here.lock_timeout, lambda _: False)
        return left
    except InUse:
        return {}  # a process has begun to download it, and sweeps itself
    except OSError as error:
        pruned.errors.append(removal_error(entry, error))
        return {}


def _outcome_planned(entry: Entry) -> str:
    return "removed" if entry.holder is None else "kept"


def _take(here: Current, entry: Entry, pruned: Pruned) -> str:
    try:
        return take_away(here.store, entry, here.lock_timeout)
    except OSError as error:
        pruned.errors.append(removal_error(entry, error))
        return "failed"


def _age(entry: Entry) -> float:
    """Seconds since the last use; less than any limit if that is not known."""
    used = last_use(entry)
    if used is None:
        return -1.0
    return (datetime.datetime.now(datetime.timezone.utc) - used).total_seconds()
