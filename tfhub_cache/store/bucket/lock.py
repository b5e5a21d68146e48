"""The lock object of an entry in an object store: how it is got, kept and given up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from tfhub_cache.store.bucket.objects import Objects, Version
from tfhub_cache.store.owner import Owner

_held: set[bytes] = set()
"""Who this process is to the locks that it has, or is about to take."""


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
        self._is_given_back = False
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
            _held.discard(self._owner)
            if self._is_given_back:
                return  # if that failed, what is not cleared away has no other lock
            if not self._objects.remove_version(self._name, self._owner, self._generation):
                _remove(self._objects, self._name, self._owner)

    def give_back(self) -> None:
        """Makes it the dead one's again, as what they left is not cleared away."""
        with self._mutex:
            self._lost = self._is_given_back = True
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
    _held.add(content)
    lock = None
    try:
        while True:
            generation = None
            if not look_first:
                dead = None
                generation = objects.create(name, content)
            if generation is None:
                try:
                    found = objects.version(name)
                except FileNotFoundError:
                    if not look_first:
                        return None
                    look_first = False
                    continue
                if found.content == content:  # it was made, and only the answer was lost
                    generation = found.generation
                elif not is_dead(found):
                    return None
                else:
                    # Whoever lives after all, or was faster, has another generation by now.
                    dead = found
                    generation = objects.rewrite(name, dead.content, dead.generation, content)
            if generation is not None:
                lock = LockObject(objects, name, owner, generation, dead)
                return lock
            look_first = True
    except BaseException:
        # Nobody must wait for somebody who was interrupted while taking it.
        with contextlib.suppress(Exception):
            _give_back(objects, name, content, dead)
        raise
    finally:
        if lock is None:
            _held.discard(content)


def is_nobodys(content: bytes) -> bool:
    """Whether a lock is of this process, and yet nobody's in it.

    Somebody was interrupted while they took it, or could not remove it; or it is from an earlier
    process of the same number, as the first of a container has each time.
    """
    owner = Owner.parse(content.decode("utf-8", "replace"))
    is_of_this_process = owner is not None and owner.is_ours and owner.is_this_process
    return is_of_this_process and content not in _held


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
