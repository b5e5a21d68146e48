"""What is measured, row by row. Each function of `WORKS` returns the rows that its name promises.

The contestants take turns, A B C A B C, each time with a fresh cache folder on the same disk.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import bucket as buckets
from benchmarks import contestants, memory
from benchmarks.contestants import Worker
from benchmarks.models import Models
from benchmarks.progress import say
from benchmarks.results import CONTESTANTS, CURL, GCSFS, HUB, OURS, Row, Target, shown
from benchmarks.server import Hosts
from benchmarks.static_server import StaticServer

_SMALL_HANDLES = 10
_PATIENCE = 15.0
_LATENCY = 0.02
_MEMORY_OF_TENSORFLOW = 600_000_000


@dataclass(frozen=True)
class Bench:
    """What the measurements need.

    Attributes:
        models: the archives.
        hosts: who serves them.
        folder: where cache folders are made.
        rounds: how often each contestant has its turn.
        processes: how many resolve at once.
    """

    models: Models
    hosts: Hosts
    folder: Path
    rounds: int
    processes: int = 16

    @contextlib.contextmanager
    def cache(self) -> Iterator[Path]:
        """A cache folder that is empty."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def turns(self, row: Row, *contestants: str, once: str = "", rounds: int = 99) -> Iterator[str]:
        """Who is next, with a line on stderr for each; `once` has its turn in one round only."""
        for number in range(1, min(rounds, self.rounds) + 1):
            for contestant in contestants:
                if contestant == once and number > 1:
                    continue
                yield contestant
                value = row.values.get(contestant, [])[-1:]
                figure = shown(value[0], row.unit) if value else row.notes.get(contestant, "")
                say(f"{row.work}, round {number}: {contestant} {figure}")


def first_resolve(bench: Bench) -> list[Row]:
    target = Target(of={HUB: 0.45, CURL: 1.0})
    work = f"first resolve of a {bench.models.weights} MiB model, loopback"
    inflated = Row("first", f"the same archive inflated by {contestants.inflater()}, no more", "s")
    row = Row("first", work, "s", target)
    return [*_first_resolve(bench, bench.hosts.free, row, inflated), inflated]


def first_resolve_limited(bench: Bench) -> list[Row]:
    work = "the same, each connection held to 20 MB/s"
    row = Row("limited", work, "s", Target(of={HUB: 0.18}))
    return list(_first_resolve(bench, bench.hosts.limited, row))


def _first_resolve(
    bench: Bench, host: str, row: Row, inflated: Row | None = None
) -> tuple[Row, Row]:
    archive = bench.models.large()
    handle = f"{host}/{archive.name}"
    whole = Row(row.key, f"{row.work}: the whole process, import included", "s")
    for contestant in bench.turns(row, *CONTESTANTS):
        with bench.cache() as cache:
            if contestant == CURL:
                row.add(CURL, contestants.unpack_with_curl(handle, cache))
                whole.add(CURL, row.values[CURL][-1])
                if inflated is not None:
                    inflated.add(CURL, contestants.inflate(archive))
            else:
                done = contestants.resolve(contestant, cache, handle)
                row.add(contestant, done.seconds[0])
                whole.add(contestant, done.process_seconds)
    return row, whole


def small_model(bench: Bench) -> list[Row]:
    work = "first resolve of a 1 MiB model, the process having resolved another before"
    row = Row("small", work, "s", Target(of={HUB: 1.0}))
    url = f"{bench.hosts.free}/{bench.models.small().name}"
    handles = [f"{url}?model={number}" for number in range(1 + _SMALL_HANDLES)]
    with contextlib.ExitStack() as kept:
        for library in bench.turns(row, HUB, OURS):
            # Until the end: ext4 takes a millisecond for a new file where many were just removed.
            cache = kept.enter_context(bench.cache())
            _, *seconds = contestants.resolve(library, cache, *handles).seconds
            row.add(library, statistics.median(seconds))
    return [row]


def cached(bench: Bench) -> list[Row]:
    work = "cached resolve in a running process, all files checked"
    row = Row("cached", work, "s", Target(most=30e-6))
    row.notes[HUB] = "checks nothing"
    with _cached_model(bench) as (cache, handle):
        for library in bench.turns(row, HUB, OURS):
            row.add(library, contestants.resolve_cached(library, cache, handle))
    return [row]


def new_process(bench: Bench) -> list[Row]:
    work = "new process: import and a cached resolve"
    time_row = Row("new", f"{work}, time", "s", Target(most=0.2))
    memory_row = Row("new", f"{work}, memory", "B", Target(most=60e6))
    import_row = Row("new", "the import alone", "s", Target(most=0.1))
    with _cached_model(bench) as (cache, handle):
        for library in HUB, OURS:  # so that all has been read from disk once
            contestants.start_new(library, cache, handle)
        for library in bench.turns(time_row, HUB, OURS):
            seconds, imported, peak = contestants.start_new(library, cache, handle)
            time_row.add(library, seconds)
            memory_row.add(library, peak)
            import_row.add(library, imported)
    return [time_row, memory_row, import_row]


@contextlib.contextmanager
def _cached_model(bench: Bench) -> Iterator[tuple[Path, str]]:
    """A cache that holds the small model, and its handle."""
    handle = f"{bench.hosts.free}/{bench.models.small().name}"
    with bench.cache() as cache:
        contestants.resolve(OURS, cache, handle)
        yield cache, handle


def memory_needed(bench: Bench) -> list[Row]:
    rows = []
    for kind, model in ("zeros", bench.models.zeros), ("noise", bench.models.noise):
        work = f"memory while unpacking {bench.models.bulk} MB of {kind}, over the start"
        row = Row("memory", work, "B", Target(most=96e6))
        handle = f"{bench.hosts.free}/{model().name}"
        for library in bench.turns(row, OURS, rounds=3):
            with bench.cache() as cache:
                trusting = {"TFHUB_UNPACK_MAX_RATIO": "1000000"}
                row.add(library, contestants.resolve(library, cache, handle, **trusting).growth)
        rows.append(row)
    return rows


def cut_connection(bench: Bench) -> list[Row]:
    """Counts what is sent more than once when all connections are cut at 90 %."""
    row = Row("cut", "a connection cut at 90 %: bytes sent again", "share", Target(most=0.12))
    archive = bench.models.large()
    size = archive.stat().st_size
    for library in bench.turns(row, HUB, OURS, once=HUB):
        with bench.cache() as cache, StaticServer(archive.parent) as host:
            host.at(int(0.9 * size), host.cut)
            with Worker(library, cache, f"{host.url}/{archive.name}") as worker:
                worker.wait_until_ready()
                worker.go()
                if worker.result().error:
                    row.notes[library] = "fails"
                else:
                    row.add(library, max(0.0, host.sent / size - 1))
    return [row]


def killed_process(bench: Bench) -> list[Row]:
    """Kills a process when 90 % are sent, and looks at what a new one does."""
    work = "a process killed at 90 %, then a new one"
    again = Row("killed", f"{work}: bytes sent again", "share", Target(most=0.15))
    starts = Row("killed", f"{work}: seconds until it receives", "s", Target(most=1.0))
    archive = bench.models.large()
    size = archive.stat().st_size
    for library in bench.turns(again, HUB, OURS, once=HUB):
        with bench.cache() as cache, StaticServer(archive.parent) as host:
            handle = f"{host.url}/{archive.name}"
            with Worker(library, cache, handle) as victim:
                victim.wait_until_ready()
                host.at(int(0.9 * size), functools.partial(os.kill, victim.pid, signal.SIGKILL))
                victim.go()
                victim.wait()
            with Worker(library, cache, handle) as heir:
                heir.wait_until_ready()
                begun = time.monotonic()
                heir.go()
                try:
                    heir.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    again.notes[library] = f"waits longer than {_PATIENCE:g} s"
                    continue
                if error := heir.result().error:
                    raise RuntimeError(f"{library} failed: {error}")
            first = min(answer.began for answer in host.answers if answer.began > begun)
            starts.add(library, first - begun)
            again.add(library, host.sent / size - 1)
    starts.notes.update(again.notes)
    return [again, starts]


def many_processes(bench: Bench) -> list[Row]:
    """Counts how long after the first of many processes the last one is done."""
    work = f"{bench.processes} processes at once: the last one done after the first"
    row = Row("many", work, "s", Target(most=0.3))
    handle = f"{bench.hosts.free}/{bench.models.large().name}"
    for library in bench.turns(row, HUB, OURS, once=HUB):
        if library == HUB:
            row.notes[HUB] = "once"  # it takes a minute to import it so often
            if memory.machine("MemAvailable") < bench.processes * _MEMORY_OF_TENSORFLOW:
                row.notes[HUB] = "not enough memory"
                continue
        with bench.cache() as cache, contextlib.ExitStack() as ended:
            workers = [
                ended.enter_context(Worker(library, cache, handle)) for _ in range(bench.processes)
            ]
            for worker in workers:
                worker.wait_until_ready()
            for worker in workers:
                worker.go()
            finished = [worker.result().finished for worker in workers]
        row.add(library, max(finished) - min(finished))
    return [row]


def bucket(bench: Bench) -> list[Row]:
    """Fills a cache in a bucket and removes the model again, and does the same with gcsfs alone."""
    rows = []
    small = f"{bench.hosts.free}/{bench.models.files(5, 2000).name}"
    models = [(5, 2000), (200, 2000), (3000, 1000), (1, bench.models.bulk * 125_000)]
    for count, size in models:
        archive = bench.models.files(count, size)
        what = f"{count} files" if count > 1 else f"a file of {size / 1e6:g} MB"
        where = f"{what}, a bucket at {1000 * _LATENCY:g} ms a request"
        filled, removed = (
            Row("bucket", f"{work} of {where}", "s", Target(of={GCSFS: 1.3}))
            for work in ("first resolve", "removal")
        )
        most = Row("bucket", f"{where}: memory over the start", "B", Target(most=96e6))
        for _ in bench.turns(filled, OURS):
            with buckets.serve(_LATENCY) as address:
                done = contestants.beside_gcsfs(
                    address, small, f"{bench.hosts.free}/{archive.name}?model=1", archive
                )
            for row, ours, theirs in (filled, "fill", "put"), (removed, "remove", "rm"):
                row.add(OURS, done[ours])
                row.add(GCSFS, done[theirs])
                row.notes[OURS] = f"gcsfs.{theirs}: {shown(row.median(GCSFS) or 0.0, 's')}"
            most.add(OURS, done["growth"])
        rows += [filled, removed, most]
    return rows


WORKS: dict[str, Callable[[Bench], list[Row]]] = {
    "first": first_resolve,
    "limited": first_resolve_limited,
    "small": small_model,
    "cached": cached,
    "new": new_process,
    "memory": memory_needed,
    "cut": cut_connection,
    "killed": killed_process,
    "many": many_processes,
    "bucket": bucket,
}
