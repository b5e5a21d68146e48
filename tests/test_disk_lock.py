"""The lock file: who has an entry, and when they count as dead."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest
from processes import dead_pid
from waiting import until

from tfhub_cache.store.disk import lock
from tfhub_cache.store.disk.lock import Lock
from tfhub_cache.store.owner import Owner

HERE = socket.gethostname()
HOLD = """
import sys
from tfhub_cache.store.disk.lock import Lock, staging_folder
held = Lock(sys.argv[1], 60).attempt()
import os
folder = staging_folder(sys.argv[1], held.owner.uid)
os.makedirs(folder)
open(os.path.join(folder, "half"), "w").write("half a file")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def entry(tmp_path: Path) -> str:
    return str(tmp_path / "0123abcd")


def lock_file(entry: str) -> Path:
    return Path(f"{entry}.lock")


@pytest.fixture
def holder(entry: str):
    """A process that holds the lock and has half filled its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, entry], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_lock_file_reads_as_tensorflow_hub_writes_it(entry: str) -> None:
    held = Lock(entry, 60).attempt()
    host, pid, uid = lock_file(entry).read_text().rsplit(".", 2)
    assert (host, int(pid), uid) == (HERE, os.getpid(), held.owner.uid)
    assert lock.staging_folder(entry, uid) == f"{entry}.{uid}.tmp"
    held.release()
    assert not lock_file(entry).exists()


def test_only_one_of_many_threads_gets_it(entry: str) -> None:
    held = []
    start = threading.Barrier(16)

    def contend() -> None:
        start.wait()
        held.append(Lock(entry, 60).attempt())

    threads = [threading.Thread(target=contend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [one for one in held if one is not None]
    assert len(winners) <= 1  # none, if each met another one that was just looking
    for winner in winners:
        winner.release()
    assert Lock(entry, 60).attempt() is not None


def test_somebody_alive_is_waited_for_and_named(entry: str, holder) -> None:
    contender = Lock(entry, 60)
    assert contender.attempt() is None
    assert contender.holder.startswith(f"{HERE}.{holder.pid}.")


def test_a_killed_holder_on_this_machine_is_dead_at_once(entry: str, holder) -> None:
    holder.kill()
    holder.wait()
    assert lock_file(entry).exists()
    held = Lock(entry, 60).attempt()
    assert held is not None
    assert held.owner.pid == os.getpid()


def test_a_holder_elsewhere_is_dead_after_a_time_without_heartbeat(entry: str) -> None:
    lock_file(entry).write_text(f"elsewhere.{os.getpid()}.cache-1")
    contender = Lock(entry, 0.2)
    assert contender.attempt() is None
    until(lambda: contender.attempt() is not None)


def test_a_heartbeat_keeps_a_holder_elsewhere_alive(entry: str) -> None:
    lock_file(entry).write_text("elsewhere.1.cache-1")
    contender = Lock(entry, 0.3)
    stop = time.monotonic() + 1.0
    beat = 0
    while time.monotonic() < stop:
        beat += 1
        os.utime(lock_file(entry), ns=(time.time_ns() + beat, time.time_ns() + beat))
        assert contender.attempt() is None
        time.sleep(0.05)


def test_a_holder_touches_its_lock_file(entry: str) -> None:
    held = Lock(entry, 0.2).attempt()
    os.utime(lock_file(entry), (1, 1))
    until(lambda: lock_file(entry).stat().st_mtime > 1)
    held.release()


def test_a_lock_that_no_process_has_touched_for_hours_is_orphaned_at_once(entry: str) -> None:
    lock_file(entry).write_text("elsewhere.1.cache-1")
    os.utime(lock_file(entry), (time.time() - 7200, time.time() - 7200))
    assert Lock(entry, 60).attempt() is not None


def test_a_tensorflow_hub_process_that_is_gone_is_dead_at_once(entry: str) -> None:
    lock_file(entry).write_text(f"{HERE}.{dead_pid()}.{'0' * 32}")
    assert Lock(entry, 60).attempt() is not None


def test_a_tensorflow_hub_process_that_lives_is_left_ten_minutes_to_grow_its_folder(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "TENSORFLOW_HUB_TIMEOUT", 0.3)  # instead of ten minutes
    lock_file(entry).write_text(f"{HERE}.{os.getpid()}.{'0' * 32}")
    staging = Path(f"{entry}.{'0' * 32}.tmp")
    staging.mkdir()
    contender = Lock(entry, 0.01)
    stop = time.monotonic() + 1.0
    with open(staging / "growing", "wb", buffering=0) as file:
        while time.monotonic() < stop:
            file.write(b"more")
            assert contender.attempt() is None
            time.sleep(0.05)
    until(lambda: contender.attempt() is not None)


def test_a_host_name_with_dots_and_a_strange_file_are_understood(entry: str) -> None:
    assert Owner.parse("a.b.example.com.17.0abc") == Owner("a.b.example.com", 17, "0abc")
    for content in "", "host", "host.pid.uid", "host.1.", "host.1.../../etc", ".1.uid":
        assert Owner.parse(content) is None
    lock_file(entry).write_text("what is this")
    assert Lock(entry, 0.01).attempt() is None


def test_a_lock_that_was_taken_over_is_not_removed_by_its_former_holder(entry: str) -> None:
    held = Lock(entry, 60).attempt()
    lock_file(entry).unlink()
    lock_file(entry).write_text("another.1.cache-2")
    held.release()
    assert lock_file(entry).read_text() == "another.1.cache-2"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such links by default")
def test_a_link_in_place_of_the_lock_file_is_not_followed(entry: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    lock_file(entry).symlink_to(victim)
    with pytest.raises(OSError, match=str(lock_file(entry))):
        Lock(entry, 60).attempt()
    assert victim.read_text() == ""


def test_without_locks_of_the_system_having_made_the_file_must_do(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **options: object) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", refused)
    held = Lock(entry, 60).attempt()
    assert held is not None
    assert Lock(entry, 60).attempt() is None  # this process is alive
    held.release()
    lock_file(entry).write_text(f"{HERE}.{dead_pid()}.cache-1")
    assert Lock(entry, 60).attempt() is not None
