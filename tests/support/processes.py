"""Child processes of tests, and threads that can't be started."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest


@dataclasses.dataclass(frozen=True)
class Finished:
    """A child process that has ended."""

    stdout: str
    stderr: str
    returncode: int

    def check(self) -> Finished:
        """Fails, with all that was written, unless the process succeeded."""
        assert self.returncode == 0, f"status {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self


END_AT_STEP = """
import os, sys, tfhub_cache as hub
step = 0
def watch(event, args):
    global step
    if event in ('os.rename', 'os.remove', 'os.rmdir', 'shutil.rmtree'):
        step += 1
        if step == int(sys.argv[2]): os._exit(99)
sys.addaudithook(watch)
"""
"""Ends a program at one of the steps that change files: that with the number of `argv[2]`."""


def dead_pid() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def deny_threads(monkeypatch: pytest.MonkeyPatch, target: str, after: int = 0) -> Iterator[int]:
    """Lets no threads start that run a function, but for the first ones; counts who asks."""
    start, counted = threading.Thread.start, itertools.count()

    def start_if_allowed(thread: threading.Thread) -> None:
        name = thread._target.__qualname__  # type: ignore[attr-defined]
        if name == target and next(counted) >= after:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_allowed)
    return counted
