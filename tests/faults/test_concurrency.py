"""Many at once on one cache: threads, processes, and tensorflow_hub."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import pytest
from checker import Checker
from children import Child, names_in, together
from entries import key_of
from servers import Host, in_turn, stall
from servers import archive as served
from waiting import SOON, until

import tfhub_cache

Children = Callable[..., Child]
Record = Callable[[str, object], None]


def record_waking_up(record: Record, ended: list[float]) -> None:
    """Notes how long after the first each of them was done."""
    took = [moment - min(ended) for moment in sorted(ended)]
    record("seconds until each was done after the first", [round(seconds, 3) for seconds in took])
    print(f"after the first: median {took[len(took) // 2]:.3f} s, last {took[-1]:.3f} s")


def test_sixteen_processes_that_ask_at_once_download_once(
    host: Host,
    child: Children,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    record_property: Record,
) -> None:
    """Promise 6: one download for all processes of a host, and the others wake up soon."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(long_packed, 3_000_000, release))
    start = together(16)
    children = [child(handle, start_together=start) for _ in range(16)]
    host.wait_for_requests(1)
    until(lambda: sum(one.is_waiting() for one in children) == 15)
    release.set()
    outcomes = [one.outcome().check() for one in children]
    assert len(host.requests) == 1
    assert {outcome.path for outcome in outcomes} == {str(cache.entry(handle))}
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)
    record_waking_up(record_property, [outcome.ended for outcome in outcomes])


def test_sixteen_threads_that_ask_at_once_download_once(
    host: Host,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    record_property: Record,
) -> None:
    """Promise 6: one download for all threads of a process."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(long_packed, 3_000_000, release))
    done: list[tuple[str, float]] = []
    start = threading.Barrier(17)

    def resolve() -> None:
        start.wait(SOON)
        path = tfhub_cache.resolve(handle)
        done.append((path, time.monotonic()))

    threads = [threading.Thread(target=resolve, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    start.wait(SOON)
    host.wait_for_requests(1)
    release.set()
    for thread in threads:
        thread.join(SOON)
    assert [path for path, _ in done] == [str(cache.entry(handle))] * 16
    assert len(host.requests) == 1
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)
    record_waking_up(record_property, [moment for _, moment in done])


def test_sixteen_processes_that_find_a_damaged_entry_mend_it_once(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 4 and 6: mending is one download too, however many notice."""
    handle = host.publish("/demo/model/1", packed)
    child(handle).outcome().check()
    cache.damage(handle)
    start = together(16)
    children = [child(handle, start_together=start) for _ in range(16)]
    for one in children:
        one.outcome().check()
    assert len(host.requests) == 2
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_whoever_reads_while_an_entry_is_mended_again_and_again_never_gets_a_part_of_it(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 1: a reader is given a whole entry, whatever happens beside it."""
    handle = host.publish("/demo/model/1", packed)
    child(handle).outcome().check()
    stopped = threading.Event()
    wrong: list[object] = []
    looks = [0]

    def look() -> None:
        entry = cache.entry(handle)
        while not stopped.is_set():
            try:
                folder = os.open(entry, os.O_RDONLY)
            except FileNotFoundError:
                continue
            names = set(os.listdir(folder))
            try:
                # Still there, so it was the entry all the time: no process renames it back.
                if os.path.samestat(os.fstat(folder), os.stat(entry)):
                    looks[0] += 1
                    if names != {"saved_model.pb", "variables", "assets"}:
                        wrong.append(names)
            except FileNotFoundError:
                pass
            finally:
                os.close(folder)

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for _ in range(20):
            (cache.entry(handle) / "assets" / "vocab.txt").unlink()
            child(handle).outcome().check()
    finally:
        stopped.set()
        reader.join()
    assert wrong == []
    assert looks[0] > 20
    assert len(host.requests) == 21
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_when_a_download_fails_processes_that_wait_try_themselves_and_report_it_in_time(
    host: Host, child: Children, cache: Checker
) -> None:
    """Promise 6 and 9: no process waits for a download that has failed."""
    release = threading.Event()

    def refuse(request) -> None:
        while not release.wait(0.02):
            request.wait(0.001)
        request.answer(404)

    handle = host.publish("/demo/model/1", refuse)
    children = [child(handle) for _ in range(6)]
    host.wait_for_requests(1)
    release.set()
    for one in children:
        assert "DownloadError" in one.outcome().error
    assert names_in(cache.cache) == []


# With tensorflow_hub.

HUB = """
import json, os, sys, time
from absl import logging
logging.set_verbosity(logging.INFO)
import tensorflow_hub
print("ready", flush=True)
for line in sys.stdin:
    paths = [tensorflow_hub.resolve(handle) for handle in json.loads(line)]
    print(json.dumps(paths), flush=True)
"""


class TensorFlowHub:
    """A process with tensorflow_hub, which resolves the handles that it is given."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with open(log, "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-c", HUB],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.log

    def ask(self, *handles: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(handles) + "\n")
        self.process.stdin.flush()

    def answer(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log
        paths: list[str] = json.loads(line)
        return paths

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def tensorflow_hub(cache_dir: Path, tmp_path: Path) -> Iterator[Callable[[], TensorFlowHub]]:
    """Starts processes with tensorflow_hub on this test's cache; each takes seconds."""
    pytest.importorskip("pkg_resources", reason="tensorflow_hub needs it")
    started: list[TensorFlowHub] = []

    def start() -> TensorFlowHub:
        started.append(TensorFlowHub(tmp_path / f"hub{len(started)}.log"))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.mark.tensorflow
def test_eight_processes_and_four_of_tensorflow_hub_share_a_cache(
    host: Host,
    child: Children,
    cache: Checker,
    tensorflow_hub: Callable[[], TensorFlowHub],
    record_property: Record,
) -> None:
    """Promise 8: both may work on one cache at the same time; every entry is right."""
    hubs = [tensorflow_hub() for _ in range(4)]
    trees, handles = [], []
    for number in range(4):
        trees.append(models.fake_model(size=1_000_000, seed=number))
        packed = models.pack_files(trees[number])
        handles.append(host.publish(f"/demo/model/{number}", served(packed, rate=2_000_000)))
    for hub in hubs:
        hub.wait_until_ready()
    start = together(9)
    children = [child(handles[number % 4], start_together=start) for number in range(8)]
    for number, hub in enumerate(hubs):
        hub.ask(*handles[number:], *handles[:number])
    start.wait(SOON)
    for number, one in enumerate(children):
        assert one.outcome(30).check().path == str(cache.entry(handles[number % 4]))
    for number, hub in enumerate(hubs):
        order = handles[number:] + handles[:number]
        assert hub.answer() == [str(cache.entry(handle)) for handle in order]
    for handle, files in zip(handles, trees, strict=True):
        assert cache.is_whole(handle, files)
    allowed = {
        f"{key_of(handle)}{suffix}"
        for handle in handles
        for suffix in ("", ".descriptor.txt", ".manifest.json")
    }
    assert set(names_in(cache.cache)) <= allowed
    downloads = Counter(request.path for request in host.requests)
    record_property("downloads", dict(downloads))
    print(f"downloads: {dict(downloads)}")
    # Ours find nothing to mend in what came of it.
    asked = len(host.requests)
    for handle in handles:
        child(handle).outcome().check()
    assert len(host.requests) == asked


@pytest.mark.tensorflow
def test_tensorflow_hub_waits_for_our_download_and_uses_the_entry(
    host: Host,
    child: Children,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    tensorflow_hub: Callable[[], TensorFlowHub],
) -> None:
    """Promise 8: tensorflow_hub respects our lock file."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(long_packed, 3_000_000, release))
    hub = tensorflow_hub()
    hub.wait_until_ready()
    ours = child(handle)
    host.wait_for_requests(1)
    hub.ask(handle)
    until(lambda: f"already being downloaded by '{socket.gethostname()}.{ours.pid}." in hub.log)
    release.set()
    assert ours.outcome().check().path == str(cache.entry(handle))
    assert hub.answer() == [str(cache.entry(handle))]
    assert len(host.requests) == 1
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)


@pytest.mark.tensorflow
def test_we_wait_for_tensorflow_hub_and_take_over_at_once_when_it_is_killed(
    host: Host,
    child: Children,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    tensorflow_hub: Callable[[], TensorFlowHub],
) -> None:
    """Promise 7 and 8: after a tensorflow_hub was killed on this host, no process waits."""
    release = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(long_packed, 3_000_000, release), served(long_packed))
    )
    hub = tensorflow_hub()
    hub.wait_until_ready()
    hub.ask(handle)
    host.wait_for_requests(1)
    until(lambda: any(cache.cache.glob("*.tmp/saved_model.pb")))
    ours = child(handle, env={"TFHUB_LOCK_TIMEOUT": "0.3"})
    ours.wait_for_waiting()
    assert ours.is_busy_for(1.5)  # our own timeout is none of tensorflow_hub's
    assert len(host.requests) == 1
    hub.process.send_signal(signal.SIGKILL)
    hub.process.wait(SOON)
    ours.outcome().check()  # and not after tensorflow_hub's ten minutes
    assert len(host.requests) == 2
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)


def test_an_entry_that_tensorflow_hub_finishes_while_we_wait_is_used(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 8: a live lock of tensorflow_hub's kind is respected, and what it makes is used."""
    handle = host.publish("/demo/model/1", packed)
    entry = cache.entry(handle)
    cache.cache.mkdir()
    lock = Path(f"{entry}.lock")
    lock.write_text(f"{socket.gethostname()}.{os.getpid()}.{'0' * 32}")
    staging = models.write_files({"saved_model.pb": b""}, Path(f"{entry}.{'0' * 32}.tmp"))
    waiting = child(handle, env={"TFHUB_LOCK_TIMEOUT": "0.3"})
    waiting.wait_for_waiting()
    with open(staging / "saved_model.pb", "wb", buffering=0) as file:
        for _ in range(8):
            file.write(b"it grows")
            assert waiting.is_busy_for(0.2)
    assert host.requests == []
    shutil.rmtree(staging)
    models.write_files(model, staging)
    staging.rename(entry)
    lock.unlink()
    assert waiting.outcome().check().path == str(entry)
    assert host.requests == []
    assert cache.is_whole(handle, model)
    assert names_in(cache.cache, [handle]) == ["<key>"]


def test_what_tensorflow_hub_publishes_over_our_lock_stays_and_is_used(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 8: neither publishes over the other, even if both were at work."""
    handle = host.publish("/demo/model/1", packed)
    ours = child(handle, stop_at="make <key>.<uid>.descriptor.tmp")
    ours.wait_for_stop()
    theirs = models.write_files(model, Path(f"{cache.entry(handle)}.{'0' * 32}.tmp"))
    number = theirs.stat().st_ino
    theirs.rename(cache.entry(handle))
    ours.go_on()
    assert ours.outcome().check().path == str(cache.entry(handle))
    assert cache.entry(handle).stat().st_ino == number
    assert cache.is_whole(handle, model)
    assert not {"<key>.lock"} & set(names_in(cache.cache, [handle]))
    assert not [name for name in names_in(cache.cache) if name.endswith(".tmp")]
