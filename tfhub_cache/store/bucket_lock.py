"""The lock object of an entry in an object store, as its holder has it."""

from __future__ import annotations

import threading

from tfhub_cache.store.objects import Objects


class LockObject:
    """A lock that is ours, as long as nobody replaces it."""

    def __init__(self, objects: Objects, name: str, owner: str, generation: int) -> None:
        self._objects = objects
        self._name = name
        self._owner = owner.encode()
        self._generation = generation
        self._lost = False
        self._mutex = threading.Lock()

    def beat(self) -> None:
        """Gives a sign of life."""
        with self._mutex:
            generation = self._objects.rewrite(self._name, self._owner, self._generation)
            if generation is None:
                # Somebody has replaced it, or the answer to an earlier beat was lost.
                try:
                    found = self._objects.version(self._name)
                except FileNotFoundError:
                    found = None
                if found is None or found.content != self._owner:
                    self._lost = True
                    return
                generation = found.generation
            self._generation = generation

    def is_lost(self) -> bool:
        with self._mutex:
            return self._lost or not self._is_ours()

    def release(self) -> None:
        with self._mutex:
            self._objects.remove_version(self._name, self._owner, self._generation)

    def _is_ours(self) -> bool:
        try:
            return self._objects.read(self._name) == self._owner
        except FileNotFoundError:
            return False
