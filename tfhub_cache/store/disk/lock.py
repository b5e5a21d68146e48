"""The lock file of an entry: which process is making it, and whether that is still running.

The file is `<key>.lock` and holds `<host>.<pid>.<uid>`, as tensorflow_hub writes and reads it.
That it exists says that a process is at work. Whether its owner is still running is known from

- an operating system's lock that our processes keep on the file. The system drops it when they end,
  however they end: on one machine a crash is certain at once;
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
import weakref

from tfhub_cache.store.disk import files
from tfhub_cache.store.disk.aside import discard
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner, Silence


class HeldLock:
    """A lock file that is ours: kept alive until it is released, or garbage."""

    def __init__(self, file: _LockFile, owner: Owner, heartbeat: float) -> None:
        self.owner = owner
        self._file = file
        released = threading.Event()
        thread = threading.Thread(target=_beat, args=(file, heartbeat, released), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, f"No heartbeat: {error}") from error
        except BaseException:
            released.set()
            raise
        self._finalizer = weakref.finalize(self, _let_go, file, released, thread)

    def release(self) -> None:
        """Removes the lock file, unless another process took it over, and lets go of it."""
        self._finalizer()

    def is_held(self) -> bool:
        """Whether no other process has taken it over, having seen no sign of life for long."""
        return self._file.is_at_its_path()


_OPEN: weakref.WeakSet[_LockFile] = weakref.WeakSet()


def _close_all() -> None:
    # With a copy of the descriptor, a child would keep its parent's lock beyond its end. Without
    # it, what the child has of the parent's locks counts as lost, and removes nothing.
    for file in list(_OPEN):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def _beat(file: _LockFile, seconds: float, released: threading.Event) -> None:
    while not released.wait(seconds):
        file.touch()


def _let_go(file: _LockFile, released: threading.Event, thread: threading.Thread) -> None:
    try:
        released.set()
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join()
    finally:
        file.remove()


class LockContender:
    """Tries to get a lock file, and watches its owner."""

    def __init__(self, base: str, timeout: float) -> None:
        """Prepares to contend.

        Args:
            base: the path of the entry; the lock file's is `<base>.lock`.
            timeout: seconds without a heartbeat after which another machine's process counts as
                crashed.
        """
        self.holder = ""
        self._base = base
        self._path = f"{base}.lock"
        self._timeout = timeout
        self._silence = Silence()
        self._had_it = False

    def attempt(self) -> HeldLock | None:
        """Tries once, after removing the lock file of a crashed process.

        To try again after it was got means that it was lost: another process took this one, which
        runs, for crashed. What that went by misleads here, so only silence counts from now on.

        Raises:
            OSError: if the folder can't be written.
        """
        while True:
            file = _LockFile(self._path)
            keep = False
            try:
                os_lock = file.try_os_lock()
                if not file.is_at_its_path():  # released at this very moment
                    continue
                content = file.read()
                # Where the file system has no such locks, having made the file must do.
                is_free = not content and (file.created if os_lock is None else os_lock)
                if is_free and file.writable:
                    held = self._take(file)
                    keep = self._had_it = True
                    return held
                self.holder = content
                if not self._is_orphaned(file, content, os_lock):
                    return None
                file.remove()
                holder = Owner.parse(content)
                if holder is not None:
                    discard(staging_folder(self._base, holder.uid))
            except BaseException:
                file.remove_if_unused()
                raise
            finally:
                if not keep:
                    file.close()

    def unpacked(self) -> int:
        """How many bytes the holder of the last attempt has put into its folder."""
        holder = Owner.parse(self.holder)
        return 0 if holder is None else _growth(staging_folder(self._base, holder.uid))[0]

    def look(self) -> str | None:
        """Which running process has the lock, as its content says, if any. Changes nothing."""
        try:
            file = _LockFile(self._path, make=False)
        except OSError:
            return None
        with contextlib.suppress(OSError), contextlib.closing(file):
            content = file.read()
            os_lock = file.try_os_lock()  # for a moment: other processes take us for its owner
            is_free = not content and os_lock is True
            return None if is_free or self._is_orphaned(file, content, os_lock) else content
        return None

    def _take(self, file: _LockFile) -> HeldLock:
        try:
            owner = Owner.new()
            try:
                file.write(str(owner))
            except OSError as error:
                # Room is made on a full disk, too: then others wait, and don't know for whom.
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
            return HeldLock(file, owner, min(2.0, self._timeout / 4))
        except BaseException:
            # No process must wait for one that was interrupted while taking the lock.
            file.remove()
            raise

    def _is_orphaned(self, file: _LockFile, content: str, os_lock: bool | None) -> bool:
        holder = Owner.parse(content)
        touched = file.touched()
        if not content and os_lock is False:  # about to be written, or on Windows unreadable
            is_silent = self._silence.exceeds(self._timeout, touched, touched)
            return is_silent and os.name != "nt"
        if holder is not None and holder.is_ours:
            is_gone = os_lock or (os_lock is None and not holder.process_exists())
            if holder.is_here and is_gone and not self._had_it:
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


class _LockFile:
    """The lock file, open, made if there was none. To close it twice does no harm."""

    def __init__(self, path: str, *, make: bool = True) -> None:
        self._path = path
        self.created = False
        self.writable = True
        self._written: str | None = None
        self._descriptor = self._open(make)
        _OPEN.add(self)

    def _open(self, make: bool) -> int:
        while True:
            try:
                return files.open_regular(self._path, os.O_RDWR)
            except FileNotFoundError:
                if not make:
                    raise
            except OSError as error:  # another user's: it can still be read and watched
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                with contextlib.suppress(FileNotFoundError):  # gone in between
                    descriptor = files.open_regular(self._path, os.O_RDONLY)
                    self.writable = False
                    return descriptor
                continue
            with contextlib.suppress(FileExistsError):
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
                descriptor = files.open_regular(self._path, flags)
                self.created = True
                return descriptor

    def try_os_lock(self) -> bool | None:
        """Takes the system's lock if it is free; None where the file system has none.

        A lock that is granted a second time, while we have it, does not count.
        """
        is_taken = _try_os_lock(self._descriptor)
        if is_taken:
            with contextlib.suppress(OSError):
                flags = os.O_RDWR if self.writable else os.O_RDONLY
                other = files.open_regular(self._path, flags)
                try:
                    is_same = os.path.samestat(os.fstat(other), os.fstat(self._descriptor))
                    if is_same and _try_os_lock(other):
                        return None
                finally:
                    os.close(other)
        return is_taken

    def is_at_its_path(self) -> bool:
        """Whether the open file is still the one with that name, and holds what we have written."""
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if self._descriptor < 0 or not os.path.samestat(there, os.fstat(self._descriptor)):
            return False
        return self._written is None or self.read() in ("", self._written)

    def read(self) -> str:
        try:
            if hasattr(os, "pread"):  # as several threads may look
                return os.pread(self._descriptor, 4096, 0).decode("utf-8", "replace")
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            return os.read(self._descriptor, 4096).decode("utf-8", "replace")
        except PermissionError:  # on Windows a locked file can't be read
            return ""

    def write(self, content: str) -> None:
        os.write(self._descriptor, content.encode())
        self._written = content

    def touched(self) -> float:
        """When it was last written or touched."""
        return os.fstat(self._descriptor).st_mtime

    def touch(self) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._descriptor if os.utime in os.supports_fd else self._path)

    def remove(self) -> None:
        """Removes the file, if it is still the one with that name, and closes it."""
        try:
            is_there = self.is_at_its_path()
            if os.name == "nt":  # an open file can't be removed
                self.close()
            if is_there:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
        finally:
            self.close()

    def remove_if_unused(self) -> None:
        """Removes the file if we have made it, and no process has written its name into it."""
        with contextlib.suppress(OSError):
            if self.created and self._descriptor >= 0 and not self.read():
                self.remove()

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _try_os_lock(descriptor: int) -> bool | None:
    import filelock  # only to download

    try:
        return bool(filelock.lock_descriptor(descriptor, blocking=False))
    except OSError:
        return None


def _growth(folder: str) -> tuple[int, float]:
    """The bytes in a folder, and when it was last written to."""
    size, written = 0, 0.0
    for _, status in files.files_below(folder):
        size += status.st_size
        written = max(written, status.st_mtime)
    return size, written
