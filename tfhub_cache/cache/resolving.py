"""Resolving many handles, several at a time, and downloading again what is in the cache."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

from tfhub_cache import registry, settings
from tfhub_cache.cache.listing import with_patterns
from tfhub_cache.fetching.batch import Batch
from tfhub_cache.fetching.lookup import open_cache
from tfhub_cache.fetching.progress import counted

_PATIENCE = 10.0
"""Seconds for which interrupted downloads may clean up."""
_LOOK_EVERY = 1.0


@dataclass(frozen=True)
class Resolved:
    """What came of a handle: a path, or an error."""

    handle: str
    path: str | None = None
    error: Exception | None = None


def refresh(handle: str) -> str:
    """Resolves a handle, and downloads again what would otherwise come from the cache.

    It is for handles without a version, which mean "the latest". The model in the cache can be used
    until the new one is complete, and is then replaced by two renames. A process that resolves it
    between the two waits for the second. In a bucket it is replaced in one step, and a program that
    reads the old one keeps its files for `TFHUB_BUCKET_GRACE`, an hour.

    Args:
        handle: see `tfhub_cache.resolve`. One that is not cached is resolved as usual.

    Returns:
        The path.

    Raises:
        OSError: if it can't be downloaded. What was cached can still be used.

    Example:
        ```python
        import tfhub_cache as hub

        path = hub.cache.refresh("https://tfhub.dev/google/spice")
        ```
    """
    return registry.resolver.refresh(handle)


def resolve_all(
    handles: Iterable[str], *, jobs: int = 4, refresh: bool = False
) -> Iterator[Resolved]:
    """Resolves handles, several at a time.

    Args:
        handles: see `tfhub_cache.resolve`. A pattern in which `*` is any text, such as
            `https://tfhub.dev/google/*`, means those of models that are in the cache.
        jobs: how many at a time.
        refresh: whether to download again what is in the cache.

    Yields:
        What came of each, in the order of the handles, as soon as that is known. One that fails
        does not stop the others, and none of them makes room for another. If the generator is
        closed, or the main thread is interrupted, all downloads stop and clean up.

    Example:
        ```python
        import tfhub_cache as hub

        for resolved in hub.cache.resolve_all(["https://tfhub.dev/google/nnlm-en-dim128/2"]):
            print(resolved.path or resolved.error)
        ```
    """
    resolve = registry.resolver.refresh if refresh else registry.resolver
    with contextlib.closing(each(with_patterns(handles), resolve, jobs)) as outcomes:
        for handle, outcome in outcomes:
            if isinstance(outcome, Exception):
                yield Resolved(handle, error=outcome)
            else:
                yield Resolved(handle, path=outcome)


_Result = TypeVar("_Result")


def each(
    handles: Iterable[str], function: Callable[[str], _Result], jobs: int
) -> Generator[tuple[str, _Result | Exception], None, None]:
    """Calls a function for each handle, several at a time, so that it can be interrupted.

    Yields:
        Each handle, in order, with what the function returned or raised.
    """
    open_cache(settings.cache_dir())  # or each of the threads would open the cache, and say so
    ordered = list(handles)
    outcomes: dict[str, Future[_Result]] = {handle: Future() for handle in ordered}
    pending = collections.deque(outcomes)
    batch = Batch(outcomes)

    def work() -> None:
        batch.join()
        with contextlib.suppress(IndexError):  # until all have begun
            while not batch.stopped.is_set():
                handle = pending.popleft()
                try:
                    outcomes[handle].set_result(function(handle))
                except Exception as error:
                    outcomes[handle].set_exception(error)
                except BaseException:  # as a rule no caller waits for it any more
                    outcomes[handle].set_exception(InterruptedError("It was interrupted."))

    # Daemons, so that one which is stuck in the network does not keep the process from ending.
    workers = [
        threading.Thread(target=work, daemon=True) for _ in range(min(max(1, jobs), len(outcomes)))
    ]
    try:
        for worker in workers:
            worker.start()
        for handle in counted(ordered, len(ordered), "Resolving"):
            outcome = outcomes[handle]
            while not outcome.done():
                wait([outcome], _LOOK_EVERY)  # on Windows, one without an end can't be interrupted
            error = outcome.exception()
            yield handle, error if isinstance(error, Exception) else outcome.result()
    finally:
        batch.stop()
        deadline = time.monotonic() + _PATIENCE
        for worker in filter(threading.Thread.is_alive, workers):
            worker.join(max(0.0, deadline - time.monotonic()))
