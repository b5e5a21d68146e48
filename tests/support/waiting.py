"""Waiting for something, with a bound, and running something beside it."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

SOON = 50.0
"""Seconds within which whatever does not wait for a timeout is done, on a busy machine too."""

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "it", seconds: float = SOON) -> T:
    """Waits for a condition, and returns its value."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        time.sleep(0.005)
    return found


def until_unlocked() -> None:
    """Waits until this process has removed its locks from buckets, which it does in a thread."""
    until(lambda: not any(one.name.startswith("tfhub_cache ") for one in threading.enumerate()))


def in_background(function: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
    """Runs a function in a thread of its own."""
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(function(*args))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def press_ctrl_c(*_: object) -> None:
    """Interrupts the main thread, as of the next moment; from whichever thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
