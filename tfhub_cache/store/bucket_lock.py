"""The lock object of an entry in an object store: how it is got, kept and given up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from tfhub_cache.store.objects import Objects, Version
from tfhub_cache.store.owner import Owner


class LockObject:
    """A lock that is ours, as long as nobody replaces it. See `take`.

    Attributes:
        uid: what its holder is known by.
        dead: the lock of somebody dead in whose place it is; None if it was made anew.
    """

    def __init__(
        self, objects: Objects, name: str, owner: Owner, generation: int, dead: Version | None
    ) -> None:
        self.uid = owner.uid
        self.dead = dead
        self._objects = objects
        self._name = name
        self._owner = str(owner).encode()
        self._generation = generation
        self._lost = False
        self._mutex = threading.Lock()

    def beat(self) -> None:
        """Gives a sign of life."""
        with self._mutex:
            if self._lost:
                return
            generation = self._objects.rewrite(
                self._name, self._owner, self._generation, self._owner
            )
            if generation is None:
                # Somebody has replaced it, or the answer to an earlier beat was lost.
                generation = _generation_of(self._objects, self._name, self._owner)
            if generation is None:
                self._lost = True
            else:
                self._generation = generation

    def is_lost(self) -> bool:
        with self._mutex:
            return self._lost or not self._is_ours()

    def release(self) -> None:
        with self._mutex:
            if not self._objects.remove_version(self._name, self._owner, self._generation):
                _remove(self._objects, self._name, self._owner)

    def give_back(self) -> None:
        """Makes it the dead one's again, as what they left is not cleared away."""
        with self._mutex:
            self._lost = True
            _give_back(self._objects, self._name, self._owner, self.dead)

    def _is_ours(self) -> bool:
        try:
            return self._objects.read(self._name) == self._owner
        except FileNotFoundError:
            return False


def take(
    objects: Objects, name: str, is_dead: Callable[[Version], bool], *, look_first: bool
) -> LockObject | None:
    """Makes a lock object, or makes that of somebody dead ours, in one step.

    Args:
        objects: where.
        name: its name.
        is_dead: asked of a lock that is in the way, whether its holder is dead.
        look_first: whether there probably is one. To look costs a store less than to try.

    Returns:
        None if its holder lives, or has released it at this very moment.
    """
    owner = Owner.new()
    content = str(owner).encode()
    dead: Version | None = None
    try:
        while True:
            if not look_first:
                dead = None
                generation = objects.create(name, content)
                if generation is not None:
                    return LockObject(objects, name, owner, generation, dead)
            try:
                found = objects.version(name)
            except FileNotFoundError:
                if not look_first:
                    return None
                look_first = False
                continue
            # It is ours if it was made, and only the answer was lost.
            if found.content == content:
                return LockObject(objects, name, owner, found.generation, dead)
            if not is_dead(found):
                return None
            # Whoever lives after all, or was faster, has another generation, and loses nothing.
            dead = found
            generation = objects.rewrite(name, dead.content, dead.generation, content)
            if generation is not None:
                return LockObject(objects, name, owner, generation, dead)
            look_first = True
    except BaseException:
        # Nobody must wait for somebody who was interrupted while taking it.
        with contextlib.suppress(Exception):
            _give_back(objects, name, content, dead)
        raise


def _give_back(objects: Objects, name: str, owner: bytes, dead: Version | None) -> None:
    if dead is None:
        _remove(objects, name, owner)
    elif (generation := _generation_of(objects, name, owner)) is not None:
        objects.rewrite(name, owner, generation, dead.content)


def _remove(objects: Objects, name: str, owner: bytes) -> None:
    generation = _generation_of(objects, name, owner)
    if generation is not None:
        objects.remove_version(name, owner, generation)


def _generation_of(objects: Objects, name: str, owner: bytes) -> int | None:
    """The generation of a lock that is still the owner's, None if it is not."""
    try:
        found = objects.version(name)
    except FileNotFoundError:
        return None
    return found.generation if found.content == owner else None
