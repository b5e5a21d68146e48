"""The contestants: tensorflow_hub, a pipeline of curl, and this library, in their own processes."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.results import CURL, HUB, OURS

_NEW_PROCESS = """\
import sys, time
begun = time.perf_counter()
import {library} as hub
imported = time.perf_counter() - begun
hub.resolve(sys.argv[1])
from benchmarks import memory
print(imported, memory.peak())
"""
_LOOPS = 5000
ROOT = Path(__file__).parents[1]
"""Where the processes start, so that they find this package."""


def inflater() -> str:
    """What inflates behind curl: igzip of isal where it is installed, otherwise gzip."""
    return "igzip" if shutil.which("igzip") else "gzip"


def names() -> dict[str, str]:
    """The contestants as people call them."""
    return {HUB: "tensorflow_hub 0.16.1", CURL: f"curl | {inflater()} | tar", OURS: "tfhub_cache"}


@dataclass(frozen=True)
class Resolved:
    """How a process of a library did.

    Attributes:
        seconds: of each call of `resolve`.
        process_seconds: of the whole process, from its start to its end, with the import.
        finished: when the last call ended, as `time.monotonic` has it.
        growth: bytes of memory at the peak, over what there was before the first call.
        error: what `resolve` raised, or "".
    """

    seconds: list[float]
    process_seconds: float
    finished: float
    growth: int
    error: str


class Worker:
    """A process that has imported a library and resolves on demand.

    A context manager that ends the process.

    Args:
        library: the module.
        cache: the cache folder.
        handles: what it is to resolve, one after the other.
        settings: more of the environment.
    """

    def __init__(self, library: str, cache: Path, *handles: str, **settings: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by __exit__
        self._begun = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", library, *handles],
            env=environment(cache, **settings),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise self._failure()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self, seconds: float | None = None) -> None:
        """Waits for the process's end, however it ends.

        Raises:
            subprocess.TimeoutExpired: if it has not ended by then.
        """
        self._process.wait(seconds)

    def result(self) -> Resolved:
        """How it did, once it is done."""
        output, _ = self._process.communicate()
        process_seconds = time.perf_counter() - self._begun
        if self._process.returncode != 0:
            raise self._failure()
        return Resolved(process_seconds=process_seconds, **json.loads(output))

    def _failure(self) -> RuntimeError:
        self._process.wait()
        self._log.seek(0)
        return RuntimeError(f"The process {self._process.args!r} failed:\n{self._log.read()}")

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()


def resolve(library: str, cache: Path, *handles: str, **settings: str) -> Resolved:
    """Resolves handles in a new process, and fails if that does."""
    with Worker(library, cache, *handles, **settings) as worker:
        worker.wait_until_ready()
        worker.go()
        done = worker.result()
    if done.error:
        raise RuntimeError(f"{library} failed: {done.error}")
    return done


def unpack_with_curl(url: str, folder: Path) -> float:
    """The seconds that the pipeline takes to put an archive into a folder."""
    pipeline = f'set -o pipefail; curl -sSf "$0" | {inflater()} -dc | tar -x -C "$1"'
    begun = time.perf_counter()
    subprocess.run(["bash", "-c", pipeline, url, str(folder)], check=True)
    return time.perf_counter() - begun


def inflate(archive: Path) -> float:
    """The seconds that it takes to inflate an archive that is in memory, and forget the result."""
    begun = time.perf_counter()
    subprocess.run([inflater(), "-dc", str(archive)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def start_new(library: str, cache: Path, handle: str) -> tuple[float, float, int]:
    """Starts a process that imports a library and resolves a handle.

    Returns:
        The seconds of the whole process, the seconds of the import, and the bytes of memory.
    """
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _NEW_PROCESS.format(library=library), handle],
        env=environment(cache),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begun
    imported, peak = done.stdout.split()
    return seconds, float(imported), int(peak)


def resolve_cached(library: str, cache: Path, handle: str) -> float:
    """The seconds of one of many resolves of a cached handle, in a process of its own."""
    variables = environment(cache)
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch, "pyperf.json")
        # pyperf clears the environment, except for the variables listed here.
        options = {
            "--processes": "1",
            "--warmups": "1",
            "--values": "5",
            "--loops": str(_LOOPS),
            "--inherit-environ": ",".join(variables),
            "--output": str(output),
            "--setup": f"import {library} as hub",
        }
        subprocess.run(
            [sys.executable, "-m", "pyperf", "timeit", "--quiet"]
            + [word for option in options.items() for word in option]
            + [f"hub.resolve({handle!r})"],
            env=variables,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        report: dict[str, Any] = json.loads(output.read_text())
    runs = report["benchmarks"][0]["runs"]
    return statistics.median(float(value) for run in runs for value in run.get("values", ()))


def beside_gcsfs(address: str, *arguments: object) -> dict[str, float]:
    """What `benchmarks.bucket` measures, in a process of its own."""
    bucket = {"STORAGE_EMULATOR_HOST": address, "TFHUB_CACHE_DIR": "gs://bucket/models"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bucket", *map(str, arguments)],
        env=environment(Path(), **bucket),
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def environment(cache: Path, **settings: str) -> dict[str, str]:
    """The environment without settings of the user's, and without proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TFHUB_") and not name.lower().endswith("_proxy")
    }
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**kept, **quiet, "TFHUB_CACHE_DIR": str(cache), **settings}
