"""Batches: models that threads download for the main thread, and which stop together.

Python raises `KeyboardInterrupt` in the main thread only. Threads that download for it are given a
`Batch`, in a context variable, which it stops when it was interrupted. The downloads then end with
`KeyboardInterrupt` as well, so they clean up.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterable, Iterator

from tfhub_cache.source.contract import ByteStream
from tfhub_cache.urls import as_meant, key_of


class Batch:
    """Models that are wanted together.

    Attributes:
        keys: their entries, none of which makes room for another.
        stopped: whether the threads are to stop.
        streams: what they are receiving.
    """

    def __init__(self, handles: Iterable[str] = ()) -> None:
        self.keys = frozenset(key_of(as_meant(handle)) for handle in handles)
        self.stopped = threading.Event()
        self.streams: set[ByteStream] = set()

    def join(self) -> None:
        """Makes the current thread, which ends with the batch, one of those that download it."""
        _current.set(self)

    def stop(self) -> None:
        """Stops the threads, including those that wait for a silent server."""
        self.stopped.set()
        for stream in self.streams.copy():
            with contextlib.suppress(Exception):
                stream.close()


_alone = Batch()
_current = contextvars.ContextVar("batch", default=_alone)


def keys() -> frozenset[str]:
    """The entries of the current thread's batch."""
    return _current.get().keys


def check() -> None:
    """Raises `KeyboardInterrupt` if the current thread is to stop."""
    if _current.get().stopped.is_set():
        raise KeyboardInterrupt


def pause(seconds: float) -> None:
    """Lets time pass, and raises `KeyboardInterrupt` as soon as the current thread is to stop."""
    batch = _current.get()
    if batch is _alone:
        time.sleep(seconds)  # which Ctrl-C ends at once, on Windows too
    else:
        batch.stopped.wait(seconds)
        check()


@contextlib.contextmanager
def closes(stream: ByteStream) -> Iterator[None]:
    """Closes a stream as soon as the current thread is to stop; `check` says whether it is."""
    streams = _current.get().streams
    streams.add(stream)
    try:
        check()  # it may have happened before the stream was added
        yield
    finally:
        streams.discard(stream)
