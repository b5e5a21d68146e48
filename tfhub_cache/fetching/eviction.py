"""Making room: the least recently used models go first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

from absl import logging

from tfhub_cache import settings
from tfhub_cache.notation import format_size
from tfhub_cache.store.contract import Store
from tfhub_cache.store.entry import RECORD_SECONDS, Entry, InUse

AT_ONCE = 16
"""How many models are removed at a time: in a bucket, each takes several requests."""
_PATIENCE = 0.5
"""Seconds within which another process that removes a model is done with it."""

Outcome: TypeAlias = Literal["removed", "gone", "kept"] | OSError
"""What came of taking a model away. `gone`: another process has removed it, which makes room at the
same time. `kept`: it is still there, as it is being downloaded, or was used in the meantime. Or why
it can't be removed."""


def evict(
    store: Store,
    entries: Iterable[Entry],
    max_size: int | None,
    *,
    must_go: Callable[[Entry], bool] = lambda _: False,
    must_stay: Callable[[Entry], bool] = lambda _: False,
    dry_run: bool = False,
) -> Iterator[tuple[Entry, Outcome]]:
    """Removes models, the least recently used first: those that must go, and until the rest fits.

    Where one stays that should have gone, others go in its place.

    Args:
        store: where the cache is.
        entries: what there is in it.
        max_size: bytes that the models may have together; None: no limit.
        must_go: whether a model goes in any case.
        must_stay: whether a model stays in any case.
        dry_run: whether to report what would be removed, and remove nothing.

    Yields:
        Each model that should go, and what came of it.
    """
    models = sorted(
        (entry for entry in entries if entry.is_there),
        key=lambda entry: (last_use(entry) or 0.0, entry.key),
    )
    size = sum(model.size for model in models)

    def take_away(model: Entry) -> Outcome:
        if dry_run:
            return "removed" if model.holder is None else "kept"
        return _take_away(store, model)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        while True:
            batch = []
            for model in models:
                is_too_large = max_size is not None and size > max_size
                if (is_too_large or must_go(model)) and not must_stay(model):
                    batch.append(model)
                    size -= model.size
            if not batch:
                return
            going = {model.key for model in batch}
            models = [model for model in models if model.key not in going]
            for model, outcome in zip(batch, threads.map(take_away, batch), strict=True):
                if outcome not in ("removed", "gone"):
                    size += model.size
                yield model, outcome


def make_room(store: Store, max_size: int, keep_used: float, keep: Collection[str]) -> None:
    """Removes models until the others fit, if that is possible.

    Args:
        store: where the cache is.
        max_size: bytes that the models may have together.
        keep_used: seconds for which a model stays after its last use.
        keep: the keys of models that stay: what was just made, and what else is wanted with it.
    """

    def must_stay(entry: Entry) -> bool:
        # Uses within so long after the recorded one were not recorded.
        since = time.time() - keep_used - RECORD_SECONDS
        return entry.key in keep or bool(keep_used and (last_use(entry) or 0.0) > since)

    try:
        occupied = store.occupied()
        if occupied is not None and occupied <= max_size:
            return
        entries = store.entries(settings.LOCK_TIMEOUT.value())
    except OSError as error:  # the model is there all the same
        logging.warning("Could not make room in the cache: %s", error)
        return
    size = sum(entry.size for entry in entries if entry.is_there)
    for entry, outcome in evict(store, entries, max_size, must_stay=must_stay):
        if isinstance(outcome, OSError):  # of another user, perhaps; there are others
            logging.warning("Could not remove '%s' from the cache: %s", entry.name, outcome)
        elif outcome != "kept":
            size -= entry.size
            logging.info(
                "Removed '%s' (%s) from the cache, which may have %s.",
                entry.name,
                format_size(entry.size),
                format_size(max_size),
            )
    if size > max_size:
        logging.warning(
            "The cache has %s, more than the %s that it may have: what is left is in use, or was "
            "used not long ago.",
            format_size(size),
            format_size(max_size),
        )


def last_use(entry: Entry) -> float | None:
    """When an entry was used, or at least downloaded, in seconds since 1970."""
    used = entry.used or entry.downloaded
    return None if used is None else used.timestamp()


def _take_away(store: Store, entry: Entry) -> Outcome:
    """Removes a model, unless it was used or made again since it was looked at."""
    lock_timeout = settings.LOCK_TIMEOUT.value()

    def is_as_before(found: Entry) -> bool:
        return found.used == entry.used and found.manifest == entry.manifest

    try:
        for _ in range(2):  # once more, as the process that was busy with it may only have looked
            with contextlib.suppress(InUse):
                if store.tidy(entry.key, lock_timeout, is_as_before):
                    return "removed"
            now = store.settled(entry.key, lock_timeout, lambda e: not e.is_there, _PATIENCE)
            if not now.is_there:
                return "gone"
    except OSError as error:
        return error
    return "kept"
