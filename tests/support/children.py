"""Processes that resolve a handle and can be stopped, interrupted and killed on the way.

They are forked from a process that has everything imported, so one costs some milliseconds. What
a child does to the cache is reported by an audit hook, step by step and in the order of events, in
words that are the same each time:

    make <key>.lock | lock | write | list . | make folder <key>.<uid>.tmp | ...
    rename <key>.<uid>.tmp to <key> | ... | remove <key>.lock

A step is announced before it takes place: a child that stops at `write` has not written yet.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from entries import key_of
from waiting import SOON

_WARM = multiprocessing.get_context("forkserver") if os.name == "posix" else None
if _WARM is not None:
    _WARM.set_forkserver_preload(
        [
            "tfhub_cache",
            "tfhub_cache.unpacking.archive",
            "tfhub_cache.resolvers.archives",
            "tfhub_cache.transfer.transfer",
            "tfhub_cache.fetching.progress",
            "tfhub_cache.source.http",
            "tfhub_cache.store.disk.store",
            "concurrent.futures",
            "filelock",
            "google_crc32c",
            "isal.igzip",
        ]
    )


def resolve_here(handle: str, seconds: float = SOON) -> str:
    """Resolves in this process, which costs less than a child, with a bound."""
    import tfhub_cache

    done: concurrent.futures.Future[str] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(tfhub_cache.resolve(handle))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done.result(seconds)


def together(parties: int) -> Any:
    """A barrier for children (see `start_together`) and others that wait at it."""
    assert _WARM is not None
    return _WARM.Barrier(parties)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a `resolve` in a child.

    Attributes:
        path: what it returned; None if it raised.
        error: the names of the exception's class and its bases; empty without one.
        message: the exception's text.
        log: what was logged.
        steps: what was done to the cache.
        started, ended: when, by the machine's monotonic clock.
    """

    path: str | None
    error: tuple[str, ...]
    message: str
    log: tuple[str, ...]
    steps: tuple[str, ...]
    started: float
    ended: float

    def check(self) -> Outcome:
        """Fails unless it resolved."""
        assert self.path is not None, f"{self.error}: {self.message}\n{self.steps}\n{self.log}"
        return self

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclasses.dataclass(frozen=True)
class _Job:
    handle: str
    cache: str
    env: dict[str, str]
    stop_at: int | str | None
    action: str
    uid: int | None
    umask: int | None
    start_together: Any
    steps: bool


class Child:
    """A process that resolves a handle as soon as it is made.

    Args:
        handle: the handle.
        cache: the cache's folder.
        stop_at: the step at which something happens: its text, or its number from 0.
        action: what happens there: "stop" waits for `go_on` (or its death); "kill" is a SIGKILL,
            and "interrupt" a SIGINT, which the process sends itself.
        env: settings.
        uid: the user that it is.
        umask: the rights that what it makes lacks.
        start_together: a barrier at which it waits first.
        steps: whether the steps are reported.
    """

    def __init__(
        self,
        handle: str,
        cache: Path | str,
        *,
        stop_at: int | str | None = None,
        action: str = "stop",
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        umask: int | None = None,
        start_together: Any = None,
        steps: bool = False,
    ) -> None:
        assert _WARM is not None
        self._told: list[tuple[str, Any]] = []
        self._pipe, theirs = _WARM.Pipe()
        settings = dict(env or {})
        job = _Job(handle, str(cache), settings, stop_at, action, uid, umask, start_together, steps)
        self._process = _WARM.Process(target=_main, args=(job, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait_for_start(self) -> None:
        """Waits until it is about to resolve."""
        self._next("started", SOON)

    def wait_for_stop(self) -> str:
        """Waits until it has stopped at its step, which is returned."""
        step: str = self._next("stopped", SOON)
        return step

    def wait_for_waiting(self) -> None:
        """Waits until it says that it waits for another process's download."""
        self._next("waiting", SOON)

    def is_waiting(self) -> bool:
        """Whether it has said so by now."""
        while self._pipe.poll():
            self._told.append(self._pipe.recv())
        return any(kind == "waiting" for kind, _ in self._told)

    def go_on(self) -> None:
        """Lets it go on from where it stopped."""
        self._pipe.send("go on")

    def resolve_again(self, seconds: float = SOON) -> Outcome:
        """Lets the same process resolve once more."""
        self._pipe.send("again")
        return self.outcome(seconds)

    def outcome(self, seconds: float = SOON) -> Outcome:
        """Waits for what comes of it; it lives on afterwards."""
        outcome: Outcome = self._next("outcome", seconds)
        return outcome

    def is_busy_for(self, seconds: float) -> bool:
        """Whether nothing comes of it for so long."""
        deadline = time.monotonic() + seconds
        while self._pipe.poll(max(0.0, deadline - time.monotonic())):
            self._told.append(self._pipe.recv())
        return all(kind != "outcome" for kind, _ in self._told)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it, as it can't prevent, and waits for its death."""
        self._process.kill()
        self.wait_for_death()

    def wait_for_death(self, seconds: float = SOON) -> int:
        """Waits for its end, and returns its exit status."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, "it did not end in time"
        return self._process.exitcode

    def dies_within(self, seconds: float) -> bool:
        self._process.join(seconds)
        return self._process.exitcode is not None

    def close(self) -> None:
        if self._process.exitcode is None:
            self.kill()
        self._pipe.close()

    def _next(self, kind: str, seconds: float) -> Any:
        """The next thing of this kind that the child tells; what else it tells is dropped."""
        deadline = time.monotonic() + seconds
        while True:
            for told in self._told:
                if told[0] == kind:
                    self._told.remove(told)
                    return told[1]
            left = deadline - time.monotonic()
            assert left > 0, f"{kind} did not come in {seconds} s"
            assert self._pipe.poll(left), f"{kind} did not come in {seconds} s"
            try:
                self._told.append(self._pipe.recv())
            except (EOFError, ConnectionResetError):
                raise AssertionError(f"it died before {kind}") from None


# What runs in the child.


def _main(job: _Job, pipe: Connection) -> None:
    import tfhub_cache

    always = {"NO_PROXY": "127.0.0.1", "TFHUB_DOWNLOAD_CONNECTIONS": "1"}
    os.environ.update({**always, "TFHUB_CACHE_DIR": job.cache, **job.env})
    log = _keep_log(pipe)
    interruptible = [False]

    def interrupt(*_: object) -> None:
        if interruptible[0]:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    if job.uid is not None:
        os.setgroups([])
        os.setgid(job.uid)
        os.setuid(job.uid)
    if job.umask is not None:
        os.umask(job.umask)
    steps = _Steps(job, pipe)
    if job.steps or job.stop_at is not None:
        steps.watch()
    if job.start_together is not None:
        job.start_together.wait(SOON)
    pipe.send(("started", None))
    while True:
        path, error = None, None
        started = time.monotonic()
        try:
            interruptible[0] = steps.active = True
            path = tfhub_cache.resolve(job.handle)
            interruptible[0] = steps.active = False
        except BaseException as caught:
            interruptible[0] = steps.active = False
            error = caught
        ended = time.monotonic()
        names = tuple(kind.__name__ for kind in type(error).__mro__) if error else ()
        outcome = Outcome(path, names, str(error), tuple(log), tuple(steps.done), started, ended)
        error = None
        with contextlib.suppress(OSError):
            pipe.send(("outcome", outcome))
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            return
        if order == "again":
            steps.stop_at = None
            steps.done.clear()
            log.clear()


def _keep_log(pipe: Connection) -> list[str]:
    from absl import logging as absl_logging

    kept: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())
            if "already being downloaded" in kept[-1]:
                pipe.send(("waiting", None))

    absl_logging.set_verbosity(absl_logging.INFO)
    logger = absl_logging.get_absl_logger()
    logger.handlers[:] = [Keeper()]
    logger.propagate = False
    return kept


class _Steps:
    """Tells what is done to a cache, and lets something happen at one of the steps."""

    def __init__(self, job: _Job, pipe: Connection) -> None:
        self.done: list[str] = []
        self.active = False
        self.stop_at = job.stop_at
        self._root = os.path.abspath(job.cache)
        self._key = key_of(job.handle)
        self._action = job.action
        self._pipe = pipe

    def watch(self) -> None:
        sys.addaudithook(self._heard)
        write = os.write

        def told_write(descriptor: int, data: bytes) -> int:
            if data:
                sys.audit("tests.write")
            return write(descriptor, data)

        os.write = told_write  # which is how the lock file is written; no event tells it

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active:
            return
        step = self._step(event, args)
        if step is None:
            return
        number = len(self.done)
        self.done.append(step)
        if self.stop_at not in (number, step):
            return
        self.stop_at = None
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._action == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._pipe.send(("stopped", step))
            self._pipe.recv()

    def _step(self, event: str, args: tuple[Any, ...]) -> str | None:
        if event == "tests.write":
            return "write"
        if event == "fcntl.flock":
            return "lock"
        verb = {
            "os.listdir": "list",
            "os.scandir": "scan",
            "os.mkdir": "make folder",
            "os.remove": "remove",
            "os.rmdir": "remove folder",
            "shutil.rmtree": "remove tree",
        }.get(event)
        if event == "os.rename":
            names = self._name(args[0]), self._name(args[1])
            return f"rename {names[0]} to {names[1]}" if None not in names else None
        if event == "open":
            verb = "make" if isinstance(args[2], int) and args[2] & os.O_CREAT else "open"
        if verb is None:
            return None
        name = self._name(args[0])
        if name is None and event in ("os.remove", "os.rmdir") and args[-1] != -1:
            name = f"... {args[0]}"  # within a folder that is removed
        return f"{verb} {name}" if name is not None else None

    def _name(self, path: Any) -> str | None:
        if not isinstance(path, str | os.PathLike):
            return None
        full = os.path.abspath(os.fspath(path))
        if full == self._root:
            return "."
        if not full.startswith(self._root + os.sep):
            return None
        name = full.removeprefix(self._root + os.sep).replace(os.sep, "/")
        name = name.replace(self._key, "<key>")
        return re.sub(r"<key>\.[0-9a-z-]{20,}", "<key>.<uid>", name)


def names_in(cache: Path | str, handles: Iterable[str] = ()) -> list[str]:
    """What is in a cache, sorted, with `<key>` for the handle's sha1 (the first of `handles`)."""
    keys = [key_of(handle) for handle in handles]
    names = os.listdir(cache) if os.path.exists(cache) else []
    for number, key in enumerate(keys):
        shown = "<key>" if number == 0 else f"<key {number + 1}>"
        names = [name.replace(key, shown) for name in names]
    return sorted(names)


def names_without_part(cache: Path | str) -> list[str]:
    """The same but for what has been received of an archive, which is kept to go on with."""
    return [name for name in names_in(cache) if not name.endswith((".part", ".part.json"))]
