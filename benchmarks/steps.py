"""Where the microseconds of a cached resolve go: `python -m benchmarks.steps HANDLE`.

One resolve is watched by cProfile, which counts calls. Each kind of call that asks the system, the
environment or a hash for something is then timed on its own, since cProfile makes slower what it
watches. What is left of the whole is Python going through the library.
"""

from __future__ import annotations

import cProfile
import hashlib
import json
import os
import pstats
import sys
import timeit
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import tfhub_cache as hub

_LOOPS = 5000


@dataclass(frozen=True)
class Step:
    """One kind of work in a resolve.

    Attributes:
        name: what it is.
        calls: how often one resolve does it; for the rest, how many functions it calls.
        seconds: what all of these calls take.
    """

    name: str
    calls: int
    seconds: float


def measure(handle: str) -> list[Step]:
    """The steps of resolving a cached handle, the whole last."""
    entry = Path(hub.resolve(handle))
    calls = _calls(handle)
    files = [str(path) for path in entry.rglob("*") if path.is_file()]
    lock = f"{entry}.lock"
    stats, lstats, lexists = (
        calls.get(name, 0) for name in ("posix.stat", "posix.lstat", "lexists")
    )
    lstats -= min(lexists, lstats)
    steps = [
        _step("stat(): the manifest and each file", stats, len(files), lambda: _stat_all(files)),
        _step(
            "lstat(): the cache folder and the entry, for links", lstats, 1, lambda: os.lstat(entry)
        ),
        _step("is there a lock file", lexists, 1, lambda: os.path.lexists(lock)),
        _step(
            "sha1 of the handle",
            calls.get("openssl_sha1", 0),
            1,
            lambda: hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest(),
        ),
        _step(
            "variables of the environment",
            calls.get("environ.get", 0),
            1,
            lambda: os.environ.get("TFHUB_CACHE_DIR"),
        ),
    ]
    whole = _seconds(lambda: hub.resolve(handle))
    rest = max(0.0, whole - sum(step.seconds for step in steps))
    steps = [step for step in steps if step.calls]
    return [
        *steps,
        Step("the rest: Python, from resolver to resolver and back", calls["functions"], rest),
        Step("the whole", 1, whole),
    ]


def _calls(handle: str) -> dict[str, int]:
    """How often one resolve calls what is timed here, and how many functions of Python in all."""
    profile = cProfile.Profile()
    profile.runcall(hub.resolve, handle)
    calls = {"functions": 0}
    for (file, _, function), (_, count, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if file == "~":  # built in: "<built-in method posix.stat>"
            name = function.strip("<>").removeprefix("built-in method ")
            calls[name.removeprefix("_hashlib.")] = count
            continue
        calls["functions"] += count
        if function == "lexists":
            calls["lexists"] = count
        elif function == "get" and "_collections_abc" in file:
            calls["environ.get"] = count
    return calls


def _stat_all(files: list[str]) -> None:
    for file in files:
        os.stat(file)


def _step(name: str, calls: int, at_once: int, call: Callable[[], object]) -> Step:
    return Step(name, calls, calls * _seconds(call) / at_once)


def _seconds(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=_LOOPS, repeat=5)) / _LOOPS


if __name__ == "__main__":
    print(json.dumps([asdict(step) for step in measure(sys.argv[1])]))
