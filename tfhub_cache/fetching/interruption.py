"""Stopping downloads that run in other threads, as Ctrl-C stops the one in the main thread.

Python raises `KeyboardInterrupt` in the main thread only. A caller that downloads in other threads
gives them an `Interruption`, in a context variable, and sets it off when the main thread was
interrupted. The downloads then end as if they had been interrupted themselves, and clean up.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator

from tfhub_cache.source.contract import ByteStream


class Interruption:
    """What stops the downloads of the threads that it was given to."""

    def __init__(self) -> None:
        self._happened = threading.Event()
        self._mutex = threading.Lock()
        self._streams: set[ByteStream] = set()

    @property
    def happened(self) -> bool:
        """Whether it was set off."""
        return self._happened.is_set()

    def wait(self, seconds: float) -> None:
        """Waits for it, or for so long."""
        self._happened.wait(seconds)

    def set_off(self) -> None:
        """Stops them: those that wait for a silent server, too."""
        with self._mutex:
            self._happened.set()
            streams = set(self._streams)
        for stream in streams:
            with contextlib.suppress(Exception):
                stream.close()

    def add(self, stream: ByteStream) -> None:
        with self._mutex:
            self._streams.add(stream)
            happened = self.happened
        if happened:
            stream.close()

    def drop(self, stream: ByteStream) -> None:
        with self._mutex:
            self._streams.discard(stream)


_current: contextvars.ContextVar[Interruption | None] = contextvars.ContextVar(
    "interruption", default=None
)


def run(interruption: Interruption, function: Callable[[], None]) -> None:
    """Calls a function in such a way that it is stopped by the interruption."""
    token = _current.set(interruption)
    try:
        function()
    finally:
        _current.reset(token)


def check() -> None:
    """Raises `KeyboardInterrupt` if the current thread is to stop."""
    interruption = _current.get()
    if interruption is not None and interruption.happened:
        raise KeyboardInterrupt


def pause(seconds: float) -> None:
    """Lets time pass, and raises `KeyboardInterrupt` as soon as the current thread is to stop."""
    interruption = _current.get()
    if interruption is None:
        time.sleep(seconds)
    else:
        interruption.wait(seconds)
        check()


@contextlib.contextmanager
def closes(stream: ByteStream) -> Iterator[None]:
    """Lets a stream be closed if the current thread is to stop; `check` then raises why."""
    interruption = _current.get()
    if interruption is None:
        yield
        return
    interruption.add(stream)
    try:
        yield
    finally:
        interruption.drop(stream)
