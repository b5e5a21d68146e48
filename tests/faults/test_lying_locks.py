"""File systems that grant a lock to all: processes must not take downloads from each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checker import Checker
from servers import Host, archive, stall
from waiting import SOON, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.once]

RESOLVE = """
import sys
from absl import logging
import tfhub_cache as hub
logging.set_verbosity(logging.INFO)
print("ready", flush=True)
sys.stdin.readline()
print(hub.resolve(sys.argv[1]), flush=True)
"""


class Process:
    """A process that resolves a handle when it is said to `go`."""

    def __init__(self, handle: str, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", RESOLVE, handle],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", log.read_text()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def is_waiting(self) -> bool:
        return "already being downloaded" in self._log.read_text()

    def path(self) -> str:
        """What it returned."""
        assert self._process.stdout is not None
        try:
            printed, _ = self._process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end:\n" + self._log.read_text()[-2000:]) from None
        assert self._process.returncode == 0, self._log.read_text()
        return printed.strip()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("it takes a C compiler, and LD_PRELOAD")
    library = tmp_path_factory.mktemp("shim") / "flock.so"
    source = Path(__file__).with_name("flock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture
def processes(shim: Path, cache_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Makes processes to which the system grants each lock."""
    made: list[Process] = []

    def make(handle: str, lying: str) -> Process:
        environment = {**os.environ, "LD_PRELOAD": str(shim), "LYING": lying}
        made.append(Process(handle, environment, tmp_path / f"{len(made)}.log"))
        return made[-1]

    yield make
    for process in made:
        process.close()


@pytest.mark.parametrize("count", [2, 8])
def test_where_locks_are_granted_to_all_one_downloads_and_the_others_wait(
    host: Host,
    processes: Callable[..., Process],
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    count: int,
) -> None:
    """Promise 6."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(long_packed, 3_000_000, release))
    children = [processes(handle, "everybody") for _ in range(count)]
    for one in children:
        one.go()
    until(lambda: sum(one.is_waiting() for one in children) == count - 1)
    release.set()
    assert {one.path() for one in children} == {str(cache.entry(handle))}
    assert len(host.requests) == 1
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)


@pytest.mark.parametrize("count", [2, 8])
def test_machines_of_the_same_name_do_not_take_a_download_from_each_other_for_ever(
    host: Host,
    processes: Callable[..., Process],
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    count: int,
) -> None:
    """Each takes the others for dead, as their locks are on machines of their own: but once only.

    A download takes longer than to take it over.
    """
    handle = host.publish("/demo/model/1", archive(long_packed, rate=len(long_packed) / 3))
    children = [processes(handle, "machine") for _ in range(count)]
    for one in children:
        one.go()
    assert {one.path() for one in children} == {str(cache.entry(handle))}
    assert len(host.requests) <= 2 * count
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)
