"""A cache in a bucket: what is promised of a cache on a disk, told by objects.

The numbers are those of "What the cache guarantees".
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
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
from logs import warnings
from processes import dead_pid
from servers import Host, archive, cut, in_turn, stall, status
from storage import Call, Storage
from waiting import SOON, in_background, press_ctrl_c, until

import tfhub_cache as hub
from tfhub_cache.errors import CacheError, DownloadError, ResolveError
from tfhub_cache.manifest import MOST_BYTES
from tfhub_cache.store.bucket import store as bucket
from tfhub_cache.store.bucket import uploads
from tfhub_cache.store.bucket.store import BucketStore
from tfhub_cache.store.flaw import ABSENT

pytestmark = [pytest.mark.timeout(120), pytest.mark.libraries]

MANY = {
    **models.fake_model(size=20_000),
    **{f"assets/part-{number:02}.txt": b"%d" % number * 100 for number in range(36)},
}


# Whole or absent


def test_the_manifest_comes_last_and_only_if_there_is_none(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 1: nobody takes an entry for whole that is still being uploaded."""
    hub.resolve(handle)
    ups = [call for call in storage.calls if call.is_upload]
    [manifest] = [call for call in ups if call.name == f"models/{key_of(handle)}.manifest.json"]
    assert manifest.is_creation
    later = ups[ups.index(manifest) + 1 :]
    assert [call for call in later if is_file_of(handle)(call)] == []
    objects.check_whole(handle, FILES)


def test_the_lock_is_made_only_if_there_is_none_and_is_gone_afterwards(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 6: the bucket decides who downloads."""
    hub.resolve(handle)
    ups = [call for call in storage.calls if call.is_upload]
    assert ups[0].name == f"models/{key_of(handle)}.lock"
    assert ups[0].is_creation
    assert f"{key_of(handle)}.lock" not in objects.names()


def test_while_it_is_uploaded_no_other_process_takes_the_model_for_whole(
    storage: Storage, handle: str
) -> None:
    """Promise 1: looked at before and after every single change to the bucket."""
    seen: list[str | None] = []
    published = threading.Event()
    manifest, lock = (f"models/{key_of(handle)}{end}" for end in (".manifest.json", ".lock"))

    def look(call: Call) -> None:
        seen.append(BucketStore(ROOT).flaw(key_of(handle)))
        if call.name == manifest and call.is_upload:
            published.set()

    def is_change(call: Call) -> bool:
        return call.kind in ("delete", "write", "part") and not published.is_set()

    storage.fault(is_change, look)
    storage.fault(
        lambda call: is_change(call) and call.name not in (lock, manifest), look, late=True
    )
    hub.resolve(handle)
    assert len(seen) > 5
    assert set(seen) == {ABSENT}


@pytest.mark.parametrize("lost", ["saved_model.pb", SHARD, "assets/vocab.txt"])
def test_what_is_left_of_a_failed_upload_is_never_taken_for_whole(
    storage: Storage, host: Host, handle: str, objects: Bucket, lost: str
) -> None:
    """Promise 1: also if what was uploaded can't be removed again for a while."""
    storage.fault(is_upload_of(handle, lost), 403)
    storage.fault(lambda call: call.kind == "delete" and is_file_of(handle)(call), 503)
    with pytest.raises(OSError, match="test-bucket"):
        hub.resolve(handle)
    storage.mend()
    as_another_process()
    assert BucketStore(ROOT).flaw(key_of(handle)) is not None
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_file_that_is_in_the_archive_twice_is_what_it_was_the_second_time(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 1: uploads overtake each other, but not two of the same file."""
    twice = models.member("./assets/vocab.txt", data=b"the second\n")
    handle = host.publish("/twice/1", models.pack_files(FILES, extra_members=[twice]))
    vocabulary = is_upload_of(handle, "assets/vocab.txt")
    second = threading.Event()

    def hold(call: Call) -> None:
        if storage_order() == 1:
            second.wait(1)  # an upload that waits for the one before can't come
        else:
            second.set()

    def storage_order() -> int:
        return sum(vocabulary(call) for call in storage.calls)

    storage.fault(vocabulary, hold)
    hub.resolve(handle)
    objects.check_whole(handle, {**FILES, "assets/vocab.txt": b"the second\n"})


@pytest.mark.parametrize("size", [0, 1, 5 << 20, 64 << 20])
def test_files_of_every_size_arrive_byte_for_byte(
    storage: Storage, host: Host, objects: Bucket, size: int
) -> None:
    """Promise 1: nothing, one request's worth, and more than one request takes."""
    files = {**FILES, "assets/blob": random.Random(size).randbytes(size), "assets/empty": b""}
    handle = host.publish("/sizes/1", models.pack_files(files, compression=None))
    hub.resolve(handle)
    objects.check_whole(handle, files)


def test_files_with_odd_names_arrive(storage: Storage, host: Host, objects: Bucket) -> None:
    """Promise 1: characters that mean something in URLs."""
    names = ("größe 犬", "1#2", "3?4&5", "%41+b", "*[x]")
    odd = {f"assets/{name}": name.encode() for name in names}
    big = {"assets/large größe#1?%41": b"x" * (6 << 20)}
    handle = host.publish("/odd/1", models.pack_files({**FILES, **odd, **big}))
    hub.resolve(handle)
    objects.check_whole(handle, {**FILES, **odd, **big})
    storage.forget()
    as_another_process()
    assert hub.resolve(handle) == f"{ROOT}/{key_of(handle)}"
    assert len(host.requests) == 1


# Checked, and healed


@pytest.mark.parametrize("name", list(FILES))
@pytest.mark.parametrize("harm", ["deleted", "truncated", "grown"])
def test_a_damaged_model_is_fetched_again_with_one_warning(
    host: Host, handle: str, objects: Bucket, log: pytest.LogCaptureFixture, name: str, harm: str
) -> None:
    """Promises 3 and 4: objects that are gone or have another size."""
    path = hub.resolve(handle)
    damaged = f"{key_of(handle)}/{name}"
    if harm == "deleted":
        del objects[damaged]
    else:
        objects[damaged] = FILES[name][:-1] if harm == "truncated" else FILES[name] + b"!"
    as_another_process()
    assert hub.resolve(handle) == path
    objects.check_whole(handle, FILES)
    assert len(host.requests) == 2
    [warning] = warnings(log)
    assert handle in warning
    assert name in warning


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff"])
def test_a_manifest_that_can_not_be_read_is_made_anew(
    handle: str, objects: Bucket, content: bytes
) -> None:
    """Promise 4: a manifest that somebody wrote over."""
    hub.resolve(handle)
    objects[f"{key_of(handle)}.manifest.json"] = content
    as_another_process()
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


@pytest.mark.once
def test_a_manifest_that_is_too_large_is_not_read_and_made_anew(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 4: a process that may write to the bucket can put anything there."""
    hub.resolve(handle)
    name = f"{key_of(handle)}.manifest.json"
    sound = objects[name]
    objects[name] = sound + b" " * MOST_BYTES
    as_another_process()
    (entry,) = hub.cache.entries()
    assert (entry.state, entry.flaw) == ("incomplete", "its manifest can't be read")
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_manifest_without_a_model_means_nothing(handle: str, objects: Bucket) -> None:
    """Promise 3: somebody deleted the folder, as the guides of tensorflow_hub tell them to."""
    path = hub.resolve(handle)
    objects.client.rm(path, recursive=True)
    as_another_process()
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_damaged_model_that_is_being_mended_is_not_taken_for_whole(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 1: before anything of it is overwritten, its manifest is gone."""
    hub.resolve(handle)
    del objects[f"{key_of(handle)}/{SHARD}"]
    as_another_process()
    there: list[bool] = []
    manifest = f"{key_of(handle)}.manifest.json"
    storage.fault(is_upload_of(handle), lambda _: there.append(manifest in objects.names()))
    hub.resolve(handle)
    assert there
    assert not any(there)


def test_a_damaged_model_that_can_not_be_fetched_says_so(
    host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 4: the error names the damage and why there is no mending it."""
    hub.resolve(handle)
    del objects[f"{key_of(handle)}/{SHARD}"]
    left = objects.names()
    host.route("/demo/model/1", status(404))
    as_another_process()
    with pytest.raises(DownloadError, match=f"damaged.*{SHARD} is missing.*404"):
        hub.resolve(handle)
    assert objects.names() == left


# What dead fillers leave


def test_what_a_dead_filler_uploaded_is_replaced(
    handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: its lock goes at once on the same machine, its objects are overwritten."""
    objects.put(key_of(handle), {"saved_model.pb": b"half", "assets/of another try": b"!"})
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "600")
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_objects_that_are_no_part_of_the_model_are_removed(handle: str, objects: Bucket) -> None:
    """Promise 1: leftovers without a lock, and without what makes them a model."""
    objects.put(key_of(handle), {"variables/variables.index": b"old", "assets/extra": b"extra"})
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_while_a_dead_filler_is_replaced_nobody_takes_its_part_for_whole(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 1: at no moment is there a part of a model and neither lock nor manifest."""
    objects.put(key_of(handle), {"saved_model.pb": b"half"})
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    lock = f"models/{key_of(handle)}.lock"
    seen: list[str | None] = []
    storage.fault(
        lambda call: call.name == lock and (call.kind == "delete" or call.is_upload),
        lambda _: seen.append(BucketStore(ROOT).flaw(key_of(handle))),
        times=2,  # the dead one's lock is removed or overwritten, and ours is there
        late=True,
    )
    hub.resolve(handle)
    assert seen
    assert None not in seen


def test_another_machines_dead_filler_is_replaced_after_the_lock_timeout(
    host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: without a sign of life for TFHUB_LOCK_TIMEOUT."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "0.4")
    objects.put(key_of(handle), {"saved_model.pb": b"half"})
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    objects[f"{key_of(handle)}.lock"] = f"elsewhere.{os.getpid()}.cache-0".encode()
    started = time.monotonic()
    hub.resolve(handle)
    assert time.monotonic() - started >= 0.4
    objects.check_whole(handle, FILES)
    assert len(host.requests) == 1


def test_another_machines_filler_that_lives_is_waited_for(
    storage: Storage, host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: for as long as its lock is rewritten, also with the same bytes."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "1")
    lock, content = f"{key_of(handle)}.lock", f"elsewhere.{os.getpid()}.cache-0".encode()
    objects[lock] = content
    waiting = in_background(hub.resolve, handle)
    deadline = time.monotonic() + 2.5  # longer than the timeout
    while time.monotonic() < deadline:
        objects[lock] = content
        assert not threading.Event().wait(0.1)
        assert not waiting.done()
    assert host.requests == []
    del objects[lock]
    waiting.result(SOON)
    objects.check_whole(handle, FILES)


def test_a_download_gives_signs_of_life_while_nothing_arrives(
    host: Host, storage: Storage, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: the lock is rewritten, so no machine takes a slow download for a dead one."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "2")
    release = threading.Event()
    handle = host.publish("/slow/1", stall(models.pack_files(FILES), 5_000, release))
    slow = in_background(hub.resolve, handle)
    host.wait_for_requests(1)
    seen: set[str | None] = set()
    until(lambda: seen.add(objects.generation(f"{key_of(handle)}.lock")) or len(seen) >= 3)
    impatient = in_background(hub.resolve, handle)
    until(lambda: seen.add(objects.generation(f"{key_of(handle)}.lock")) or len(seen) >= 10)
    assert len(host.requests) == 1
    release.set()
    assert slow.result(SOON) == impatient.result(SOON)
    assert len(host.requests) == 1
    objects.check_whole(handle, FILES)


@pytest.mark.parametrize("content", [b"", b"who?", b"\xff\xfe"])
def test_a_lock_that_nobody_can_read_is_replaced_after_tensorflow_hubs_timeout(
    handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Promise 7: whoever it was."""
    monkeypatch.setattr(bucket, "TENSORFLOW_HUB_TIMEOUT", 0.3)  # instead of ten minutes
    objects[f"{key_of(handle)}.lock"] = content
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


# tensorflow_hub


def test_a_model_that_tensorflow_hub_put_there_is_used(
    host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 8: without a manifest, if it holds a SavedModel and nobody is at work."""
    objects.put(key_of(handle), FILES)
    objects[f"{key_of(handle)}.descriptor.txt"] = b"Module: ..."
    before = objects.names()
    assert hub.resolve(handle) == f"{ROOT}/{key_of(handle)}"
    assert host.requests == []
    assert objects.names() == before


@pytest.mark.parametrize("lost", ["saved_model.pb", "variables/variables.index", SHARD])
def test_a_model_of_tensorflow_hub_that_lost_a_file_is_fetched(
    handle: str, objects: Bucket, lost: str
) -> None:
    """Promises 3 and 8: as far as names tell."""
    objects.put(key_of(handle), {name: FILES[name] for name in FILES if name != lost})
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_model_that_tensorflow_hub_is_still_making_is_waited_for(
    host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8: while its folder grows, its lock holds, and then its model counts."""
    monkeypatch.setattr(bucket, "TENSORFLOW_HUB_TIMEOUT", 1.0)  # instead of ten minutes
    uid = "0123456789abcdef0123456789abcdef"
    objects[f"{key_of(handle)}.lock"] = f"elsewhere.77.{uid}".encode()
    objects.put(key_of(handle), {"saved_model.pb": FILES["saved_model.pb"]})
    waiting = in_background(hub.resolve, handle)
    deadline = time.monotonic() + 2.5
    size = 0
    while time.monotonic() < deadline:
        size += 1
        objects[f"{key_of(handle)}.{uid}.tmp/saved_model.pb"] = b"x" * size
        assert not threading.Event().wait(0.1)
        assert not waiting.done()
    objects.put(key_of(handle), FILES)
    del objects[f"{key_of(handle)}.{uid}.tmp/saved_model.pb"]
    del objects[f"{key_of(handle)}.lock"]
    assert waiting.result(SOON) == f"{ROOT}/{key_of(handle)}"
    assert host.requests == []


def test_a_tensorflow_hub_that_died_is_replaced_and_its_objects_go(
    handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promises 7 and 8: its folder did not grow for ten minutes; what is kept costs money."""
    monkeypatch.setattr(bucket, "TENSORFLOW_HUB_TIMEOUT", 0.4)  # instead of ten minutes
    uid = "0123456789abcdef0123456789abcdef"
    objects[f"{key_of(handle)}.lock"] = f"elsewhere.77.{uid}".encode()
    objects[f"{key_of(handle)}.{uid}.tmp/saved_model.pb"] = b"half"
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


# Two at once


def test_a_filler_that_was_given_up_and_wakes_up_ends_with_the_same_whole_model(
    storage: Storage, host: Host, objects: Bucket, silent: None
) -> None:
    """Promise 7: two at once put the same files and one manifest."""
    packed = models.pack_files(LONG)
    release = threading.Event()
    handle = host.publish("/long/1", in_turn(stall(packed, 3_000_000, release), archive(packed)))
    asleep = in_background(hub.resolve, handle)
    host.wait_for_requests(1)
    until(lambda: f"{key_of(handle)}/saved_model.pb" in objects.names())
    awake = hub.resolve(handle)
    objects.check_whole(handle, LONG)
    release.set()
    assert asleep.result(SOON) == awake
    objects.check_whole(handle, LONG)
    assert len(host.requests) == 2
    manifests = [
        call.status
        for call in storage.calls
        if call.is_upload and call.name == f"models/{key_of(handle)}.manifest.json"
    ]
    assert manifests in ([200], [200, 412])  # it need not try, but must not succeed


def test_a_filler_that_was_given_up_and_fails_harms_nothing_of_the_others(
    storage: Storage, host: Host, objects: Bucket, silent: None
) -> None:
    """Promise 1: what it uploaded belongs to somebody else's whole model by now."""
    packed = models.pack_files(LONG)
    release = threading.Event()

    def stall_and_cut(request: Any) -> None:
        while not release.wait(0.02):
            request.wait(0.001)
        request.cut()

    handle = host.publish(
        "/long/1",
        in_turn(
            archive(packed, after=3_000_000, interrupt=stall_and_cut),
            archive(packed),
            status(404),
        ),
    )
    asleep = in_background(hub.resolve, handle)
    host.wait_for_requests(1)
    until(lambda: f"{key_of(handle)}/saved_model.pb" in objects.names())
    awake = hub.resolve(handle)
    objects.check_whole(handle, LONG)
    storage.forget()
    release.set()
    concurrent.futures.wait([asleep], SOON)
    removed = [call.name for call in storage.calls if call.kind == "delete"]
    assert [name for name in removed if not name.endswith(".lock")] == []
    objects.check_whole(handle, LONG)
    assert asleep.result(SOON) == awake


def test_a_filler_whose_claim_is_taken_over_while_it_beats_leaves_the_new_lock_alone(
    storage: Storage, host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: between its look at the lock and its sign of life, the lock became another's."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "0.4")
    release = threading.Event()
    slow = host.publish("/slow/1", stall(models.pack_files(FILES), 5_000, release))
    lock = f"{key_of(slow)}.lock"
    theirs = b"elsewhere.77.cache-1"
    beats = threading.Event()

    def take_over(call: Call) -> None:
        objects[lock] = theirs
        beats.set()

    storage.fault(
        lambda call: call.name == f"models/{lock}" and call.is_upload and not call.is_creation,
        take_over,
        times=1,
    )
    done = in_background(hub.resolve, slow)
    assert beats.wait(SOON)
    seen_calls = len(storage.calls)
    until(lambda: len(storage.calls) > seen_calls)  # it looked at the lock once more
    kept = objects[lock]
    release.set()
    done.result(SOON)
    assert kept == theirs


def test_when_two_find_the_same_dead_filler_only_one_takes_over(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 6: whoever is slower must not take the lock of whoever was faster for the dead's."""
    release = threading.Event()
    handle = host.publish("/slow/1", stall(models.pack_files(FILES), 5_000, release))
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{dead_pid()}.cache-0".encode()
    lock = f"models/{key_of(handle)}.lock"
    both = threading.Barrier(2)
    turns = iter(("faster", "slower"))

    def let_both_decide(call: Call) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)  # a store that needs no removal breaks it
        if next(turns, "") == "slower":
            until(lambda: host.requests, "the faster one's download")

    storage.fault(
        lambda call: (
            call.name == lock
            and (call.kind == "delete" or (call.is_upload and not call.is_creation))
            and not release.is_set()
        ),
        let_both_decide,
        times=2,
    )
    asked = [in_background(hub.resolve, handle) for _ in range(2)]
    host.wait_for_requests(1)

    def look() -> bool:
        """Whether the slower one has tried for the lock since, and may have gone on from there."""
        tries = [call for call in storage.calls if call.name == lock and call.is_upload]
        return sum(call.status in (200, 412) for call in tries) >= 4

    until(look, "the slower one's next try")
    with contextlib.suppress(AssertionError):
        host.wait_for_requests(2, 0.5)
    release.set()
    assert {done.result(SOON) for done in asked} == {f"{ROOT}/{key_of(handle)}"}
    assert len(host.requests) == 1
    objects.check_whole(handle, FILES)


def test_threads_that_ask_at_once_download_once(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 6: one download, and all get the same path."""
    release = threading.Event()
    handle = host.publish("/slow/1", stall(models.pack_files(FILES), 5_000, release))
    asked = [in_background(hub.resolve, handle) for _ in range(8)]
    host.wait_for_requests(1)
    lock = f"models/{key_of(handle)}.lock"
    until(lambda: sum(call.name == lock and call.status == 412 for call in storage.calls) >= 7)
    release.set()
    assert {done.result(SOON) for done in asked} == {f"{ROOT}/{key_of(handle)}"}
    assert len(host.requests) == 1
    objects.check_whole(handle, FILES)


# What it costs


def test_forty_files_are_uploaded_many_at_a_time(storage: Storage, host: Host) -> None:
    """Speed: requests for files are in flight together."""
    storage.latency = 0.03
    handle = host.publish("/many/1", models.pack_files(MANY))
    started = time.monotonic()
    hub.resolve(handle)
    print(f"{len(MANY)} files at 30 ms a request: {time.monotonic() - started:.2f} s")
    assert len(MANY) == 40
    assert storage.most_at_once["uploads"] >= 4


@pytest.mark.parametrize("page", ["/demo/model/2", "/demo/latest"])
def test_a_cached_model_costs_another_process_two_requests(
    storage: Storage, host: Host, page: str
) -> None:
    """Cost: one listing and one manifest, of 40 files."""
    handle = host.publish(page, models.pack_files(MANY))
    path = hub.resolve(handle)
    as_another_process()
    storage.forget()
    assert hub.resolve(handle) == path
    assert Counter(call.kind for call in storage.calls) == {"list": 1, "read": 1}
    assert len(host.requests) == 1


def test_a_cached_model_of_tensorflow_hub_costs_one_request(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Cost: there is no manifest to read."""
    objects.put(key_of(handle), FILES)
    hub.resolve(handle)
    assert [call.kind for call in storage.calls] == ["list"]


def test_a_version_that_was_seen_costs_no_request_for_a_minute(
    storage: Storage, handle: str
) -> None:
    """Cost: none in the same process, as a version never changes."""
    path = hub.resolve(handle)
    assert hub.resolve(handle) == path
    storage.forget()
    for _ in range(3):
        assert hub.resolve(handle) == path
    assert storage.calls == []
    assert bucket.SEEN_SECONDS <= 60


def test_the_latest_version_is_looked_at_each_time(storage: Storage, host: Host) -> None:
    """Cost: a handle without a version may be replaced by others."""
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    hub.resolve(handle)
    storage.forget()
    hub.resolve(handle)
    assert len(storage.calls) == 2


def test_a_model_that_somebody_deleted_is_noticed_in_the_same_process(
    host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 3: as soon as the bound on the age of what was seen is over."""
    hub.resolve(handle)
    path = hub.resolve(handle)
    objects.client.rm(path, recursive=True)
    del objects[f"{key_of(handle)}.manifest.json"]
    assert hub.resolve(handle) == path
    assert len(host.requests) == 1
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 61)
    assert hub.resolve(handle) == path
    assert len(host.requests) == 2
    objects.check_whole(handle, FILES)


def test_this_machines_disk_holds_the_largest_file_at_most(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Cost: room for the largest file, or for the bytes that may wait for their upload."""
    monkeypatch.setattr(uploads, "UPLOADING_BYTES", 5 << 20)  # or it would take a large model
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    sizes = [2 << 20, 3 << 20, 2 << 20, 8 << 20, 2 << 20, 4 << 20]
    blobs = {
        f"assets/{number}": random.Random(number).randbytes(size)
        for number, size in enumerate(sizes)
    }
    handle = host.publish("/blobs/1", models.pack_files({**FILES, **blobs}, compression=None))
    kept: list[int] = []
    end = threading.Event()

    def watch() -> None:
        while not end.wait(0.001):
            kept.append(_bytes_below(folder))

    storage.latency = 0.03
    watching = in_background(watch)
    try:
        hub.resolve(handle)
    finally:
        end.set()
        watching.result(SOON)
    objects.check_whole(handle, {**FILES, **blobs})
    assert 2 << 20 < max(kept) <= 8 << 20
    assert list(folder.iterdir()) == []


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # uploaded at this very moment
    return total


# Bad days


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_bucket_that_is_busy_now_and_then_makes_no_difference(
    storage: Storage, host: Host, objects: Bucket, code: int
) -> None:
    """Promise 9: every third answer about an object is a refusal, beginning with the first."""
    handle = host.publish("/many/1", models.pack_files(MANY))
    asked: Counter[tuple[str, str]] = Counter()

    def is_unlucky(call: Call) -> bool:
        # Counted for each object: of all together, one may be unlucky for as often as is tried.
        asked[call.kind, call.name] += 1
        return asked[call.kind, call.name] % 3 == 1

    fault = storage.fault(is_unlucky, code)
    hub.resolve(handle)
    assert fault.met > 10
    as_another_process()
    hub.resolve(handle)
    storage.mend()
    objects.check_whole(handle, MANY)
    assert len(host.requests) == 1


@pytest.mark.parametrize("size", [100_000, 6 << 20, 60 << 20])
@pytest.mark.parametrize("late", [False, True], ids=["in the middle", "before the answer"])
def test_a_connection_that_is_cut_in_an_upload_makes_no_difference(
    storage: Storage, host: Host, objects: Bucket, size: int, late: bool
) -> None:
    """Promise 9: the file is sent again."""
    if late and size == 60 << 20:
        pytest.skip("the emulator can't be asked how much of a part it has")
    files = {**FILES, "assets/blob": random.Random(size).randbytes(size)}
    handle = host.publish("/blob/1", models.pack_files(files, compression=None))
    kinds = {100_000: ("write",), 6 << 20: ("begin", "part"), 60 << 20: ("part",)}[size]
    if late:
        kinds = kinds[:1]
    uploads = is_upload_of(handle, "assets/blob")
    fault = storage.fault(
        lambda call: uploads(call) and call.kind in kinds, "cut", every=2, times=2
    )
    first = storage.fault(
        lambda call: uploads(call) and call.kind in kinds, "cut", times=1, late=late
    )
    hub.resolve(handle)
    assert first.met + fault.met >= 1
    storage.mend()
    objects.check_whole(handle, files)


def test_a_lock_whose_making_was_answered_too_late_is_known_as_our_own(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 9: it was made, the answer was lost, and the second try finds it there."""
    storage.fault(lambda call: call.is_creation, "cut", times=1, late=True)
    done = in_background(hub.resolve, handle)
    done.result(10)  # and not after TFHUB_LOCK_TIMEOUT, a minute
    objects.check_whole(handle, FILES)


def test_a_manifest_whose_making_was_answered_too_late_counts(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 9: it is there, and the second try finds it."""
    storage.fault(
        lambda call: call.is_creation and call.name.endswith(".manifest.json"),
        503,
        times=1,
        late=True,
    )
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_removal_that_was_answered_too_late_is_no_error(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 9: what is gone already is gone."""
    objects.put(key_of(handle), {"assets/extra": b"extra"})
    storage.fault(lambda call: call.kind == "delete", "cut", late=True, every=2)
    storage.fault(lambda call: call.kind == "delete", "cut", late=True, times=1)
    hub.resolve(handle)
    storage.mend()
    objects.check_whole(handle, FILES)


def test_a_manifest_that_somebody_else_made_first_stays(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 1: the precondition is lost, the entry is whole all the same."""
    manifest = f"{key_of(handle)}.manifest.json"

    def be_faster(call: Call) -> None:
        sizes = [
            {"path": n, "size": len(c), "sha256": hashlib.sha256(c).hexdigest()}
            for n, c in FILES.items()
        ]
        made = {"time": "now", "host": "elsewhere", "pid": 77, "library": "tfhub-cache 0"}
        objects[manifest] = json.dumps(
            {
                "format": 1,
                "handle": handle,
                "url": handle,
                "archive": {"size": 1, "sha256": "0"},
                "files": sizes,
                "downloaded": made,
                "validators": {},
            }
        ).encode()

    storage.fault(lambda call: call.is_creation and call.name == f"models/{manifest}", be_faster)
    assert hub.resolve(handle) == f"{ROOT}/{key_of(handle)}"
    assert json.loads(objects[manifest])["downloaded"]["host"] == "elsewhere"
    objects.check_whole(handle, FILES)


FAULTS = {
    "403 for everything": (lambda call: True, 403),
    "403 for writing": (lambda call: call.is_upload or call.kind == "delete", 403),
    "401 for writing": (lambda call: call.is_upload or call.kind == "delete", 401),
    "403 for the files": (lambda call: call.is_upload and "/assets/" in call.name, 403),
    "403 for the manifest": (lambda call: call.is_upload and "manifest" in call.name, 403),
    "503 for ever": (lambda call: True, 503),
    "503 for the files": (lambda call: call.is_upload and "/assets/" in call.name, 503),
    "429 for ever": (lambda call: True, 429),
    "429 for the manifest": (lambda call: call.is_upload and "manifest" in call.name, 429),
    "each upload cut": (lambda call: call.is_upload and "/assets/" in call.name, "cut"),
    "each connection cut": (lambda call: True, "cut"),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_bucket_that_can_not_be_used_is_an_os_error_that_names_it_and_the_way_out(
    storage: Storage, host: Host, handle: str, objects: Bucket, name: str
) -> None:
    """Promise 9: nothing partial is left that counts, and the next try works."""
    when, what = FAULTS[name]
    storage.fault(when, what)
    done = in_background(hub.resolve, handle)
    with pytest.raises(OSError, match="test-bucket") as error:
        done.result(SOON)
    assert isinstance(error.value, CacheError)
    assert ROOT in str(error.value)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(error.value)
    storage.mend()
    assert f"{key_of(handle)}.manifest.json" not in objects.names()
    as_another_process()
    assert BucketStore(ROOT).flaw(key_of(handle)) == ABSENT
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_bucket_that_can_be_read_and_not_written_serves_what_is_in_it(
    storage: Storage, handle: str
) -> None:
    """Promise 11: a cache that others fill."""
    path = hub.resolve(handle)
    as_another_process()
    storage.fault(lambda call: call.is_upload or call.kind == "delete", 403)
    assert hub.resolve(handle) == path


def test_a_bucket_that_does_not_exist_is_an_os_error_that_names_it_and_the_way_out(
    storage: Storage, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: and nothing is downloaded in vain."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://no-such-bucket/models")
    handle = host.publish("/demo/model/1", models.pack_files(FILES))
    with pytest.raises(CacheError, match=r"gs://no-such-bucket/models.*'no-such-bucket' exists"):
        hub.resolve(handle)
    assert host.requests == []


def test_a_network_that_is_gone_is_an_os_error_that_names_the_bucket(
    storage: Storage, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: nobody listens."""
    handle = host.publish("/demo/model/1", models.pack_files(FILES))
    storage.close()
    with pytest.raises(CacheError, match=r"test-bucket.*network"):
        in_background(hub.resolve, handle).result(SOON)
    assert host.requests == []


def test_a_bucket_that_never_answers_is_given_up(
    storage: Storage, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: within the timeout for each request."""
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.1")
    as_another_process()
    storage.fault(lambda call: True, "silence")
    with pytest.raises(CacheError, match="test-bucket"):
        in_background(hub.resolve, handle).result(SOON)


def test_when_uploads_fail_the_others_are_not_even_begun(
    storage: Storage, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: each costs half a minute of tries, so forty would cost minutes."""
    handle = host.publish("/many/1", models.pack_files(MANY))
    storage.fault(is_upload_of(handle), 503)
    with pytest.raises(CacheError, match="test-bucket"):
        in_background(hub.resolve, handle).result(SOON)
    tried = {call.name for call in storage.calls if is_upload_of(handle)(call)}
    assert len(tried) <= 2 * uploads.UPLOADS


def test_the_first_reason_is_told_when_the_bucket_goes_away_altogether(
    storage: Storage, host: Host, handle: str
) -> None:
    """Promise 9: a refusal is told, also if nothing can be asked afterwards."""
    refused = storage.fault(is_upload_of(handle, "assets/"), 403)
    storage.fault(lambda call: refused.met > 0 and not call.is_upload, 503)
    with pytest.raises(CacheError, match="Forbidden"):
        in_background(hub.resolve, handle).result(SOON)


def test_an_archive_in_a_bucket_that_refuses_to_be_read_names_it(
    storage: Storage, cache_dir: Path
) -> None:
    """Promise 9: gs:// archives, too."""
    storage.fault(lambda call: True, 403)
    with pytest.raises(ResolveError, match=r"gs://test-bucket/a\.tgz.*GOOGLE_APPLICATION"):
        hub.resolve("gs://test-bucket/a.tgz")


def test_a_download_that_breaks_off_leaves_nothing_in_the_bucket(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 1: what was uploaded by then is removed, and so is the lock."""
    packed = models.pack_files(LONG)
    handle = host.publish("/long/1", in_turn(cut(packed, after=3_000_000), status(404)))
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert any(is_upload_of(handle)(call) for call in storage.calls)
    assert objects.names() == set()


def test_an_interrupted_download_leaves_nothing_in_the_bucket(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 1: Ctrl-C."""
    handle = host.publish("/long/1", models.pack_files(LONG))
    storage.fault(is_upload_of(handle, SHARD), press_ctrl_c, times=1)
    with pytest.raises(KeyboardInterrupt):
        hub.resolve(handle)
    assert objects.names() == set()


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_resolves_after_its_parent_did(host: Host, handle: str) -> None:
    """As the workers of multiprocessing and of data loaders do."""
    hub.resolve(handle)
    other = host.publish("/demo/model/2", models.pack_files(FILES))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, hub.resolve(other).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    told = in_background(os.read, reader, 10_000)
    try:
        assert told.result(SOON).decode() == f"{ROOT}/{key_of(other)}"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reader)


# Other object stores


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fsspec's file system in memory, with the cache in it."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.store.clear()
    monkeypatch.setenv("TFHUB_CACHE_DIR", "memory://shared/models")
    monkeypatch.setattr(bucket._BucketContender, "poll_seconds", 0.02)  # to be quick
    as_another_process()
    yield files
    files.store.clear()


def _in_memory(files: Any) -> dict[str, bytes]:
    root = "/shared/models/"
    return {name.removeprefix(root): file.getvalue() for name, file in files.store.items()}


def test_any_file_system_of_fsspec_can_hold_the_cache(memory: Any, host: Host) -> None:
    """The layout, the manifest and the descriptor are the same."""
    files = {**FILES, "assets/empty": b"", "assets/blob": b"x" * (3 << 20)}
    handle = host.publish("/demo/model/1", models.pack_files(files))
    path = hub.resolve(handle)
    assert path == f"memory://shared/models/{key_of(handle)}"
    there = _in_memory(memory)
    entry = key_of(handle)
    assert {n: c for n, c in there.items() if n.startswith(f"{entry}/")} == {
        f"{entry}/{n}": c for n, c in files.items()
    }
    assert set(there) == {
        *(f"{entry}/{n}" for n in files),
        f"{entry}.manifest.json",
        f"{entry}.descriptor.txt",
    }
    as_another_process()
    assert hub.resolve(handle) == path
    assert len(host.requests) == 1


def test_in_any_file_system_a_dead_filler_is_replaced(
    memory: Any, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: by its number on this machine, by its silence on others."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "0.3")
    handle = host.publish("/demo/model/1", models.pack_files(FILES))
    for owner in (f"{HERE}.{dead_pid()}.cache-0", "elsewhere.77.cache-0"):
        memory.store.clear()
        memory.pipe_file(f"/shared/models/{key_of(handle)}/saved_model.pb", b"half")
        memory.pipe_file(f"/shared/models/{key_of(handle)}.unfinished", b"being filled\n")
        memory.pipe_file(f"/shared/models/{key_of(handle)}.lock", owner.encode())
        hub.resolve(handle)
        there = _in_memory(memory)
        assert there[f"{key_of(handle)}/saved_model.pb"] == FILES["saved_model.pb"]
        assert f"{key_of(handle)}.lock" not in there


def test_a_scheme_that_nobody_knows_is_an_os_error_that_names_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: s3:// without s3fs, or a typing error."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", "nosuch://bucket/models")
    handle = host.publish("/demo/model/1", models.pack_files(FILES))
    with pytest.raises(OSError, match="nosuch"):
        hub.resolve(handle)


def test_a_model_that_tensorflow_hub_has_just_put_is_not_downloaded_by_whoever_waited(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 8: it appears between a look at the entry and the making of our lock."""
    lock = f"models/{key_of(handle)}.lock"
    storage.fault(
        lambda call: call.name == lock and call.is_upload,
        lambda _: objects.put(key_of(handle), FILES),
        times=1,
    )
    assert hub.resolve(handle) == f"{ROOT}/{key_of(handle)}"
    assert host.requests == []
    assert f"{key_of(handle)}.lock" not in objects.names()


# Caring for it.


NOW = time.time


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Lets the library believe that so much time has gone, in another process."""
    monkeypatch.setattr(time, "time", lambda: NOW() + seconds)
    as_another_process()


def test_the_last_use_is_recorded_with_one_request_an_hour(
    storage: Storage, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub.resolve(handle)
    later(monkeypatch, 3500)
    hub.resolve(handle)
    assert objects.generation(f"{key_of(handle)}.used") is None
    for _ in range(2):  # made the first time, rewritten the second
        before = objects.generation(f"{key_of(handle)}.used")
        later(monkeypatch, 3700)
        storage.forget()
        for _ in range(3):
            assert hub.resolve(handle) == path
        assert Counter(call.kind for call in storage.calls) == {"list": 1, "read": 1, "write": 1}
        assert objects.generation(f"{key_of(handle)}.used") not in (None, before)
    age = NOW() - hub.cache.find(handle).used.timestamp()
    assert 0 <= age < 60
    hub.cache.remove([handle])
    assert objects.names() == set()


def test_whoever_may_only_read_the_bucket_resolves_and_records_nothing(
    storage: Storage,
    handle: str,
    objects: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    log: pytest.LogCaptureFixture,
) -> None:
    path = hub.resolve(handle)
    refused = storage.fault(lambda call: call.is_upload, 403)
    later(monkeypatch, 7200)
    assert hub.resolve(handle) == hub.resolve(handle) == path
    assert refused.met == 1
    assert objects.generation(f"{key_of(handle)}.used") is None
    assert warnings(log) == []


def test_a_model_can_be_used_while_it_is_refreshed_and_if_that_fails(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    newer = models.fake_model(size=6_000_000, seed=1)  # of which a half is enough to begin
    packed = models.pack_files(newer)
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    host.publish("/demo/latest", archive(packed[:-100]))
    with pytest.raises(ResolveError):
        hub.cache.refresh(handle)
    objects.check_whole(handle, FILES)
    storage.fault(lambda call: call.is_upload and ".tmp/" in call.name, 403)
    host.publish("/demo/latest", archive(packed))
    with pytest.raises(CacheError):
        hub.cache.refresh(handle)
    objects.check_whole(handle, FILES)
    storage.mend()
    release = threading.Event()
    host.publish("/demo/latest", stall(packed, 3_000_000, release))
    seen = len(host.requests)
    refreshed = in_background(hub.cache.refresh, handle)
    host.wait_for_requests(seen + 1)
    until(lambda: any(".tmp/" in name for name in objects.names()), "the first new file")
    as_another_process()
    hub.resolve(handle)
    assert hub.cache.find(handle).state == "ok"
    release.set()
    assert refreshed.result(SOON) == hub.resolve(handle)
    objects.check_whole(handle, newer)


def test_a_refresh_that_ends_while_files_are_put_in_place_is_healed(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    newer = models.fake_model(size=20_000, seed=1)
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    host.publish("/demo/latest", models.pack_files(newer))
    storage.fault(lambda call: "rewriteTo" in call.request.target and SHARD in call.name, 403)
    with pytest.raises(CacheError):
        hub.cache.refresh(handle)
    storage.mend()
    assert hub.cache.find(handle).state == "incomplete"
    hub.resolve(handle)
    objects.check_whole(handle, newer)


def test_a_removal_that_ends_half_way_leaves_nothing_that_looks_like_a_model(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Neither of ours nor of tensorflow_hub's; the next one goes on with it."""
    foreign = "https://example.com/foreign/1"
    objects.put(key_of(foreign), FILES)
    hub.resolve(handle)
    storage.fault(lambda call: call.kind == "delete" and SHARD in call.name, 403)
    for removed in hub.cache.remove([handle, foreign]):
        assert "is not removed, or not all of it" in str(removed.error)
    storage.mend()
    as_another_process()
    assert [entry.state for entry in hub.cache.entries()] == ["incomplete", "incomplete"]
    hub.resolve(handle)
    objects.check_whole(handle, FILES)
    pruned = hub.cache.prune()
    assert sorted(pruned.leftovers) == [key_of(foreign), f"{key_of(foreign)}.unfinished"]
    objects.check_whole(handle, FILES)
    hub.cache.remove([handle])
    assert objects.names() == set()


def test_what_somebody_is_putting_there_is_listed_and_neither_removed_nor_pruned(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    release = threading.Event()
    files = models.fake_model(size=6_000_000, seed=1)
    packed = models.pack_files(files)
    handle = host.publish("/demo/model/9", stall(packed, 3_000_000, release))
    resolved = in_background(hub.resolve, handle)
    until(lambda: f"{key_of(handle)}/saved_model.pb" in objects.names(), "the first file")
    (entry,) = hub.cache.entries()
    assert (entry.key, entry.state, entry.handle) == (key_of(handle), "downloading", None)
    assert entry.size > 0
    assert "another process is downloading it" in str(hub.cache.remove([key_of(handle)])[0].error)
    assert hub.cache.prune(max_size=0).leftovers == {}
    release.set()
    resolved.result(SOON)
    objects.check_whole(handle, files)


def test_a_limit_holds_in_a_bucket(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (host.publish(f"/demo/{n}", models.pack_files(FILES)) for n in (1, 2))
    hub.resolve(first)
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "30kB")
    monkeypatch.setenv("TFHUB_CACHE_KEEP_USED", "0s")
    hub.resolve(second)
    assert {entry.handle for entry in hub.cache.entries()} == {second}
    objects.check_whole(second, FILES)
