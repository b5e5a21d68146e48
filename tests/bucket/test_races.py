"""A cache in a bucket, where somebody else is between two requests, or an end is in the midst.

Each of these once left a part of a model that looked whole, or took from somebody what was theirs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import models
import pytest
from buckets import (
    FILES,
    HERE,
    LONG,
    ROOT,
    SHARD,
    Bucket,
    is_file_of,
    is_upload_of,
)
from entries import as_another_process, key_of
from processes import dead_pid
from servers import Host, archive, cut, in_turn, stall, status
from storage import Call, Storage
from waiting import SOON, in_background, press_ctrl_c, until

import tfhub_cache as hub
from tfhub_cache.errors import CacheError, DownloadError
from tfhub_cache.fetching import lookup as fetching
from tfhub_cache.store.bucket import inventory
from tfhub_cache.store.bucket import objects as objects_module
from tfhub_cache.store.bucket.objects import Objects
from tfhub_cache.store.bucket.store import BucketStore
from tfhub_cache.store.bucket.uploads import Uploads
from tfhub_cache.store.flaw import ABSENT, Flaw

pytestmark = [pytest.mark.timeout(120), pytest.mark.libraries]

# What makes it look like a model of tensorflow_hub's comes last.
LAST = {"assets/0.bin": os.urandom(2_000_000), "assets/1.bin": os.urandom(2_000_000), **FILES}
PART = {name: content for name, content in FILES.items() if not name.startswith("assets/")}
ENTRY = key_of("https://example.com/demo/model/1")
TENSORFLOW_HUB = "0123456789abcdef0123456789abcdef"


def flaw_of(handle: str) -> Flaw | None:
    """What another process sees."""
    as_another_process()
    return BucketStore(ROOT).flaw(key_of(handle))


def is_change(call: Call) -> bool:
    return call.kind == "delete" or (call.is_upload and not call.is_creation)


def of_long_ago(monkeypatch: pytest.MonkeyPatch, generation: str | None) -> None:
    """Lets one version of an object be two hours old."""
    written = objects_module._written

    def told(info: Any) -> float | None:
        time = written(info)
        return time - 7200 if time and str(info.get("generation")) == generation else time

    # The emulator sets the times of objects itself.
    monkeypatch.setattr(objects_module, "_written", told)


# What ends by halves


def test_a_heal_that_breaks_off_leaves_no_part_that_looks_whole(
    host: Host, objects: Bucket, storage: Storage
) -> None:
    """Promise 1: what it had put is taken back, and the rest of the damaged model stays marked."""
    packed = models.pack_files(LAST)
    handle = host.publish("/demo/model/3", archive(packed))
    hub.resolve(handle)
    del objects[f"{key_of(handle)}/assets/vocab.txt"]
    assert str(flaw_of(handle)) == "assets/vocab.txt is missing"
    host.publish("/demo/model/3", in_turn(cut(packed, after=2_500_000), status(404)))
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert flaw_of(handle) is not None


def test_a_download_that_fails_where_a_dead_one_got_further_leaves_no_part_that_looks_whole(
    host: Host, objects: Bucket, storage: Storage
) -> None:
    """Promise 1."""
    packed = models.pack_files(LAST)
    handle = host.publish("/demo/model/3", in_turn(cut(packed, after=2_500_000), status(404)))
    part = {name: content for name, content in LAST.items() if not name.endswith("vocab.txt")}
    objects.put(key_of(handle), part)
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert flaw_of(handle) is not None


def test_a_locked_download_that_fails_does_not_make_a_model_of_a_dead_ones_part(
    host: Host, objects: Bucket, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: it puts its files elsewhere first, and the mark is not its own."""
    handle = host.publish("/demo/model/3", archive(models.pack_files(FILES)))
    file = tmp_path / "models.lock"
    hub.cache.lock([handle], file)
    hub.cache.remove([handle])
    part = {name: content for name, content in FILES.items() if not name.startswith("assets/")}
    objects.put(key_of(handle), part)
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    assert flaw_of(handle) == ABSENT
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    storage.fault(
        lambda call: call.is_upload and ".tmp/" in call.name and "vocab" in call.name, 403
    )
    with pytest.raises(CacheError):
        hub.resolve(handle)
    storage.mend()
    assert flaw_of(handle) == ABSENT


@pytest.mark.parametrize("how", ["refused", "interrupted"])
def test_a_prune_that_ends_half_way_leaves_nothing_that_looks_like_a_model(
    host: Host, objects: Bucket, storage: Storage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: the mark of what is unfinished goes last."""
    handle = host.publish("/demo/model/3", models.pack_files(FILES))
    objects.put(key_of(handle), FILES | {"assets/another": b"!"})
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    assert flaw_of(handle) == ABSENT
    if how == "refused":
        storage.fault(lambda call: call.kind == "delete" and "vocab" in call.name, 503)
        hub.cache.prune()
        storage.mend()
    else:

        def interrupt(call: Call) -> None:
            press_ctrl_c()
            call.request.cut()

        storage.fault(lambda call: call.kind == "delete" and "vocab" in call.name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            hub.cache.prune()
        storage.mend()
    assert f"{key_of(handle)}/assets/vocab.txt" in objects.names()
    assert flaw_of(handle) == ABSENT


def test_while_a_prune_removes_what_was_left_no_thread_takes_it_for_a_model(
    host: Host, objects: Bucket, storage: Storage
) -> None:
    """Promise 1."""
    handle = host.publish("/demo/model/3", models.pack_files(FILES))
    objects.put(key_of(handle), FILES | {"assets/another": b"!"})
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    seen: list[str | None] = []
    storage.fault(
        lambda call: call.kind == "delete" and is_file_of(handle)(call),
        lambda _: seen.append(fetching.open_cache(ROOT).store.flaw(key_of(handle))),
    )
    hub.cache.prune()
    assert seen
    assert set(seen) == {ABSENT}


def test_a_model_that_others_may_have_seen_is_not_taken_back(
    host: Host, handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 1: what fails after the manifest was made comes too late."""
    storage.fault(
        lambda call: call.kind == "delete" and call.name.endswith(".unfinished"), 503, times=7
    )
    hub.resolve(handle)
    assert flaw_of(handle) is None


def test_whoever_is_interrupted_when_the_manifest_is_made_leaves_the_model(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promises 1 and 9."""
    made = f"{key_of(handle)}.manifest.json"
    storage.fault(
        lambda call: call.is_creation and call.name.endswith(made), press_ctrl_c, late=True
    )
    with pytest.raises(KeyboardInterrupt):
        hub.resolve(handle)
    assert flaw_of(handle) is None


@pytest.mark.parametrize("how", ["interrupted", "unanswered"])
def test_nobody_waits_for_somebody_who_ended_while_taking_the_lock(
    handle: str, objects: Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Promise 9: a notebook lives on, and would wait for itself."""
    lock = f"{key_of(handle)}.lock"
    if how == "interrupted":
        storage.fault(
            lambda call: call.is_creation and call.name.endswith(lock), press_ctrl_c, late=True
        )
        with pytest.raises(KeyboardInterrupt):
            hub.resolve(handle)
        storage.mend()
    else:
        # For as long as gcsfs tries; then the bucket answers again.
        storage.fault(
            lambda call: call.name == f"models/{lock}" and call.is_upload, 503, late=True, times=6
        )
        with pytest.raises(CacheError):
            hub.resolve(handle)
    assert lock not in objects.names()


def test_whoever_can_not_clear_away_what_a_dead_one_left_leaves_it_as_it_was(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 9: as long as the dead one's lock is there, its part is no model of anybody's."""
    lock = f"{HERE}.{dead_pid()}.{TENSORFLOW_HUB}".encode()
    objects[f"{key_of(handle)}.lock"] = lock
    objects.put(key_of(handle), FILES)
    storage.fault(lambda call: call.name.endswith(".unfinished"), 403)
    with pytest.raises(CacheError):
        hub.resolve(handle)
    storage.mend()
    assert objects[f"{key_of(handle)}.lock"] == lock
    assert flaw_of(handle) == ABSENT
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_lock_whose_last_sign_of_life_was_not_answered_is_released(
    objects: Bucket, storage: Storage
) -> None:
    """Promise 7: the lock is of a generation that its holder has not heard of."""
    claim = BucketStore(ROOT).contend(ENTRY, 600.0, 0).attempt()
    assert claim is not None
    lost = storage.fault(lambda call: call.name == f"models/{ENTRY}.lock", 503, late=True)
    with pytest.raises(Exception, match="a fault of the test"):
        claim._lock.beat()
    assert lost.met > 1
    storage.mend()
    claim.release()
    assert objects.names() == set()


# Who was taken for dead


@pytest.mark.parametrize("look", ["stat", "read"])
def test_a_dead_fillers_lock_that_becomes_anothers_while_it_is_looked_at_is_left_to_them(
    storage: Storage, objects: Bucket, look: str
) -> None:
    """Promise 6: what was read of the dead's lock must not end in the removal of the living's."""
    lock = f"{ENTRY}.lock"
    theirs = b"elsewhere.77.cache-1"
    objects[lock] = f"{HERE}.{dead_pid()}.cache-0".encode()

    def take_over(call: Call) -> None:
        objects[lock] = theirs

    change = storage.fault(
        lambda call: call.name == f"models/{lock}" and call.kind == look,
        take_over,
        times=1,
        late=True,
    )
    contender = BucketStore(ROOT).contend(ENTRY, 60.0, 0)
    assert contender.attempt() is None
    assert change.met == 1
    assert contender.holder == theirs.decode()
    assert objects[lock] == theirs


def test_whoever_refreshes_and_gives_a_sign_of_life_at_the_last_moment_loses_nothing(
    objects: Bucket, storage: Storage
) -> None:
    """Promise 6: what they have put goes only after their lock."""
    theirs = b"elsewhere.77.cache-1"
    file = f"{ENTRY}.cache-1.tmp/saved_model.pb"
    objects[f"{ENTRY}.lock"] = theirs
    objects[file] = b"new"
    storage.fault(
        lambda call: is_change(call) and call.name.startswith(f"models/{ENTRY}."),
        lambda _: objects.__setitem__(f"{ENTRY}.lock", theirs),
        times=1,
    )
    started = time.monotonic()
    contender = BucketStore(ROOT).contend(ENTRY, 0.2, 0)
    assert contender.attempt() is None
    until(lambda: time.monotonic() - started > 0.3, "the lock timeout")
    assert contender.attempt() is None
    assert objects[f"{ENTRY}.lock"] == theirs
    assert file in objects.names()


def test_whoever_has_just_taken_a_lock_of_long_ago_is_not_judged_by_its_age(
    objects: Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: the time is the dead's, and the name that of the living, who refreshes."""
    lock = f"{ENTRY}.lock"
    theirs = b"elsewhere.77.cache-1"
    file = f"{ENTRY}.cache-1.tmp/saved_model.pb"
    objects[lock] = b"elsewhere.76.cache-0"
    of_long_ago(monkeypatch, objects.generation(lock))

    def take_over(call: Call) -> None:
        objects[lock] = theirs
        objects[file] = b"new"

    storage.fault(
        lambda call: call.name == f"models/{lock}" and call.kind == "stat",
        take_over,
        times=1,
        late=True,
    )
    assert BucketStore(ROOT).contend(ENTRY, 60.0, 0).attempt() is None
    assert objects[lock] == theirs
    assert file in objects.names()


def test_a_model_that_tensorflow_hub_finishes_while_its_lock_is_judged_is_used(
    host: Host, handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 8: it ends between a look at its lock and one at its process."""
    lock = f"{key_of(handle)}.lock"
    objects[lock] = f"{HERE}.{dead_pid()}.{TENSORFLOW_HUB}".encode()

    def finish(call: Call) -> None:
        objects.put(key_of(handle), FILES)
        del objects[lock]

    storage.fault(
        lambda call: call.name == f"models/{lock}" and call.kind == "read",
        finish,
        times=1,
        late=True,
    )
    assert hub.resolve(handle) == f"{ROOT}/{key_of(handle)}"
    assert host.requests == []


def test_a_tensorflow_hub_that_takes_more_than_an_hour_is_not_dead_while_its_folder_grows(
    objects: Bucket, monkeypatch: pytest.MonkeyPatch, storage: Storage
) -> None:
    """Promise 8: it writes its lock once."""
    lock = f"elsewhere.77.{TENSORFLOW_HUB}".encode()
    objects[f"{ENTRY}.lock"] = lock
    of_long_ago(monkeypatch, objects.generation(f"{ENTRY}.lock"))
    contender = BucketStore(ROOT).contend(ENTRY, 60.0, 0)
    for size in 1, 2, 3:
        objects[f"{ENTRY}.{TENSORFLOW_HUB}.tmp/saved_model.pb"] = b"x" * size
        assert contender.attempt() is None
        assert objects[f"{ENTRY}.lock"] == lock


def test_a_model_of_tensorflow_hub_outlives_whoever_refreshed_it_and_was_killed(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 8: a dead refresher has not touched it yet, and a prune removes only what it left."""
    objects.put(key_of(handle), FILES)
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    objects[f"{key_of(handle)}.cache-0.tmp/saved_model.pb"] = b"half"
    hub.cache.prune()
    assert flaw_of(handle) is None
    assert objects.names() == {f"{key_of(handle)}/{name}" for name in FILES}


def test_no_mark_is_put_beside_a_model_that_is_published_while_a_dead_ones_lock_is_judged(
    host: Host, handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 6: whoever is slower does nothing at all."""
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    storage.fault(
        lambda call: is_change(call) and call.name.startswith(f"models/{key_of(handle)}."),
        lambda _: hub.resolve(handle),  # another, from beginning to end
        times=1,
    )
    hub.resolve(handle)
    assert len(host.requests) == 1
    objects.check_whole(handle, FILES)


def test_a_removal_that_was_asleep_and_taken_over_removes_nothing_of_the_others(
    handle: str, objects: Bucket, silent: None, storage: Storage
) -> None:
    """Promise 7."""
    hub.resolve(handle)
    asleep, awake = threading.Event(), threading.Event()

    def sleep(call: Call) -> None:
        asleep.set()
        awake.wait(SOON)

    storage.fault(
        lambda call: call.kind == "delete" and is_file_of(handle)(call), sleep, times=1, late=True
    )
    removing = in_background(hub.cache.remove, [handle])
    assert asleep.wait(SOON)
    hub.resolve(handle)
    objects.check_whole(handle, FILES)
    awake.set()
    removing.result(SOON)
    objects.check_whole(handle, FILES)


def test_a_refresh_that_was_asleep_and_taken_over_leaves_nothing_of_its_own(
    host: Host, objects: Bucket, silent: None, storage: Storage
) -> None:
    """Promise 7: what is kept in a bucket costs money."""
    packed = models.pack_files(LONG)
    release = threading.Event()
    handle = host.publish("/long", archive(packed))
    hub.resolve(handle)
    host.publish("/long", in_turn(stall(packed, 3_000_000, release), archive(packed)))
    before = len(host.requests)
    asleep = in_background(hub.cache.refresh, handle)
    host.wait_for_requests(before + 1)
    until(lambda: any(".tmp/" in name for name in objects.names()))
    hub.cache.refresh(handle)
    objects.check_whole(handle, LONG)
    release.set()
    asleep.result(SOON)
    objects.check_whole(handle, LONG)


# Between a listing and what is read after it


def test_a_damaged_model_that_another_begins_to_mend_is_not_taken_for_one_of_tensorflow_hub(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 1: its manifest goes between the listing and the reading."""
    hub.resolve(handle)
    objects[f"{key_of(handle)}/{SHARD}"] = b"short"
    as_another_process()
    manifest = f"{key_of(handle)}.manifest.json"

    def begin(call: Call) -> None:
        objects[f"{key_of(handle)}.lock"] = b"elsewhere.77.cache-1"
        objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
        del objects[manifest]

    storage.fault(
        lambda call: call.kind == "read" and call.name == f"models/{manifest}", begin, times=1
    )
    assert BucketStore(ROOT).flaw(key_of(handle)) == ABSENT


def test_a_damaged_model_that_a_thread_begins_to_mend_is_not_taken_for_whole_by_another(
    host: Host, objects: Bucket, storage: Storage
) -> None:
    """Promise 1."""
    packed = models.pack_files(FILES)
    handle = host.publish("/demo/model/1", archive(packed))
    hub.resolve(handle)
    objects[f"{key_of(handle)}/{SHARD}"] = b"short"
    as_another_process()
    release, looked = threading.Event(), threading.Event()
    host.publish("/demo/model/1", stall(packed, 0, release))
    manifest = f"models/{key_of(handle)}.manifest.json"
    before = len(host.requests)
    mending = in_background(hub.resolve, handle)
    host.wait_for_requests(before + 1)

    def go_on(call: Call) -> None:
        release.set()
        until(lambda: f"{key_of(handle)}.manifest.json" not in objects.names(), "the mending")

    storage.fault(is_upload_of(handle, SHARD), lambda _: looked.wait(SOON), times=1)
    storage.fault(lambda call: call.kind == "read" and call.name == manifest, go_on, times=1)
    path = fetching.open_cache(ROOT).lookup(handle)
    looked.set()
    mending.result(SOON)
    assert path is None


# What one process remembers


def test_what_was_removed_in_this_process_is_not_believed_in_for_a_minute(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 3: also if a thread has seen it whole at the last moment."""
    hub.resolve(handle)
    storage.fault(
        lambda call: call.name == f"models/{key_of(handle)}.lock" and call.is_creation,
        lambda _: hub.resolve(handle),  # another thread
        times=1,
    )
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None
    assert objects.names() == set()
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_late_answer_does_not_make_the_archive_of_a_model_unknown(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """A thread that has seen that there is none is told so after another has made it."""
    objects[f"{key_of(handle)}.unfinished"] = b"of a dead one\n"  # or gcsfs lists twice
    store = fetching.open_cache(ROOT).store
    listed, go_on = threading.Event(), threading.Event()

    def hold(call: Call) -> None:
        listed.set()
        go_on.wait(SOON)

    storage.fault(lambda call: call.kind == "list", hold, times=1, late=True)
    slow = in_background(store.flaw, key_of(handle))
    assert listed.wait(SOON)
    hub.resolve(handle)
    hub.resolve(handle)
    go_on.set()
    assert slow.result(SOON) == ABSENT
    assert store.flaw(key_of(handle)) is None
    assert store.manifest(key_of(handle)) is not None


def test_whoever_waits_looks_and_does_not_try_to_make_the_lock_again_and_again(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Google lets an object be written once a second, and charges more for it."""
    lock = f"{key_of(handle)}.lock"
    objects[lock] = f"elsewhere.{os.getpid()}.cache-0".encode()
    waiting = in_background(hub.resolve, handle)

    def calls(kind: str) -> list[Call]:
        called = [call for call in storage.calls if call.name == f"models/{lock}"]
        return [call for call in called if call.kind == kind]

    until(lambda: len(calls("stat")) >= 5, "its looks")
    assert len(calls("write")) == 1
    with contextlib.suppress(FileNotFoundError):
        del objects[lock]
    waiting.result(SOON)
    objects.check_whole(handle, FILES)


# Who takes over, and ends in the midst of it


def left_by_tensorflow_hub(objects: Bucket, handle: str) -> bytes:
    lock = f"{HERE}.{dead_pid()}.{TENSORFLOW_HUB}".encode()
    objects[f"{key_of(handle)}.lock"] = lock
    objects.put(key_of(handle), PART)
    assert flaw_of(handle) == ABSENT
    return lock


def test_a_dead_ones_lock_that_can_not_be_given_back_is_not_removed_either(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 1: an outage of a minute, from the mark on."""
    left_by_tensorflow_hub(objects, handle)
    mark = storage.fault(lambda call: call.name.endswith(".unfinished"), 503, times=6)
    looks = storage.fault(lambda call: mark.met == 6 and call.kind != "delete", 503)
    with pytest.raises(CacheError):
        hub.resolve(handle)
    assert mark.met == 6
    assert looks.met
    storage.mend()
    assert flaw_of(handle) == ABSENT


@pytest.mark.parametrize("then", ["a download that fails", "prune"])
def test_a_part_of_tensorflow_hubs_is_still_known_when_who_took_over_is_killed(
    host: Host, handle: str, objects: Bucket, storage: Storage, then: str
) -> None:
    """Promise 1: killed with the lock in hand, and the mark not put yet."""
    left_by_tensorflow_hub(objects, handle)
    script = "import sys, tfhub_cache as hub; hub.resolve(sys.argv[1])"
    children: list[subprocess.Popen[bytes]] = []
    started = threading.Event()

    def kill(call: Call) -> None:
        started.wait(SOON)
        children[0].kill()
        children[0].wait()
        call.request.cut()

    storage.fault(lambda call: call.is_upload and call.name.endswith(".unfinished"), kill, times=1)
    children.append(subprocess.Popen([sys.executable, "-c", script, handle]))
    started.set()
    assert children[0].wait(60) == -signal.SIGKILL
    storage.mend()
    assert f"{key_of(handle)}.lock" in objects.names()
    if f"{key_of(handle)}.unfinished" in objects.names():  # the front may have passed it on
        del objects[f"{key_of(handle)}.unfinished"]
    assert flaw_of(handle) == ABSENT
    if then == "prune":
        hub.cache.prune()
    else:
        host.publish("/demo/model/1", status(404))
        with pytest.raises(DownloadError):
            hub.resolve(handle)
    assert flaw_of(handle) == ABSENT


def test_a_prune_that_was_asleep_does_not_remove_the_manifest_of_another(
    handle: str, objects: Bucket, silent: None, storage: Storage
) -> None:
    """Promise 2: what was listed is removed as it was listed."""
    objects.put(key_of(handle), FILES)
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    asleep, awake = threading.Event(), threading.Event()

    def sleep(call: Call) -> None:
        asleep.set()
        awake.wait(SOON)

    def is_last_look(call: Call) -> bool:
        is_look = call.kind == "list" and call.name == f"models/{key_of(handle)}"
        return is_look and any(earlier.is_creation for earlier in storage.calls)

    storage.fault(is_last_look, sleep, times=1, late=True)
    pruning = in_background(hub.cache.prune)
    assert asleep.wait(SOON)
    hub.resolve(handle)
    objects.check_whole(handle, FILES)
    awake.set()
    pruning.result(SOON)
    objects.check_whole(handle, FILES)


def test_a_prune_that_was_asleep_does_not_remove_the_mark_of_another(
    host: Host, objects: Bucket, silent: None, storage: Storage
) -> None:
    """Promise 1: without it, whoever is killed then leaves a part that looks whole."""
    packed = models.pack_files(LAST)
    release, asleep, awake = threading.Event(), threading.Event(), threading.Event()
    handle = host.publish("/demo/model/3", stall(packed, 2_500_000, release))
    objects.put(key_of(handle), FILES)
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"

    def sleep(call: Call) -> None:
        asleep.set()
        awake.wait(SOON)

    storage.fault(
        lambda call: call.kind == "delete" and is_file_of(handle)(call), sleep, times=1, late=True
    )
    pruning = in_background(hub.cache.prune)
    assert asleep.wait(SOON)
    filling = in_background(hub.resolve, handle)
    until(lambda: f"{key_of(handle)}/assets/0.bin" in objects.names(), "the filling")
    awake.set()
    pruning.result(SOON)
    try:
        assert f"{key_of(handle)}.unfinished" in objects.names()
    finally:
        release.set()
        filling.result(SOON)


def test_a_claim_whose_release_is_interrupted_is_noted_as_released(
    host: Host, objects: Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1: a thread that forgets its claim takes others' downloads for models."""
    packed = models.pack_files(LAST)
    handle = host.publish("/demo/model/3", in_turn(cut(packed, after=2_500_000), status(404)))
    store = fetching.open_cache(ROOT).store
    remove = Objects.remove

    def interrupted(self: Objects, *names: str) -> None:
        if any("/assets/" in name for name in names) and host.requests[1:]:
            raise KeyboardInterrupt  # the second Ctrl-C of somebody impatient
        remove(self, *names)

    with monkeypatch.context() as patch:
        from tfhub_cache.store.bucket.uploads import Uploads

        discard = Uploads.discard
        calls: list[int] = []

        def discard_interrupted(self: Uploads) -> None:
            import traceback

            if any(f.name == "release" for f in traceback.extract_stack()):
                calls.append(1)
                raise KeyboardInterrupt
            discard(self)

        # A second Ctrl-C, in the step after the first: no request marks that moment.
        patch.setattr(Uploads, "discard", discard_interrupted)
        with pytest.raises(KeyboardInterrupt):
            hub.resolve(handle)
        assert calls
    # Later, in the same notebook: tensorflow_hub downloads on another machine.
    for name in objects.names():
        del objects[name]
    objects.put(key_of(handle), PART)
    objects[f"{key_of(handle)}.lock"] = f"elsewhere.77.{TENSORFLOW_HUB}".encode()
    assert store.flaw(key_of(handle)) == ABSENT


def test_a_lock_whose_claim_can_not_be_made_is_given_up(
    handle: str, objects: Bucket, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a container that may have no more threads."""
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if "_beat" in self.name:
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises((CacheError, RuntimeError)):
            hub.resolve(handle)
    assert objects.names() == set()
    assert not fetching.open_cache(ROOT).store._claimants


def test_nobody_waits_for_somebody_who_was_interrupted_before_the_lock_was_made(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 9: gcsfs goes on with a request, and tries it again, after a Ctrl-C."""
    lock = f"models/{key_of(handle)}.lock"
    go_on = threading.Event()

    def interrupt(call: Call) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        go_on.wait(SOON)

    storage.fault(lambda call: call.is_creation and call.name == lock, interrupt, times=1)
    with pytest.raises(KeyboardInterrupt):
        hub.resolve(handle)
    go_on.set()
    until(lambda: f"{key_of(handle)}.lock" in objects.names(), "what was sent before the Ctrl-C")
    again = in_background(hub.resolve, handle)
    assert again.result(SOON) == f"{ROOT}/{key_of(handle)}"


def test_a_model_that_is_used_while_it_is_removed_leaves_nothing(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    hub.resolve(handle)
    objects[f"{key_of(handle)}.used"] = b"used\n"
    storage.fault(
        lambda call: call.kind == "delete" and is_file_of(handle)(call),
        lambda _: objects.__setitem__(f"{key_of(handle)}.used", b"used\n"),
        times=1,
    )
    hub.cache.remove([handle])
    assert objects.names() == set()


def test_what_one_thread_removes_is_not_believed_in_though_another_lost_its_claim(
    handle: str, objects: Bucket, silent: None, storage: Storage
) -> None:
    """Promise 3."""
    hub.resolve(handle)
    store = fetching.open_cache(ROOT).store
    contender = store.contend(key_of(handle), 0.4, 0)
    lost = store.contend(key_of(handle), 0.4, 0).attempt()
    claims: list[Any] = []
    until(lambda: claims.append(contender.attempt()) or claims[-1], "the take-over")
    lost.release()
    in_background(store.flaw, key_of(handle)).result(SOON)
    assert inventory.tidy(Objects(ROOT), key_of(handle), lambda entry: True)
    claims[-1].release()
    assert objects.names() == set()
    assert store.flaw(key_of(handle)) == ABSENT


# Machines of the same name


def test_whoever_lost_a_download_does_not_take_it_back_from_a_machine_of_the_same_name(
    objects: Bucket,
) -> None:
    """Each takes the other for dead, as its process is not here: but once only."""
    loser = BucketStore(ROOT).contend(ENTRY, 1.0, 0)
    lost = loser.attempt()
    assert lost is not None
    objects[f"{ENTRY}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    assert lost.is_lost()
    lost.release()
    assert loser.attempt() is None
    until(lambda: (held := loser.attempt()) and (held.release() or True))
