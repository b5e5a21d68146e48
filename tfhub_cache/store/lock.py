"""The lock file of an entry: who is making it, and whether they are still alive.

The file is `<key>.lock` and holds `<host>.<pid>.<uid>`, as tensorflow_hub writes and reads it.
That it exists says that somebody is at work. Whether they are still alive is told by

- an operating system's lock that our holders keep on the file. The system drops it when they die,
  however they die: on one machine death is certain at once;
- a heartbeat, for holders on other machines: ours touch the file every few seconds;
- tensorflow_hub's own rule for its holders, who do neither: the folder they fill must have grown
  within ten minutes, and on this machine their process must exist.

What this does not guarantee: on a file system without such locks, or when a machine falls asleep
in a download and wakes up later, two downloads of an entry may run at once. They do no harm: each
fills a folder of its own, and one of them is published.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import weakref
from typing import NamedTuple

from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner, Silence


class HeldLock:
    """A lock file that is ours: kept alive until it is released, or nobody refers to it."""

    def __init__(self, path: str, descriptor: int, owner: Owner, heartbeat: float) -> None:
        self.owner = owner
        self._path = path
        self._descriptor = descriptor
        released = threading.Event()
        thread = threading.Thread(
            target=_beat, args=(path, descriptor, heartbeat, released), daemon=True
        )
        self._finalizer = weakref.finalize(self, _let_go, path, descriptor, released, thread)
        _HELD.add(self)
        thread.start()

    def release(self) -> None:
        """Removes the lock file, unless somebody took it over, and lets go of it."""
        self._finalizer()

    def is_held(self) -> bool:
        """Whether nobody has taken it over, as somebody may who saw no sign of life for long."""
        return _is_at(self._path, self._descriptor)

    def forget(self) -> None:
        """Closes a copy of the lock that this process got by being forked."""
        if self._finalizer.detach():
            os.close(self._descriptor)


_HELD: weakref.WeakSet[HeldLock] = weakref.WeakSet()


def _forget_all() -> None:
    # With a copy of the descriptor, a child would keep its parent's lock beyond its death.
    for lock in list(_HELD):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _beat(path: str, descriptor: int, seconds: float, released: threading.Event) -> None:
    target = descriptor if os.utime in os.supports_fd else path
    while not released.wait(seconds):
        with contextlib.suppress(OSError):
            os.utime(target)


def _let_go(
    path: str, descriptor: int, released: threading.Event, thread: threading.Thread
) -> None:
    released.set()
    if thread.is_alive():
        thread.join()
    _remove(path, descriptor)


class LockContender:
    """Tries to get a lock file, and keeps watch on whoever has it."""

    def __init__(self, base: str, timeout: float) -> None:
        """Prepares to contend.

        Args:
            base: the path of the entry; the lock file's is `<base>.lock`.
            timeout: seconds without a heartbeat after which another machine's holder is dead.
        """
        self.holder = ""
        self._base = base
        self._path = f"{base}.lock"
        self._timeout = timeout
        self._silence = Silence()

    def attempt(self) -> HeldLock | None:
        """Tries once, clearing away a dead holder.

        Raises:
            OSError: if the folder can't be written.
        """
        while True:
            file = _open(self._path)
            try:
                held, decided = self._try(file)
            except BaseException:
                # Nobody must wait for a lock of somebody who was interrupted while taking it.
                with contextlib.suppress(OSError):
                    if _try_os_lock(file.descriptor) and not _read(file.descriptor):
                        _remove(self._path, file.descriptor)
                    else:
                        os.close(file.descriptor)
                raise
            if decided:
                return held

    def _try(self, file: _LockFile) -> tuple[HeldLock | None, bool]:
        """The lock if it can be had, and whether that is settled; otherwise look again."""
        os_lock = _try_os_lock(file.descriptor)
        if not _is_at(self._path, file.descriptor):  # released at this very moment
            os.close(file.descriptor)
            return None, False
        content = _read(file.descriptor)
        # Where the file system has no such locks, having made the file must do.
        is_mine = file.created if os_lock is None else os_lock
        if is_mine and not content and file.writable:
            owner = Owner.new()
            try:
                os.write(file.descriptor, str(owner).encode())
            except BaseException:
                os.ftruncate(file.descriptor, 0)
                raise
            heartbeat = min(2.0, self._timeout / 4)
            return HeldLock(self._path, file.descriptor, owner, heartbeat), True
        self.holder = content
        holder = Owner.parse(content)
        # An empty file is about to be written, or on Windows can't be read.
        unreadable = not content and os_lock is False
        touched = os.fstat(file.descriptor).st_mtime
        if unreadable or not self._is_dead(holder, content, touched, os_lock):
            os.close(file.descriptor)
            return None, True
        _remove(self._path, file.descriptor)
        if holder is not None:
            discard(staging_folder(self._base, holder.uid))
        return None, False

    def _is_dead(
        self, holder: Owner | None, content: str, touched: float, os_lock: bool | None
    ) -> bool:
        if holder is not None and holder.is_ours:
            if holder.is_here and (os_lock or (os_lock is None and not holder.process_exists())):
                return True
            return self._silence.exceeds(self._timeout, (content, touched), touched)
        if holder is None:
            return self._silence.exceeds(TENSORFLOW_HUB_TIMEOUT, content, touched)
        if holder.is_here and not holder.process_exists():
            return True
        size, written = _growth(staging_folder(self._base, holder.uid))
        return self._silence.exceeds(TENSORFLOW_HUB_TIMEOUT, (content, size), max(written, touched))


def staging_folder(base: str, uid: str) -> str:
    """The folder that the holder with `uid` fills."""
    return f"{base}.{uid}.tmp"


def discard(path: str) -> None:
    """Removes a file or a folder, as far as that can be done; a link itself, not its target.

    It is renamed first: somebody may still be filling it who was taken for dead, and what is half
    removed must not be published if they wake up.
    """
    with contextlib.suppress(OSError):
        discarded = f"{path.removesuffix('.tmp')}.gone.tmp"
        os.rename(path, discarded)
        if os.path.isdir(discarded) and not os.path.islink(discarded):
            shutil.rmtree(discarded, ignore_errors=True)
        else:
            os.unlink(discarded)


class _LockFile(NamedTuple):
    descriptor: int
    created: bool
    writable: bool


# Another user must not make us follow a link, nor a child process inherit the lock.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _open(path: str) -> _LockFile:
    """Opens the lock file, making it if there is none."""
    while True:
        try:
            return _LockFile(os.open(path, os.O_RDWR | _SAFELY), False, True)
        except FileNotFoundError:
            pass
        except PermissionError:  # somebody else's: it can still be read and watched
            return _LockFile(os.open(path, os.O_RDONLY | _SAFELY), False, False)
        with contextlib.suppress(FileExistsError):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY
            return _LockFile(os.open(path, flags, 0o666), True, True)


def _try_os_lock(descriptor: int) -> bool | None:
    """Takes the system's lock if it is free; None where the file system has none."""
    import filelock  # only to download

    try:
        return bool(filelock.lock_descriptor(descriptor, blocking=False))
    except OSError:
        return None


def _is_at(path: str, descriptor: int) -> bool:
    """Whether the open file is still the one with that name."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, 4096).decode("utf-8", "replace")
    except PermissionError:  # on Windows a locked file can't be read
        return ""


def _remove(path: str, descriptor: int) -> None:
    """Removes the lock file if it is the open one, and closes it."""
    is_there = _is_at(path, descriptor)
    if os.name == "nt":  # an open file can't be removed
        os.close(descriptor)
        descriptor = -1
    try:
        if is_there:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _growth(folder: str) -> tuple[int, float]:
    """The bytes in a folder, and when it was last written to."""
    size, written = 0, 0.0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(parent, name), follow_symlinks=False)
                size += status.st_size
                written = max(written, status.st_mtime)
    return size, written
