"""A cache on a disk, where another process is between two steps, or one ends between two."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
from entries import ours, seconds_since_use
from models import fake_model, pack_files, read_files
from servers import Host, stall, status
from waiting import SOON, press_ctrl_c, until

import tfhub_cache as hub
from tfhub_cache.errors import CacheError
from tfhub_cache.fetching import lookup as fetching
from tfhub_cache.store.disk import lock, part
from tfhub_cache.store.disk.lock import Lock
from tfhub_cache.store.disk.part import open_part
from tfhub_cache.store.disk.store import LocalStore
from tfhub_cache.store.owner import Owner
from tfhub_cache.transfer.spool import Spool
from tfhub_cache.urls import key_of

pytestmark = pytest.mark.timeout(120)

OLD = {**fake_model(size=1000), "saved_model.pb": b"old"}
NEW = {**fake_model(size=1000), "saved_model.pb": b"new"}  # of the same sizes
A = "https://example.com/a/1"


def base_of(cache: Path, handle: str) -> str:
    return str(cache / key_of(handle))


def taken_over(base: str) -> lock.Lock:
    """The lock of a process that is asleep, taken over."""
    contender = Lock(base, 0.05)
    return until(contender.attempt)


def claim_taken_over(cache: Path, handle: str, **options: Any) -> Any:
    contender = LocalStore(str(cache)).contend(key_of(handle), 0.05, 0, **options)
    return until(contender.attempt)


def without_os_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that has no locks."""

    def refused(*_: object, **options: object) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock, "lock_descriptor", refused)


# An interruption in the first rename of a refresh


def test_a_refresh_that_is_interrupted_in_its_first_rename_leaves_the_model(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 12: if a refresh fails, the sound model stays as it was."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    host.publish("/m", pack_files(NEW))
    rename = os.rename

    def interrupted(source: str, target: str) -> None:
        rename(source, target)
        if source == base_of(cache_dir, handle):
            raise KeyboardInterrupt  # a signal that comes in a system call is delivered after it

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hub.cache.refresh(handle)
    assert LocalStore(str(cache_dir)).flaw(key_of(handle)) is None
    assert read_files(cache_dir / key_of(handle)) == OLD


# What fails after the new manifest is in place


@pytest.mark.parametrize("how", [KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_a_refresh_that_fails_in_its_last_rename_leaves_the_model_with_its_manifest(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, how: BaseException
) -> None:
    """Promise 12: the old model under the new one's manifest looks whole and is another one."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    before = hub.cache.find(handle).manifest
    host.publish("/m", pack_files(NEW))
    rename = os.rename

    def failing(source: str, target: str) -> None:
        if target == base_of(cache_dir, handle) and ".old." not in source:
            raise how
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", failing)
        with pytest.raises((KeyboardInterrupt, CacheError)):
            hub.cache.refresh(handle)
    assert read_files(cache_dir / key_of(handle)) == OLD
    assert hub.cache.find(handle).manifest == before


def test_what_a_locked_download_leaves_that_fails_does_not_pass_for_what_is_locked(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A model that is not the locked one must never be returned."""
    handle = host.publish("/m", pack_files(NEW))
    file = tmp_path / "models.lock"
    hub.cache.lock([handle], file)
    hub.cache.remove([handle])
    host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    host.publish("/m", pack_files(NEW))
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    rename = os.rename

    def interrupted(source: str, target: str) -> None:
        if target == base_of(cache_dir, handle) and ".old." not in source:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hub.resolve(handle)
    assert read_files(hub.resolve(handle)) == NEW


# An interruption between the claim and `with`


def test_whoever_is_interrupted_just_after_waiting_keeps_no_lock(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a notebook keeps the traceback, and with it what its frames refer to."""
    handle = host.publish("/m/1", pack_files(OLD))
    leave = fetching.Progress.__exit__

    def interrupted(self: Any, *error: object) -> None:
        leave(self, *error)
        if self._what.startswith("Waiting"):
            raise KeyboardInterrupt  # while the bar is drawn for the last time

    with monkeypatch.context() as patch:
        # Between the wait and the `with` that follows it, nothing else happens.
        patch.setattr(fetching.Progress, "__exit__", interrupted)
        with pytest.raises(KeyboardInterrupt) as last_traceback:
            hub.resolve(handle)
    free = Lock(base_of(cache_dir, handle), 60).attempt()
    assert last_traceback.value.__traceback__ is not None
    assert free is not None, f"it is held by {os.listdir(cache_dir)}"
    free.release()


# A release that ends half way


def test_whoever_is_interrupted_while_the_heartbeat_ends_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: Ctrl-C pressed again while it tidies up."""
    base = str(tmp_path / "entry")
    held = Lock(base, 60).attempt()

    def interrupted(self: threading.Thread, timeout: float | None = None) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            held.release()
    del held
    gc.collect()
    free = Lock(base, 60).attempt()
    assert free is not None
    free.release()


def test_a_release_that_can_not_look_at_the_lock_file_lets_go_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a right that is taken away; the cache is usable when it is given back."""
    base = str(tmp_path / "entry")
    held = Lock(base, 60).attempt()
    stat = os.stat

    def refused(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if path == f"{base}.lock":
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refused)
        with contextlib.suppress(PermissionError):
            held.release()
    del held
    gc.collect()
    free = Lock(base, 60).attempt()
    assert free is not None
    free.release()


# A process that removes a model falls asleep


def test_whoever_wakes_up_while_removing_a_model_does_not_remove_a_new_one(
    host: Host, cache_dir: Path
) -> None:
    """Promise 12: what was made again since it was chosen stays."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    host.publish("/m", pack_files(NEW))

    def asleep(_: object) -> bool:
        refresh_in_place_of_a_sleeper(cache_dir, handle)
        return True  # as it was looked at

    with contextlib.suppress(OSError):
        LocalStore(str(cache_dir)).tidy(key_of(handle), 60, asleep)
    assert read_files(cache_dir / key_of(handle)) == NEW
    assert hub.cache.find(handle).state == "ok"


def test_whoever_wakes_up_while_deleting_a_model_leaves_a_new_ones_manifest(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 2: deleting a large model takes a while, in which one may press Ctrl-Z."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    rename, slept = os.rename, []

    def asleep(source: str, target: str) -> None:
        rename(source, target)
        if source == base_of(cache_dir, handle) and not slept:
            slept.append(source)
            refresh_in_place_of_a_sleeper(cache_dir, handle)

    monkeypatch.setattr(os, "rename", asleep)
    with contextlib.suppress(OSError):
        hub.cache.remove([handle])
    assert slept
    assert read_files(cache_dir / key_of(handle)) == OLD
    assert hub.cache.find(handle).state == "ok"


def refresh_in_place_of_a_sleeper(cache: Path, handle: str) -> None:
    """Another process sees no sign of life, and makes the entry again."""
    taken_over(base_of(cache, handle)).release()
    hub.cache.refresh(handle)


# A download of hours


def test_a_model_that_took_hours_to_download_was_used_just_now(host: Host, cache_dir: Path) -> None:
    """Promise 12: the limit spares what was resolved in the last hour."""
    release = threading.Event()
    packed = pack_files(fake_model(size=3_000_000))
    handle = host.publish("/m/1", stall(packed, len(packed) - 1000, release))
    thread = threading.Thread(target=hub.resolve, args=(handle,))
    thread.start()
    until(lambda: list(cache_dir.glob("*.tmp/variables/variables.data*")))
    (staging,) = cache_dir.glob("*.tmp")
    three_hours_ago = time.time() - 3 * 3600
    os.utime(staging, (three_hours_ago, three_hours_ago))  # so long has the last file been coming
    release.set()
    thread.join()
    entry = cache_dir / key_of(handle)
    assert entry.is_dir()
    assert seconds_since_use(entry) < 3600


# The part file of a process that wakes up


def test_a_process_that_wakes_up_in_a_download_leaves_the_part_file_to_the_one_that_took_over(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 9."""
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    packed = pack_files(fake_model(size=6_000_000))
    release = threading.Event()
    handle = host.publish("/m/1", stall(packed, 3_000_000, release))
    thread = threading.Thread(target=lambda: contextlib.suppress(OSError) and hub.resolve(handle))
    thread.start()
    until(lambda: list(cache_dir.glob("*.tmp/variables/variables.data*")))
    base = base_of(cache_dir, handle)
    until(lambda: (found := part.look_at_part(base)) and found[1] >= 2 << 20)
    claim = claim_taken_over(cache_dir, handle)
    with contextlib.ExitStack() as stack:
        stack.callback(claim.release)
        identity, _ = part.look_at_part(base)
        successor = claim.spool(identity)
        had = successor.kept()
        assert had >= 2 << 20
        asleep_until = len(host.requests)
        release.set()  # the sleeper wakes up, and finds that its folder is gone
        until(lambda: "Another process took over" in caplog.text)
        assert len(host.requests) == asleep_until
        successor.close(keep=True)  # and the successor is interrupted
        found = open_part(base, identity, lambda: False)
        assert found.kept() >= had
        found.close(keep=True)
    thread.join(SOON)


# Several users


def test_a_lock_that_comes_and_goes_while_it_is_opened_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: the others wait, or it is theirs."""
    base = str(tmp_path / "entry")
    file = Path(f"{base}.lock")
    open_, seen = os.open, []

    def of_another_user(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if path == str(file) and len(seen) < 3:
            seen.append(bool(flags & os.O_CREAT))
            if flags & os.O_CREAT:
                file.write_text("elsewhere.1.cache-1")
            else:
                file.unlink(missing_ok=True)  # its owner is done at this very moment
        return open_(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", of_another_user)
    held = Lock(base, 60).attempt()
    assert seen == [False, True, False]
    assert held is not None
    held.release()


def test_who_may_not_write_gets_the_model_that_was_being_replaced_when_they_looked(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 12: while a sound model is replaced, others wait for it."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    host.publish("/m", pack_files(NEW))
    errors: list[BaseException] = []
    paths: list[str] = []
    readers: list[threading.Thread] = []
    looked, replaced = threading.Event(), threading.Event()
    rename, open_ = os.rename, os.open

    def read() -> None:
        try:
            paths.append(hub.resolve(handle))
        except BaseException as error:
            errors.append(error)

    def watched(source: str, target: str) -> None:
        if target == base_of(cache_dir, handle) and not readers:
            readers.append(threading.Thread(target=read))
            readers[0].start()
            assert looked.wait(SOON)
        rename(source, target)

    def by_who_may_not_write(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if str(path).endswith(".lock") and threading.current_thread() in readers:
            looked.set()  # it has found no entry
            assert replaced.wait(SOON)
            if not os.path.exists(path) and not flags & os.O_CREAT:
                raise FileNotFoundError(2, "No such file or directory", path)
            raise PermissionError(13, "Permission denied", path)
        return open_(path, flags, *mode, **options)

    monkeypatch.setattr(os, "rename", watched)
    monkeypatch.setattr(os, "open", by_who_may_not_write)
    hub.cache.refresh(handle)
    replaced.set()
    readers[0].join(SOON)
    assert not errors, errors
    assert read_files(paths[0]) == NEW


# A lock file that can't be removed


def test_a_lock_file_that_can_not_be_removed_does_not_make_an_error_of_a_model_that_is_there(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after the entry is published comes too late."""
    handle = host.publish("/m/1", pack_files(OLD))

    def refused(function: Any) -> Any:
        def call(path: Any, *args: Any, **options: Any) -> None:
            if str(path).endswith(".lock"):
                raise PermissionError(13, "Permission denied", path)
            function(path, *args, **options)

        return call

    monkeypatch.setattr(os, "unlink", refused(os.unlink))
    monkeypatch.setattr(os, "rename", refused(os.rename))
    assert read_files(hub.resolve(handle)) == OLD


# Taking over


def test_a_process_that_wakes_up_before_it_sweeps_does_not_sweep_the_one_that_took_over(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A living one's folder is not removed."""
    cache_dir.mkdir()
    store = LocalStore(str(cache_dir))
    listdir, others = os.listdir, []

    def asleep(path: Any) -> list[str]:
        if not others:
            others.append(None)
            others[0] = claim_taken_over(cache_dir, A)
            with others[0].create_file("saved_model.pb", 3, replace=False) as file:
                file.write(b"new")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", asleep)
    claim = store.contend(key_of(A), 60, 0)
    with contextlib.suppress(OSError):
        claim.attempt()
    claim.release()
    assert others[0] is not None
    assert not others[0].is_lost()
    assert os.path.isdir(others[0]._staging)
    others[0].release()


def test_a_download_that_is_taken_over_each_time_is_an_error_after_a_few_requests(
    host: Host, cache_dir: Path
) -> None:
    """As by new processes, one after the other, that take this one for dead."""
    handle = f"{host.url}/m/1"

    def answer_somebody_who_is_asleep(request: Any) -> None:
        taken_over(base_of(cache_dir, handle)).release()
        request.answer(200, pack_files(OLD))

    host.route("/m/1", answer_somebody_who_is_asleep)
    with pytest.raises(CacheError, match=r"took the download over 5 times.*host names") as caught:
        hub.resolve(handle)
    assert handle in str(caught.value)
    assert len(host.requests) == 5
    assert os.listdir(cache_dir) == []


def test_whoever_lost_a_download_does_not_take_it_back_from_a_process_that_is_alive(
    tmp_path: Path,
) -> None:
    """What shows a crash here has shown one that was none; so only silence counts."""
    base = str(tmp_path / "entry")
    loser = Lock(base, 0.3)
    lost = loser.attempt()
    assert lost is not None
    Path(f"{base}.lock").unlink()
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    successor = Owner.new()._replace(pid=int(dead.stdout))  # of a machine of the same name, say
    Path(f"{base}.lock").write_text(str(successor))
    assert not lost.is_held()
    lost.release()
    assert loser.attempt() is None
    held = until(loser.attempt)  # unless it gives no sign of life
    held.release()


def test_whoever_is_stopped_before_they_write_their_name_is_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    """Promise 6: who was stopped is taken over after the timeout."""
    base = str(tmp_path / "entry")
    code = (
        "import os, sys, time\n"
        "from tfhub_cache.store.disk.lock import Lock\n"
        "def write(descriptor, content):\n"
        "    print('stopped', flush=True)\n"
        "    time.sleep(60)\n"
        "os.write = write\n"
        "Lock(sys.argv[1], 60).attempt()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, base], stdout=subprocess.PIPE) as stopped:
        try:
            assert stopped.stdout is not None
            assert stopped.stdout.readline() == b"stopped\n"
            contender = Lock(base, 0.2)
            held = until(contender.attempt)
            held.release()
        finally:
            stopped.kill()


# Without locks of the system's


def test_an_interrupted_process_leaves_the_empty_lock_of_one_that_is_just_taking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A living one's lock is not removed."""
    base = str(tmp_path / "entry")
    without_os_locks(monkeypatch)
    write = os.write

    def others_look(descriptor: int, content: bytes) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(Owner, "parse", interrupted)  # while it looks who holds the lock
            with pytest.raises(KeyboardInterrupt):
                Lock(base, 60).attempt()
        return write(descriptor, content)

    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "write", others_look)
    held = Lock(base, 60).attempt()
    assert held is not None
    assert held.is_held()
    held.release()


def test_a_child_that_is_forked_while_a_lock_is_taken_does_not_keep_it(tmp_path: Path) -> None:
    """Promise 7: a child that Python forks during the download lets go of the lock."""
    base = str(tmp_path / "entry")
    code = (
        "import os, sys, time, uuid\n"
        "from tfhub_cache.store.disk.lock import Lock\n"
        "uuid4 = uuid.uuid4\n"
        "def forked():\n"
        "    if os.fork() == 0:\n"  # by another thread, say
        "        time.sleep(60)\n"
        "        os._exit(0)\n"
        "    return uuid4()\n"
        "uuid.uuid4 = forked\n"
        "held = Lock(sys.argv[1], 60).attempt()\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, base],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            holder.kill()
            holder.wait()
            contender = Lock(base, 60)
            held = until(contender.attempt)
            held.release()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(holder.pid, 9)


# Two looks at an entry


def test_a_model_is_held_against_the_lock_file_by_the_manifest_by_which_it_was_found_whole(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handle = host.publish("/m", pack_files(NEW))
    file = tmp_path / "models.lock"
    hub.cache.lock([handle], file)
    new_manifest = Path(base_of(cache_dir, handle) + ".manifest.json").read_bytes()
    hub.cache.remove([handle])
    host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    flaw, old = LocalStore.flaw, []

    def between(self: Any, key: str) -> str | None:
        found = flaw(self, key)
        if not old:  # a process that replaces it is between its renames
            old.append(base_of(cache_dir, handle))
            os.rename(old[0], f"{old[0]}.cache-1.old.tmp")
            Path(f"{old[0]}.manifest.json").write_bytes(new_manifest)
        return found

    # The two looks are one call, with nothing of the system's in between.
    # No call of the system's lies between the two looks alone.
    monkeypatch.setattr(LocalStore, "flaw", between)
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    host.publish("/m", pack_files(NEW))
    assert read_files(hub.resolve(handle)) == NEW
    assert old


# Interrupted threads


def test_what_is_interrupted_while_a_server_is_asked_again_lets_go_of_its_lock(
    host: Host, cache_dir: Path
) -> None:
    """Promise 9: all downloads stop and clean up."""
    busy = host.publish("/busy/1", status(503, headers={"Retry-After": "30"}))
    quick = host.publish("/quick/1", pack_files(OLD))
    outcomes = hub.cache.resolve_all([quick, busy], jobs=2)
    next(outcomes)
    host.wait_for_requests(2)
    until(lambda: (cache_dir / f"{key_of(busy)}.lock").exists())
    outcomes.close()
    assert not (cache_dir / f"{key_of(busy)}.lock").exists()


# What else could go wrong between two steps


def test_whoever_is_interrupted_when_their_folder_is_made_leaves_none(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: no folder of a living process stays."""
    cache_dir.mkdir()
    mkdir = os.mkdir

    def interrupted(path: Any, *mode: int) -> None:
        mkdir(path, *mode)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", interrupted)
        claim = LocalStore(str(cache_dir)).contend(key_of(A), 60, 0)
        with pytest.raises(KeyboardInterrupt):
            claim.attempt()
        claim.release()
    assert os.listdir(cache_dir) == []


def test_an_interruption_stays_one_if_the_lock_file_can_not_be_removed(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop over handles that goes on after an OSError must not go on after Ctrl-C."""
    handle = host.route("/m/1", press_ctrl_c)

    def refused(function: Any) -> Any:
        def call(path: Any, *args: Any, **options: Any) -> None:
            if str(path).endswith(".lock"):
                raise PermissionError(13, "Permission denied", path)
            function(path, *args, **options)

        return call

    monkeypatch.setattr(os, "unlink", refused(os.unlink))
    monkeypatch.setattr(os, "rename", refused(os.rename))
    with pytest.raises(KeyboardInterrupt):
        hub.resolve(handle)


def test_ctrl_c_pressed_again_when_a_transfer_ends_ends_its_threads(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook that lives on goes on receiving otherwise, when it has no lock any more."""
    from tfhub_cache.transfer.segments import Segments

    release = threading.Event()
    packed = pack_files(fake_model(size=6_000_000))
    handle = host.publish("/m/1", stall(packed, 2_000_000, release))
    close, closed = Segments.close, []

    def interrupted(self: Any) -> None:
        if not closed:
            closed.append(self)
            raise KeyboardInterrupt  # while it waits for a connection that is just writing
        close(self)

    def receive(*_: object) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        # A second Ctrl-C comes when it comes.
        patch.setattr("tfhub_cache.fetching.download._receive", receive)
        patch.setattr(Segments, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            hub.resolve(handle)
    assert closed

    def left() -> list[threading.Thread]:
        return [t for t in set(threading.enumerate()) - before if t.name.endswith("(_run)")]

    try:
        until(lambda: not left())
    finally:
        release.set()
        close(closed[0])


def test_a_model_that_is_verified_while_it_is_replaced_lacks_nothing(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames of a refresh, another process asks for that model."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    host.publish("/m", pack_files(NEW))
    rename = os.rename
    verified: list[Any] = []
    verifier: list[threading.Thread] = []

    entry = hub.cache.find(handle)  # just before the rename

    def watched(source: str, target: str) -> None:
        if target == base_of(cache_dir, handle) and not verifier:
            verifier.append(
                threading.Thread(target=lambda: verified.extend(hub.cache.verify([entry])))
            )
            verifier[0].start()
            verifier[0].join(1.0)
        rename(source, target)

    monkeypatch.setattr(os, "rename", watched)
    hub.cache.refresh(handle)
    verifier[0].join(SOON)
    assert verified[0].problems == ()


def test_what_tensorflow_hub_publishes_between_two_renames_is_not_taken_for_what_is_locked(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from models import write_files

    handle = host.publish("/m", pack_files(NEW))
    file = tmp_path / "models.lock"
    hub.cache.lock([handle], file)
    hub.cache.remove([handle])
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    rename, theirs = os.rename, []

    def at_the_same_time(source: str, target: str) -> None:
        if target == base_of(cache_dir, handle) and not theirs:
            theirs.append(write_files(OLD, Path(target)))
        rename(source, target)

    monkeypatch.setattr(os, "rename", at_the_same_time)
    with contextlib.suppress(CacheError):
        hub.resolve(handle)
    assert theirs
    assert read_files(hub.resolve(handle)) == NEW


def test_two_that_remove_the_same_model_at_once_do_not_fail(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(cache_dir, A)
    entry = hub.cache.find(A)
    rename = os.rename
    second: list[Any] = []

    def at_the_same_time(source: str, target: str) -> None:
        rename(source, target)
        if not second and source == base_of(cache_dir, A):
            second.append(None)
            second[0] = hub.cache.remove([entry])[0]

    monkeypatch.setattr(os, "rename", at_the_same_time)
    assert hub.cache.remove([A])[0].error is None
    assert second[0].error is None, second[0].error


def test_on_a_read_only_mount_a_model_that_is_being_replaced_is_waited_for(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 12: others wait for it."""
    handle = host.publish("/m", pack_files(OLD))
    hub.resolve(handle)
    host.publish("/m", pack_files(NEW))
    rename, open_ = os.rename, os.open
    readers: list[threading.Thread] = []
    errors: list[BaseException] = []
    paths: list[str] = []
    looked = threading.Event()

    def read() -> None:
        try:
            paths.append(hub.resolve(handle))
        except BaseException as error:
            errors.append(error)

    def watched(source: str, target: str) -> None:
        if target == base_of(cache_dir, handle) and not readers:
            readers.append(threading.Thread(target=read))
            readers[0].start()
            assert looked.wait(SOON)
        rename(source, target)

    def on_a_read_only_mount(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if threading.current_thread() in readers and str(path).endswith(".lock"):
            looked.set()  # it has found no entry
            if flags & os.O_CREAT or (flags & os.O_RDWR and os.path.exists(path)):
                raise OSError(30, "Read-only file system", path)
        return open_(path, flags, *mode, **options)

    monkeypatch.setattr(os, "rename", watched)
    monkeypatch.setattr(os, "open", on_a_read_only_mount)
    hub.cache.refresh(handle)
    readers[0].join(SOON)
    assert not errors, errors
    assert read_files(paths[0]) == NEW


def test_a_lock_file_that_can_not_be_read_hides_no_other_model(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESTALE, where another machine on NFS removes a lock file while we look at it."""
    ours(cache_dir, A)
    (cache_dir / f"{key_of('another')}.lock").write_text("elsewhere.1.cache-1")

    def stale(*_: object) -> bytes:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", stale)  # which is how lock files are read
        found = hub.cache.entries()
    assert A in [entry.handle for entry in found]


def test_a_download_that_is_complete_does_not_fail_for_its_part_files_end(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota, or NFS, may tell at the end that something was not written; it is not needed."""
    files = fake_model(size=6_000_000)
    handle = host.publish("/m/1", pack_files(files))
    close = Spool.close

    class Failing:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def close(self) -> None:
            self._file.close()
            raise OSError(122, "Disk quota exceeded")

    def failing(self: Any, *, keep: bool) -> None:
        self._journal = Failing(self._journal)
        close(self, keep=keep)

    # No system call that a test could reach tells of it: the file is closed by Python's io.
    monkeypatch.setattr(Spool, "close", failing)
    assert read_files(hub.resolve(handle)) == files


def test_whoever_is_interrupted_while_the_heartbeat_begins_leaves_no_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(tmp_path / "entry")
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Lock(base, 0.4).attempt()
    until(lambda: not set(threading.enumerate()) - before)


def test_whoever_is_interrupted_while_threads_begin_stops_those_that_have_begun(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    packed = pack_files(OLD)
    handles = [host.publish(f"/m/{n}", stall(packed, 100, release)) for n in range(2)]
    start, begun = threading.Thread.start, []

    def interrupted(self: threading.Thread) -> None:
        start(self)
        if not begun and threading.current_thread() is threading.main_thread():
            begun.append(self)
            host.wait_for_requests(1)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(hub.cache.resolve_all(handles))
    release.set()
    begun[0].join(SOON)
    assert len(host.requests) == 1
    assert not cache_dir.exists() or not os.listdir(cache_dir)
