"""The lock file of an entry: which process is making it, and whether that is still running.

The file is `<key>.lock` and holds `<host>.<pid>.<uid>`, as tensorflow_hub writes and reads it.
That it exists says that a process is at work: the one that made it. That of a crashed process is
removed first, and then made again. Whether its owner is still running is known from

- an operating system's lock that our processes keep on the file. The system drops it when they end,
  however they end: on one machine a crash is certain at once. Where a file that is open for reading
  can't be locked, as on NFS, it is known from the process id;
- a heartbeat, for owners on other machines: ours touch the file every few seconds;
- tensorflow_hub's own rule for its processes, which do neither: the folder that one fills must have
  grown within ten minutes, and on this machine the process must exist.

What this does not guarantee is that only one process downloads an entry at a time: not on a file
system without such locks, not when a machine falls asleep in a download and wakes up later, and not
when two processes take over from a third in the same millisecond. That does no harm: each fills a
folder of its own, and one of them is published. The others find that their lock file is gone.

Some file systems grant such a lock to all who ask. That is noticed, and the lock is ignored. Others
keep them on the machine that asks; then machines of the same name take each other's processes for
crashed. A process from which a lock was taken in that way goes by the heartbeat alone from then on,
so it ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref

from tfhub_cache.store.disk import files
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner

_LONG_AGO = 3600.0
"""Seconds after which a sign of life is not waited for."""


class Lock:
    """The lock file of an entry: contended for by `attempt`, and then kept alive until `release`.

    Attributes:
        holder: what the file said at the last attempt, if it is another process's.
        owner: who we are in it.
    """

    def __init__(self, base: str, timeout: float) -> None:
        """Prepares to contend.

        Args:
            base: the path of the entry; the lock file's is `<base>.lock`.
            timeout: seconds without a heartbeat after which another machine's process counts as
                crashed.
        """
        self.holder = ""
        self.owner = Owner.new()
        self._base = base
        self._path = f"{base}.lock"
        self._timeout = timeout
        self._sign: tuple[object, float] = None, 0.0  # the last one, and when it was first seen
        self._descriptor = -1
        self._is_ours = False
        self._had_it = False
        _OPEN.add(self)

    def attempt(self) -> Lock | None:
        """Tries once, after removing the lock file of a crashed process.

        To try again after it was got means that it was lost: another process took this one, which
        runs, for crashed. What that went by misleads here, so only silence counts from now on.

        Returns:
            This, or None while a running process has it.

        Raises:
            OSError: if the folder can't be written.
        """
        while True:
            self._is_ours = is_made = False
            try:
                is_made = self._open()
                os_lock = self._try_os_lock()
                if not self._is_at_its_path():  # released at this very moment
                    continue
                if is_made and os_lock is not False:
                    self._take()
                    return self
                self.holder = self._read()
                if not self._is_orphaned(self.holder, os_lock):
                    return None
                self._remove()  # its folder goes with what else was left over
            except BaseException:
                self.release()  # no process must wait for one that was interrupted
                if is_made:
                    self._remove()
                raise
            finally:
                if not self._is_ours:
                    self._close()

    def look(self) -> str | None:
        """Which running process has the lock, as its content says, if any. Changes nothing."""
        with contextlib.suppress(OSError):
            try:
                self._open(make=False)
                os_lock = self._try_os_lock()  # for a moment: other processes take us for its owner
                content = self._read()
                return None if self._is_orphaned(content, os_lock) else content
            finally:
                self._close()
        return None

    def is_held(self) -> bool:
        """Whether no other process has taken it over, having seen no sign of life for long."""
        return self._is_ours and self._is_at_its_path()

    def release(self) -> None:
        """Removes the lock file, unless another process took it over, and lets go of it."""
        if not self._is_ours:
            return
        try:
            self._released.set()
            if self._heart.is_alive():
                self._heart.join()
        finally:
            self._remove()

    def unpacked(self) -> int:
        """How many bytes the holder of the last attempt has put into its folder."""
        holder = Owner.parse(self.holder)
        return 0 if holder is None else _growth(staging_folder(self._base, holder.uid))[0]

    def _take(self) -> None:
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._is_ours = self._had_it = True
        with contextlib.suppress(OSError):  # on a full disk others wait, and don't know for whom
            os.write(self._descriptor, str(self.owner).encode())
        try:
            self._heart.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"No heartbeat: {error}") from error

    def _beat(self) -> None:
        while not self._released.wait(min(2.0, self._timeout / 4)):
            with contextlib.suppress(OSError):
                os.utime(self._descriptor if os.utime in os.supports_fd else self._path)

    def _is_orphaned(self, content: str, os_lock: bool | None) -> bool:
        """Whether the process that the file names has crashed."""
        touched = os.fstat(self._descriptor).st_mtime
        if not content and os_lock is not None:
            if os_lock or os.name == "nt":  # Windows lets no other process read a locked file
                return os_lock
            return self._is_silent(self._timeout, touched, touched)
        holder = Owner.parse(content)
        if holder is None:
            return self._is_silent(TENSORFLOW_HUB_TIMEOUT, content, touched)
        is_judged_by_lock = holder.is_ours and os_lock is not None
        is_gone = os_lock if is_judged_by_lock else not holder.process_exists()
        if holder.is_here and is_gone and not self._had_it:
            return True
        if holder.is_ours:
            return self._is_silent(self._timeout, (content, touched), touched)
        size, written = _growth(staging_folder(self._base, holder.uid))
        return self._is_silent(TENSORFLOW_HUB_TIMEOUT, (content, size), max(written, touched))

    def _is_silent(self, patience: float, sign: object, time_of_sign: float) -> bool:
        """Whether a process has given no new sign of life for so many seconds.

        By our own clock, from when a sign was first seen, since the clocks of two machines differ.
        What a file system says of the time of a sign counts only if that is long ago.
        """
        now = time.monotonic()
        if sign != self._sign[0]:
            self._sign = sign, now
        return now - self._sign[1] > patience or time.time() - time_of_sign > _LONG_AGO + patience

    def _open(self, *, make: bool = True) -> bool:
        """Opens the file, or makes it, and returns whether it was made."""
        while True:
            with contextlib.suppress(FileNotFoundError):
                # It may be another user's, and is only watched and removed.
                self._descriptor = files.open_regular(self._path, os.O_RDONLY)
                return False
            if not make:
                raise FileNotFoundError(errno.ENOENT, "There is no lock file", self._path)
            with contextlib.suppress(FileExistsError):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                self._descriptor = files.open_regular(self._path, flags)
                return True

    def _try_os_lock(self) -> bool | None:
        """Takes the system's lock if it is free; None where the file system has none.

        A lock that is granted a second time, while we have it, does not count.
        """
        import filelock  # only to download

        try:
            if not filelock.lock_descriptor(self._descriptor, blocking=False):
                return False
            other = files.open_regular(self._path, os.O_RDONLY)
            try:
                return None if filelock.lock_descriptor(other, blocking=False) else True
            finally:
                os.close(other)
        except OSError:
            return None

    def _is_at_its_path(self) -> bool:
        """Whether the open file is still the one with that name."""
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(self._path, follow_symlinks=False)
            return self._descriptor >= 0 and os.path.samestat(there, os.fstat(self._descriptor))
        return False

    def _read(self) -> str:
        try:
            return os.read(self._descriptor, 4096).decode("utf-8", "replace")
        except PermissionError:  # on Windows a locked file can't be read
            return ""

    def _remove(self) -> None:
        """Removes the file, if it is still the one with that name, and closes it."""
        try:
            is_there = self._is_at_its_path()
            if os.name == "nt":  # an open file can't be removed
                self._close()
            if is_there:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
        finally:
            self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def staging_folder(base: str, uid: str) -> str:
    """The folder that the holder with `uid` fills."""
    return f"{base}.{uid}.tmp"


_OPEN: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_all() -> None:
    # With a copy of the descriptor, a child would keep its parent's lock beyond its end. Without
    # it, what the child has of the parent's locks counts as lost, and removes nothing.
    for lock in list(_OPEN):
        lock._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def _growth(folder: str) -> tuple[int, float]:
    """The bytes in a folder, and when it was last written to."""
    size, written = 0, 0.0
    for _, status in files.files_below(folder):
        size += status.st_size
        written = max(written, status.st_mtime)
    return size, written
