"""Making room: the least recently used models go first."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal

from absl import logging

from tfhub_cache.notation import format_size
from tfhub_cache.store.contract import Store
from tfhub_cache.store.entry import RECORD_SECONDS, Entry, InUse
from tfhub_cache.urls import redact

_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
_PATIENCE = 0.5
"""Seconds within which another process that removes a model is done with it."""


class Plan:
    """Which models go, the least recently used first: those that must, and until the rest fits.

    It is iterated to carry it out, or to show it. A model counts as gone unless `put_back` says
    otherwise; others may then go in its place.

    Attributes:
        size: bytes of the models that stay.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        max_size: int | None,
        *,
        must_go: Callable[[Entry], bool] = lambda _: False,
        must_stay: Callable[[Entry], bool] = lambda _: False,
    ) -> None:
        """Makes a plan.

        Args:
            entries: what there is in the cache.
            max_size: bytes that the models may have together; None: no limit.
            must_go: whether a model goes in any case.
            must_stay: whether a model stays in any case.
        """
        self._models = by_last_use(entry for entry in entries if entry.is_there)
        self._max_size = max_size
        self._must_go = must_go
        self._must_stay = must_stay
        self.size = sum(entry.size for entry in self._models)

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._models:
            is_too_large = self._max_size is not None and self.size > self._max_size
            if (is_too_large or self._must_go(entry)) and not self._must_stay(entry):
                self.size -= entry.size
                yield entry

    def put_back(self, entry: Entry) -> None:
        """Notes that a model has stayed."""
        self.size += entry.size


def make_room(
    store: Store, max_size: int, *, keep_used: float, keep: Collection[str], lock_timeout: float
) -> None:
    """Removes models until the others fit.

    Args:
        store: where the cache is.
        max_size: bytes that the models may have together.
        keep_used: seconds for which a model stays after its last use.
        keep: the keys of models that stay: what was just made, and what else is wanted with it.
        lock_timeout: see `Store.contend`.

    Raises:
        OSError: if the cache can't be read.
    """
    plan = Plan(
        store.entries(lock_timeout),
        max_size,
        must_stay=lambda entry: entry.key in keep or _is_recent(entry, keep_used),
    )
    for entry in plan:
        try:
            outcome = take_away(store, entry, lock_timeout)
        except OSError as error:  # of another user, perhaps; there are others
            logging.warning("Could not remove '%s' from the cache: %s", name_of(entry), error)
            outcome = "kept"
        if outcome == "kept":
            plan.put_back(entry)
        elif outcome == "removed":
            logging.info(
                "Removed '%s' (%s) from the cache, which may have %s.",
                name_of(entry),
                format_size(entry.size),
                format_size(max_size),
            )
    if plan.size > max_size:
        logging.warning(
            "The cache has %s, more than the %s that it may have: what is left is in use, or was "
            "used not long ago.",
            format_size(plan.size),
            format_size(max_size),
        )


def by_last_use(entries: Iterable[Entry]) -> list[Entry]:
    """Entries, the least recently used first."""
    return sorted(entries, key=lambda entry: (last_use(entry) or _LONG_AGO, entry.key))


def last_use(entry: Entry) -> datetime.datetime | None:
    """When an entry was used, or at least downloaded."""
    return entry.used or entry.downloaded


def take_away(
    store: Store, entry: Entry, lock_timeout: float
) -> Literal["removed", "gone", "kept"]:
    """Removes a model, unless it was used or made again since it was looked at.

    Returns:
        `gone` if another process has removed it, which makes room at the same time; `kept` if it is
        still there, as it is being downloaded, or was used in the meantime.

    Raises:
        OSError: if it can't be removed.
    """

    def is_as_before(found: Entry) -> bool:
        return found.used == entry.used and found.manifest == entry.manifest

    for _ in range(2):  # once more, as the process that was busy with it may only have looked
        try:
            if store.tidy(entry.key, lock_timeout, is_as_before):
                return "removed"
            return "kept" if store.entry(entry.key, lock_timeout).is_there else "gone"
        except InUse:
            found = store.settled(
                entry.key, lock_timeout, lambda found: not found.is_there, _PATIENCE
            )
            if not found.is_there:
                return "gone"
    return "kept"


def name_of(entry: Entry) -> str:
    """An entry's handle as it may be shown; where it is not known, the name of its folder."""
    return entry.key if entry.handle is None else redact(entry.handle)


def _is_recent(entry: Entry, seconds: float) -> bool:
    used = last_use(entry)
    if not seconds or used is None:
        return False
    # Uses within so long after the recorded one were not recorded.
    age = datetime.datetime.now(datetime.timezone.utc) - used
    return age.total_seconds() < seconds + RECORD_SECONDS
