"""What a process remembers of the entries in an object store."""

from __future__ import annotations

import time

from absl import logging

from tfhub_cache.store.bucket.look import Look, look_at
from tfhub_cache.store.bucket.objects import errors_explained, open_objects
from tfhub_cache.store.entry import is_versioned
from tfhub_cache.urls import redact

SEEN_SECONDS = 60.0
"""For how long an intact entry of a versioned handle is not looked at again in a process."""
_MOMENT = 0.5
"""For how long one that can't be used is not, as one resolve asks several times."""


class Looks:
    """The entries as they were last found.

    Attributes:
        root: where they are.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._found: dict[str, tuple[float, Look]] = {}
        self._changes = 0
        self._complained = False

    def recent(self, key: str) -> Look:
        """An entry as it was found within a minute, if it is intact and can't change."""
        _, look = self._found.get(key, (0.0, None))
        if look is None or look.flaw is not None:
            return self._within(key, _MOMENT)
        is_fixed = look.manifest is not None and is_versioned(look.manifest.handle)
        return self._within(key, SEEN_SECONDS if is_fixed else 0.0)

    def now(self, key: str) -> Look:
        """An entry as it is now, within a moment."""
        return self._within(key, _MOMENT)

    def last(self, key: str) -> Look:
        """An entry as it was last found."""
        return self._within(key, float("inf"))

    def remember(self, key: str, look: Look | None = None) -> None:
        """Notes that an entry is another now, and which, if that is known."""
        self._changes += 1
        self._found.pop(key, None)
        if look is not None:
            self._found[key] = time.monotonic() - _MOMENT, look

    def complain(self, error: BaseException) -> None:
        """Warns, once, that what is no longer needed can't be removed."""
        if not self._complained:
            self._complained = True
            logging.warning(
                "What is no longer needed in the cache %s can't be removed: %s",
                redact(self.root),
                error,
            )

    def _within(self, key: str, seconds: float) -> Look:
        at, look = self._found.get(key, (0.0, None))
        if look is None or time.monotonic() - at >= seconds:
            changes, objects = self._changes, open_objects(self.root)
            with errors_explained(self.root):
                look = look_at(objects, key)
                is_sound = look.flaw is None and look.manifest is not None
                if not is_sound and f"{key}.manifest.json" in look.listed:
                    look = look_at(objects, key)  # replaced between the two requests, perhaps
                    _ = look.flaw
            if changes == self._changes:  # or this may be what has just been replaced
                self._found[key] = time.monotonic(), look
        return look
