"""Stopping downloads that run in other threads, as Ctrl-C stops the one in the main thread.

Python raises `KeyboardInterrupt` in the main thread only. Threads that download for it are given an
`Interruption`, in a context variable, which it sets off when it was interrupted. The downloads then
end with `KeyboardInterrupt` as well, so they clean up.
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
        self.event = threading.Event()
        self.streams: set[ByteStream] = set()

    @property
    def happened(self) -> bool:
        """Whether it was set off."""
        return self.event.is_set()

    def set_off(self) -> None:
        """Stops them, including those that wait for a silent server."""
        self.event.set()
        for stream in self.streams.copy():
            with contextlib.suppress(Exception):
                stream.close()


_never = Interruption()
_current = contextvars.ContextVar("interruption", default=_never)


def run(interruption: Interruption, function: Callable[[], None]) -> None:
    """Calls a function in such a way that it is stopped by the interruption."""
    token = _current.set(interruption)
    try:
        function()
    finally:
        _current.reset(token)


def check() -> None:
    """Raises `KeyboardInterrupt` if the current thread is to stop."""
    if _current.get().happened:
        raise KeyboardInterrupt


def pause(seconds: float) -> None:
    """Lets time pass, and raises `KeyboardInterrupt` as soon as the current thread is to stop."""
    interruption = _current.get()
    if interruption is _never:
        time.sleep(seconds)  # which Ctrl-C ends at once, on Windows too
    else:
        interruption.event.wait(seconds)
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
