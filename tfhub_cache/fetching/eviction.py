"""Making room: what was not used for longest goes first."""

from __future__ import annotations

import datetime
import time
from collections.abc import Collection, Iterable
from typing import Literal

from absl import logging

from tfhub_cache.store.contract import Store
from tfhub_cache.store.entry import RECORD_SECONDS, Entry, InUse
from tfhub_cache.units import format_size
from tfhub_cache.urls import redact

_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
_LOOKS = 10
_LOOK_EVERY = 0.05


def make_room(
    store: Store, max_size: int, *, keep_used: float, keep: Collection[str], lock_timeout: float
) -> None:
    """Removes entries until the others fit.

    Args:
        store: where the cache is.
        max_size: bytes that the entries may have together.
        keep_used: seconds for which an entry stays after its last use.
        keep: the keys of entries that stay: what was just made, and what else is wanted with it.
        lock_timeout: as of `Store.contend`.

    Raises:
        OSError: if the cache can't be read.
    """
    entries = [entry for entry in store.entries(lock_timeout) if entry.is_there]
    total = sum(entry.size for entry in entries)
    for entry in by_last_use(entries):
        if total <= max_size:
            return
        if entry.key in keep or _is_recent(entry, keep_used):
            continue
        try:
            outcome = take_away(store, entry, lock_timeout)
        except OSError as error:  # of another user, perhaps; there are others
            logging.warning("Could not remove '%s' from the cache: %s", name_of(entry), error)
            continue
        if outcome != "kept":
            total -= entry.size
        if outcome == "removed":
            logging.info(
                "Removed '%s' (%s) from the cache, which may have %s.",
                name_of(entry),
                format_size(entry.size),
                format_size(max_size),
            )
    if total > max_size:
        logging.warning(
            "The cache has %s, more than the %s that it may have: what is left is in use, or was "
            "used not long ago.",
            format_size(total),
            format_size(max_size),
        )


def by_last_use(entries: Iterable[Entry]) -> list[Entry]:
    """Entries, those that were not used for longest first."""
    return sorted(entries, key=lambda entry: (last_use(entry) or _LONG_AGO, entry.key))


def last_use(entry: Entry) -> datetime.datetime | None:
    """When an entry was used, or at least downloaded."""
    return entry.used or entry.downloaded


def take_away(
    store: Store, entry: Entry, lock_timeout: float
) -> Literal["removed", "gone", "kept"]:
    """Removes an entry, unless it was used or made anew since it was looked at.

    Returns:
        `gone` if somebody else has removed it, who makes room at the same time; `kept` if it is
        still there, as it is being downloaded, or was used in the meantime.

    Raises:
        OSError: if it can't be removed.
    """

    def is_as_before(found: Entry) -> bool:
        return found.used == entry.used and found.manifest == entry.manifest

    for _ in range(_LOOKS):
        try:
            if store.tidy(entry.key, lock_timeout, is_as_before, entry.leftovers):
                return "removed"
            return "kept" if store.entry(entry.key, lock_timeout).is_there else "gone"
        except InUse:
            # Whoever removes it is done with that part in a moment; whoever downloads it is not.
            if not store.entry(entry.key, lock_timeout).is_there:
                return "gone"
            time.sleep(_LOOK_EVERY)
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
