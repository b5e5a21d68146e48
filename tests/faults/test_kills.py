"""Processes that are really killed, at every step of a download and at random moments."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import models
import pytest
from checker import Checker
from children import Child, names_in, names_without_part, resolve_here
from entries import key_of
from servers import Host, in_turn, stall
from servers import archive as served
from waiting import SOON, until

import tfhub_cache as hub

Children = Callable[..., Child]

BEFORE_IT_IS_PUBLISHED = (
    "make folder .",
    "make <key>.lock",
    "lock",
    "open <key>.lock",
    "lock",
    "write",
    "list .",
    "make folder <key>.<uid>.tmp",
    "make <key>.<uid>.tmp/saved_model.pb",
    "make <key>.<uid>.tmp/variables/variables.index",
    "make <key>.<uid>.tmp/assets/vocab.txt",
    "make <key>.<uid>.descriptor.tmp",
    "make <key>.<uid>.manifest.tmp",
    "rename <key>.<uid>.descriptor.tmp to <key>.descriptor.txt",
    "rename <key>.<uid>.manifest.tmp to <key>.manifest.json",
    "rename <key>.<uid>.tmp to <key>",
)
ONLY_IF_DAMAGED = ("rename <key> to <key>.<uid>.old.tmp",)
AFTER_IT_IS_PUBLISHED = ("remove <key>.lock",)
ONLY_IF_DAMAGED_AFTERWARDS = (
    "rename <key>.<uid>.old.tmp to <key>.<uid>.old.gone.tmp",
    "open <key>.<uid>.old.gone.tmp",
    "remove folder ... variables",
)


def killed_at(child: Children, handle: str, step: str) -> None:
    """A child is stopped at a step from outside, and killed there."""
    one = child(handle, stop_at=step)
    assert one.wait_for_stop() == step
    one.kill()


def test_every_step_at_which_the_tests_kill_is_taken(
    host: Host, child: Children, cache: Checker, packed: bytes
) -> None:
    """Promise 1: the steps named in this file are those of a download, in this order."""
    handle = host.publish("/demo/model/1", packed)
    steps = iter(child(handle, steps=True).outcome().check().steps)
    for step in (*BEFORE_IT_IS_PUBLISHED, *AFTER_IT_IS_PUBLISHED):
        assert step in steps  # which consumes them
    cache.damage(handle)
    done = child(handle, steps=True).outcome().check().steps
    assert set(ONLY_IF_DAMAGED + ONLY_IF_DAMAGED_AFTERWARDS) <= set(done)


@pytest.mark.parametrize("step", BEFORE_IT_IS_PUBLISHED)
def test_killed_at_a_step_of_a_download_nothing_is_there_and_the_next_one_succeeds(
    step: str,
    host: Host,
    child: Children,
    cache: Checker,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 1 and 7: killed before it is published, an entry is absent; no process waits."""
    handle = host.publish("/demo/model/1", packed)
    killed_at(child, handle, step)
    assert not cache.is_whole(handle, model)
    asked = len(host.requests)
    child(handle).outcome().check()
    assert len(host.requests) == asked + 1
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


@pytest.mark.once
@pytest.mark.parametrize("step", BEFORE_IT_IS_PUBLISHED[1:] + ONLY_IF_DAMAGED)
def test_killed_while_mending_an_entry_it_is_as_it_was_or_absent_and_the_next_one_mends_it(
    step: str,
    host: Host,
    child: Children,
    cache: Checker,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 1 and 4: a damaged entry is replaced in one step, or stays what it was."""
    handle = host.publish("/demo/model/1", packed)
    child(handle).outcome().check()
    rest = cache.damage(handle)
    killed_at(child, handle, step)
    is_renamed = step in BEFORE_IT_IS_PUBLISHED[-3:]
    assert cache.is_whole(handle, rest) == (not is_renamed)
    child(handle).outcome().check()
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


@pytest.mark.parametrize("step", AFTER_IT_IS_PUBLISHED)
def test_killed_after_it_is_published_the_entry_is_whole_and_used_and_the_rest_is_pruned(
    step: str,
    host: Host,
    child: Children,
    cache: Checker,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 1 and 9: killed while it tidies up, a process leaves a whole entry."""
    handle = host.publish("/demo/model/1", packed)
    killed_at(child, handle, step)
    assert cache.is_whole(handle, model)
    child(handle).outcome().check()
    assert len(host.requests) == 1
    hub.cache.prune()
    cache.is_all(handle)


@pytest.mark.parametrize("step", AFTER_IT_IS_PUBLISHED + ONLY_IF_DAMAGED_AFTERWARDS)
def test_killed_after_it_was_mended_the_entry_is_whole_and_the_next_download_tidies_up(
    step: str,
    host: Host,
    child: Children,
    cache: Checker,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 9: what a killed process left is removed by the next download of that handle."""
    handle = host.publish("/demo/model/1", packed)
    child(handle).outcome().check()
    cache.damage(handle)
    killed_at(child, handle, step)
    assert cache.is_whole(handle, model)
    cache.damage(handle)
    child(handle).outcome().check()
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


@pytest.mark.parametrize("found", ["nothing", "a damaged entry", "what a killed process left"])
def test_killed_at_each_and_every_step_the_cache_is_sound_and_the_next_one_succeeds(
    found: str,
    host: Host,
    child: Children,
    cache: Checker,
    tmp_path: Path,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 1: as above, at all steps there are, whatever they are called."""
    handle = host.publish("/demo/model/1", packed)
    found_files = []
    if found == "a damaged entry":
        resolve_here(handle)
        found_files.append(cache.damage(handle))
    elif found == "what a killed process left":
        killed_at(child, handle, "rename <key>.<uid>.manifest.tmp to <key>.manifest.json")
    cache.cache.mkdir(exist_ok=True)
    as_found = tmp_path / "as found"
    shutil.copytree(cache.cache, as_found)

    steps = child(handle, steps=True).outcome().check().steps
    assert len(steps) > 20
    for number, step in enumerate(steps):
        shutil.rmtree(cache.cache)
        shutil.copytree(as_found, cache.cache)
        one = child(handle, stop_at=number, action="kill")
        assert one.wait_for_death() == -signal.SIGKILL, f"not killed at {number}: {step}"
        entry = cache.entry(handle)
        if entry.exists():
            assert models.read_files(entry) in (model, *found_files), step
        asked = len(host.requests)
        resolve_here(handle)
        assert cache.is_whole(handle, model), step
        if len(host.requests) == asked:  # no download that would have tidied up
            hub.cache.prune()
        cache.is_all(handle)


@pytest.mark.parametrize("after", [0, 1, 3_000_000], ids=["no byte", "a byte", "half"])
def test_killed_when_some_bytes_have_come_the_next_one_starts_at_once(
    after: int,
    host: Host,
    child: Children,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
) -> None:
    """Promise 7: after a process was killed in the middle of a file, no other one waits."""
    release = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(long_packed, after, release), served(long_packed))
    )
    one = child(handle)
    host.wait_for_requests(1)
    big = "variables/variables.data-00000-of-00001"
    if after > 1:  # then some of it must have come to the disk
        until(lambda: sum(path.stat().st_size for path in cache.cache.glob(f"*.tmp/{big}")))
    else:
        until(lambda: any(cache.cache.glob("*.tmp")))
    one.kill()
    assert not cache.is_whole(handle, long_model)
    # The lock file, and the folder that was filled.
    assert len(names_without_part(cache.cache)) == 2
    child(handle, env={"TFHUB_LOCK_TIMEOUT": "600"}).outcome().check()
    assert len(host.requests) - 2 in (0, 1)  # one more asks for the rest of what is kept
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)


def test_whoever_waits_for_a_process_that_is_killed_takes_over_at_once(
    host: Host,
    child: Children,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
    record_property: Callable[[str, object], None],
) -> None:
    """Promise 7: killed with SIGKILL on the same host, the next one starts at once."""
    release = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(long_packed, 1000, release), served(long_packed))
    )
    one = child(handle)
    host.wait_for_requests(1)
    waiting = child(handle, env={"TFHUB_LOCK_TIMEOUT": "600"})
    waiting.wait_for_waiting()
    assert len(host.requests) == 1
    killed = time.monotonic()
    one.signal(signal.SIGKILL)
    host.wait_for_requests(2)
    took = time.monotonic() - killed
    record_property("seconds until the next download starts", took)
    print(f"the next download started {took:.3f} s after the kill")
    waiting.outcome().check()
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)


def test_no_process_waits_for_a_killed_one_whose_forked_child_lives_on(
    host: Host, cache: Checker, child: Children, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 7: a worker that was forked during the download does not keep the lock alive."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", in_turn(stall(packed, 1000, release), served(packed)))
    forking = """
import os, sys, threading, time
import tfhub_cache
threading.Thread(target=tfhub_cache.resolve, args=sys.argv[1:2], daemon=True).start()
sys.stdin.readline()
pid = os.fork()
if pid == 0:
    os.close(1)
    # It stays what it is, as a worker of a pool does.
    sys.stdin.readline()
    os._exit(0)
print(pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", forking, handle],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdin is not None
        assert parent.stdout is not None
        host.wait_for_requests(1)
        parent.stdin.write("fork\n")
        parent.stdin.flush()
        assert int(parent.stdout.readline()) > 0
        parent.kill()
        parent.wait(SOON)
        child(handle, env={"TFHUB_LOCK_TIMEOUT": "600"}).outcome().check()
    finally:
        parent.kill()
        parent.communicate("end\n", SOON)  # its child ends with the end of its input
    assert len(host.requests) == 2
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


@pytest.mark.once
def test_200_kills_at_random_moments_never_leave_a_part_of_an_entry(
    host: Host,
    child: Children,
    cache: Checker,
    model: dict[str, bytes],
    packed: bytes,
    record_property: Callable[[str, object], None],
) -> None:
    """Promise 1, 4 and 7: whatever the moment; every second time, an entry is being mended."""
    handle = host.publish("/demo/model/1", packed)
    typical = []
    for _ in range(7):
        shutil.rmtree(cache.cache, ignore_errors=True)
        typical.append(child(handle).outcome().check().seconds)
    duration = statistics.median(typical)

    moments = random.Random(20_260_101)
    killed = unfinished = replaced = 0
    for trial in range(200):
        is_damaged = trial % 2 == 1
        if is_damaged:
            rest = cache.damage(handle)
        else:
            shutil.rmtree(cache.cache)
            rest = {}
        one = child(handle)
        one.wait_for_start()
        one.dies_within(moments.uniform(0, 1.1 * duration))
        one.signal(signal.SIGKILL)
        killed += one.wait_for_death() == -signal.SIGKILL
        entry = cache.entry(handle)
        if entry.exists():
            found = models.read_files(entry)
            assert found in ([model, rest] if is_damaged else [model])
            replaced += found == model
        unfinished += Path(f"{entry}.lock").exists()
        asked = len(host.requests)
        resolve_here(handle)
        assert cache.is_whole(handle, model)
        if len(host.requests) == asked:
            hub.cache.prune()
        cache.is_all(handle)
        one.close()
    summary = f"{killed} killed in {duration:.4f} s, {unfinished} at work, {replaced} done"
    record_property("kills", summary)
    print(summary)
    # It was no test if they had all been done, or had not begun.
    assert killed == 200
    assert unfinished > 20


def forge_lock(cache: Checker, handle: str, host: str, pid: int, uid: str) -> Path:
    """A lock file and a half filled folder, as another process makes them."""
    cache.cache.mkdir(exist_ok=True)
    lock = Path(f"{cache.entry(handle)}.lock")
    lock.write_text(f"{host}.{pid}.{uid}")
    models.write_files({"saved_model.pb": b"half"}, Path(f"{cache.entry(handle)}.{uid}.tmp"))
    return lock


def test_a_lock_of_another_host_without_heartbeat_is_taken_over_after_the_timeout(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 7: a lock of another host without a sign of life is taken over."""
    handle = host.publish("/demo/model/1", packed)
    forge_lock(cache, handle, "another-host", os.getpid(), "cache-" + "0" * 32)
    outcome = child(handle, env={"TFHUB_LOCK_TIMEOUT": "0.7"}).outcome().check()
    assert outcome.seconds >= 0.7
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_a_lock_of_another_host_is_respected_as_long_as_its_heart_beats(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 7: a heartbeat in place of guessing."""
    handle = host.publish("/demo/model/1", packed)
    lock = forge_lock(cache, handle, "another-host", os.getpid(), "cache-" + "0" * 32)
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(0.1):
            os.utime(lock)

    heart = threading.Thread(target=beat)
    heart.start()
    try:
        waiting = child(handle, env={"TFHUB_LOCK_TIMEOUT": "2"})
        waiting.wait_for_waiting()
        assert waiting.is_busy_for(4)
        assert host.requests == []
    finally:
        stopped.set()
        heart.join()
    waiting.outcome().check()
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_a_long_download_keeps_its_lock_by_its_own_heartbeat(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 7: a process that is alive keeps the lock, however slow its server is."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(packed, 1000, release))
    env = {"TFHUB_LOCK_TIMEOUT": "1.5"}
    slow = child(handle, env=env)
    host.wait_for_requests(1)
    waiting = child(handle, env=env)
    waiting.wait_for_waiting()
    assert waiting.is_busy_for(3)
    assert len(host.requests) == 1
    release.set()
    assert slow.outcome().check().path == waiting.outcome().check().path
    assert len(host.requests) == 1
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_a_lock_whose_process_is_gone_is_taken_over_at_once(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 7: ours and tensorflow_hub's, at once if the pid is dead on this host."""
    gone = child("not asked for")
    gone.kill()
    for number, uid in enumerate(("cache-" + "0" * 32, "0" * 32)):
        handle = host.publish(f"/demo/model/{number}", packed)
        forge_lock(cache, handle, socket.gethostname(), gone.pid, uid)
        child(handle, env={"TFHUB_LOCK_TIMEOUT": "600"}).outcome().check()
        assert cache.is_whole(handle, model)
        assert not [name for name in names_in(cache.cache) if name.endswith((".lock", ".tmp"))]
        assert key_of(handle) in names_in(cache.cache)


@pytest.mark.parametrize("order", ["folders first", "folders where they come"])
def test_whoever_wakes_up_after_their_lock_was_taken_over_publishes_no_part_of_an_entry(
    order: str, host: Host, child: Children, cache: Checker, long_model: dict[str, bytes]
) -> None:
    """Promise 1: a machine that falls asleep in a download and wakes up does no harm."""
    if order == "folders first":
        packed = models.pack_files(long_model)
    else:  # as tar packs a folder
        rest = dict(long_model)
        asset = models.member("./assets/vocab.txt", data=rest.pop("assets/vocab.txt"))
        folder = models.member("./assets", tarfile.DIRTYPE, mode=0o755)
        packed = models.pack_files(rest, extra_members=[folder, asset])
    releases = [threading.Event(), threading.Event()]
    handle = host.publish(
        "/demo/model/1", in_turn(*(stall(packed, 3_000_000, event) for event in releases))
    )
    env = {"TFHUB_LOCK_TIMEOUT": "0.5"}
    data = "*.tmp/variables/variables.data*"
    asleep = child(handle, env=env)
    host.wait_for_requests(1)
    until(lambda: any(cache.cache.glob(data)))
    asleep.signal(signal.SIGSTOP)
    try:
        awake = child(handle, env=env)
        host.wait_for_requests(2)  # it took the lock over
        until(lambda: any(cache.cache.glob(data)))
    finally:
        asleep.signal(signal.SIGCONT)
    releases[0].set()
    asleep.wait_for_waiting()  # for the process that took over
    assert not cache.is_whole(handle, long_model)  # a part of it fails here
    releases[1].set()
    asleep.outcome().check()
    awake.outcome().check()
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)
