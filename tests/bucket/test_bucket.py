"""A cache in a bucket: what is promised of a cache on a disk, kept by objects.

The numbers are those of "What the cache guarantees". The lock is in test_lock.py, the number
of requests in test_costs.py, processes that are killed in test_ends.py, machines in tests/cluster,
and what every store does in tests/test_stores.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import models
import pytest
from buckets import FILES, HERE, LONG, MANY, ROOT, SHARD, Bucket, is_commit, is_upload_of, lock_of
from entries import as_another_process, key_of
from logs import warnings
from processes import dead_pid, deny_threads
from servers import Host, archive, in_turn, stall, status
from storage import Call, Storage
from waiting import SOON, in_background, press_ctrl_c, until, until_unlocked

import tfhub_cache as hub
from tfhub_cache.errors import CacheError, DownloadError
from tfhub_cache.manifest import MOST_BYTES

pytestmark = [pytest.mark.timeout(120), pytest.mark.libraries]

NEW = models.fake_model(size=21_000, seed=5)
TENSORFLOW_HUB = "0123456789abcdef0123456789abcdef"


# Whole or absent.


def test_the_manifest_is_one_object_that_comes_last_and_only_if_there_is_none(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    """Promise 1."""
    path = hub.resolve(handle)
    *files, manifest = [c for c in storage.calls if c.is_upload and not c.name.endswith(".lock")]
    assert is_commit(manifest)
    assert manifest.is_creation
    assert all(is_upload_of(handle)(call) for call in files)
    assert path == f"{ROOT}/{objects.folder(handle)}"
    objects.check_whole(handle, FILES)


@pytest.mark.parametrize("size", [0, 1, 5 << 20, 20 << 20])
def test_files_of_every_size_arrive_byte_for_byte(
    storage: Storage, host: Host, objects: Bucket, size: int
) -> None:
    """Promise 1: nothing, one request's worth, and more than one request takes."""
    files = {**FILES, "assets/blob": random.Random(size).randbytes(size), "assets/empty": b""}
    hub.resolve(handle := host.publish("/sizes/1", models.pack_files(files, compression=None)))
    objects.check_whole(handle, files)


def test_files_with_odd_names_arrive(storage: Storage, host: Host, objects: Bucket) -> None:
    """Promise 1: characters that mean something in URLs, and to fsspec."""
    names = ("größe 犬", "1#2", "3?4&5", "%41+b", "*[x]")
    odd = {f"assets/{name}": name.encode() for name in names}
    big = {"assets/large größe#1?%41": b"x" * (9 << 20)}
    handle = host.publish("/odd/1", models.pack_files({**FILES, **odd, **big}))
    hub.resolve(handle)
    objects.check_whole(handle, {**FILES, **odd, **big})
    hub.cache.remove([handle])
    assert objects.names() == set()


def test_a_file_that_is_in_the_archive_twice_is_what_it_was_the_second_time(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 1: uploads overtake each other, but not two of the same file."""
    twice = models.member("./assets/vocab.txt", data=b"the second\n")
    handle = host.publish("/twice/1", models.pack_files(FILES, extra_members=[twice]))
    vocabulary = is_upload_of(handle, "assets/vocab.txt")
    second = threading.Event()

    def hold(call: Call) -> None:
        if sum(vocabulary(call) for call in storage.calls) == 1:
            second.wait(1)  # an upload that waits for the one before can't come
        else:
            second.set()

    storage.fault(vocabulary, hold)
    hub.resolve(handle)
    objects.check_whole(handle, {**FILES, "assets/vocab.txt": b"the second\n"})


def test_what_is_still_on_its_way_of_a_damaged_download_does_not_get_into_the_model(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 1: the second attempt puts a file of the same name at the same place."""
    damaged = models.pack_files({**LONG, "saved_model.pb": LONG["saved_model.pb"][::-1]})
    is_sent = threading.Event()
    handle = host.publish(
        "/demo/model/9",
        in_turn(stall(damaged[:-4], 3_000_000, is_sent), archive(models.pack_files(LONG))),
    )

    def hold(_: Call) -> None:
        is_sent.set()
        with contextlib.suppress(AssertionError):  # an upload that is waited for can't be later
            until(lambda: f"{key_of(handle)}.manifest.json" in objects.names_now(), seconds=2)

    storage.fault(is_upload_of(handle, "saved_model.pb"), hold, times=1)
    hub.resolve(handle)
    storage.settle()
    objects.check_whole(handle, LONG)


@pytest.mark.parametrize("size", [1000, 20 << 20], ids=["small", "large"])
def test_a_bit_that_is_flipped_on_its_way_is_noticed_and_nothing_is_published(
    storage: Storage, host: Host, objects: Bucket, size: int
) -> None:
    """Promise 1: the store's checksum of each object is compared with ours."""
    blob = random.Random(size).randbytes(size)
    files = {**FILES, "assets/blob": blob}
    handle = host.publish("/blob/1", models.pack_files(files, compression=None))
    is_blob = is_upload_of(handle, "assets/blob")
    flipped = storage.fault(lambda c: is_blob(c) and c.kind != "begin", "flip", times=1)
    with pytest.raises(CacheError, match="test-bucket"):
        hub.resolve(handle)
    assert flipped.met == 1
    assert objects.names() == set()
    hub.resolve(handle)
    objects.check_whole(handle, files)


# Replaced, with the old one in place until then.


@pytest.mark.parametrize("code", [400, 403, 503])
@pytest.mark.parametrize("which", ["files", "manifest"])
def test_a_refresh_whose_requests_are_refused_keeps_the_model(
    storage: Storage, host: Host, objects: Bucket, code: int, which: str
) -> None:
    """Promise 12."""
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    host.publish("/demo/latest", models.pack_files(NEW))
    storage.fault(is_commit if which == "manifest" else is_upload_of(handle), code)
    with pytest.raises(CacheError, match="test-bucket"):
        hub.cache.refresh(handle)
    storage.mend()
    as_another_process()
    hub.resolve(handle)
    assert objects.model(handle) == FILES


def test_at_every_request_of_a_refresh_a_reader_finds_a_model(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 12."""
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    host.publish("/demo/latest", models.pack_files(NEW))
    seen: list[Any] = []
    for late in False, True:
        storage.fault(lambda call: True, lambda _: seen.append(objects.model(handle)), late=late)
    hub.cache.refresh(handle)
    assert len(seen) > 10
    assert all(model in (FILES, NEW) for model in seen)
    assert objects.model(handle) == NEW


def test_a_reader_keeps_the_files_of_a_model_that_was_refreshed_for_an_hour(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 12: neither a prune nor the next download takes them away before."""
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    old = hub.resolve(handle).rpartition("/")[2]
    host.publish("/demo/latest", models.pack_files(NEW))
    hub.cache.refresh(handle)
    assert hub.cache.prune().leftovers == {}
    hub.cache.refresh(handle)
    assert {name for name in objects.names() if name.startswith(f"{old}/")} == {
        f"{old}/{name}" for name in FILES
    }
    storage.go_ahead(3700)
    as_another_process()
    assert old in hub.cache.prune().leftovers
    objects.check_whole(handle, NEW)


def test_the_next_download_removes_what_is_no_longer_needed(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    hub.cache.refresh(handle)
    assert len({name.partition("/")[0] for name in objects.names()}) == 3
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "0")
    hub.cache.refresh(handle)
    hub.cache.prune()
    objects.check_whole(handle, FILES)


def test_what_others_upload_during_a_long_download_is_no_garbage_after_it(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 12: it goes by the clock at which it was listed."""
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "5s")
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    other = f"{key_of(handle)}.cache-0"
    storage.fault(lambda call: call.kind == "list", lambda _: objects.put(other, FILES), times=1)

    def take_longer_than_that(_: Call) -> None:
        threading.Event().wait(6)
        objects[f"{other}/later"] = b"of another process"

    storage.fault(is_upload_of(handle, "saved_model.pb"), take_longer_than_that, times=1)
    hub.resolve(handle)
    assert {name for name in objects.names() if name.startswith(f"{other}/")} == {
        f"{other}/{name}" for name in [*FILES, "later"]
    }


def test_a_machine_without_threads_gives_its_lock_back_and_says_so(
    host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/demo/model/1", models.pack_files(FILES))
    with monkeypatch.context() as patched:
        deny_threads(patched, "BucketClaim._hold")
        with pytest.raises(CacheError, match="can't start new thread") as error:
            hub.resolve(handle)
    assert "permissions" not in str(error.value)
    assert not [name for name in objects.names() if name.startswith(key_of(handle))]
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_what_a_process_is_uploading_is_no_garbage_and_can_not_be_removed(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "0")
    release = threading.Event()
    files = models.fake_model(size=6_000_000, seed=1)
    handle = host.publish("/demo/model/9", stall(models.pack_files(files), 3_000_000, release))
    resolved = in_background(hub.resolve, handle)
    until(lambda: any(name.endswith("/saved_model.pb") for name in objects.names_now()))
    (entry,) = hub.cache.entries()
    assert (entry.key, entry.state, entry.handle) == (key_of(handle), "downloading", None)
    assert entry.size > 0
    assert "another process is downloading it" in str(hub.cache.remove([key_of(handle)])[0].error)
    assert hub.cache.prune(max_size=0).leftovers == {}
    release.set()
    resolved.result(SOON)
    objects.check_whole(handle, files)


def test_a_filler_that_slept_longer_than_its_files_are_kept_does_not_publish_a_part(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1."""
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "0")
    release = threading.Event()
    files = models.fake_model(size=6_000_000, seed=1)
    handle = host.publish("/demo/model/9", stall(models.pack_files(files), 3_000_000, release))
    asleep = in_background(hub.resolve, handle)
    until(lambda: any(name.endswith("/saved_model.pb") for name in objects.names_now()))
    for name in objects.names_now():
        if "/" in name:
            del objects[name]
    release.set()
    with pytest.raises(OSError, match="removed as garbage"):
        asleep.result(SOON)
    assert objects.model(handle) is None


# Checked, and healed.


@pytest.mark.parametrize("harm", ["deleted", "truncated", "grown"])
def test_a_damaged_model_is_downloaded_again_with_one_warning(
    host: Host, handle: str, objects: Bucket, log: pytest.LogCaptureFixture, harm: str
) -> None:
    """Promises 3 and 4: objects that are gone or have another size."""
    hub.resolve(handle)
    damaged = f"{objects.folder(handle)}/{SHARD}"
    if harm == "deleted":
        del objects[damaged]
    else:
        objects[damaged] = FILES[SHARD][:-1] if harm == "truncated" else FILES[SHARD] + b"!"
    as_another_process()
    hub.resolve(handle)
    assert objects.model(handle) == FILES
    [warning] = warnings(log)
    assert handle in warning
    assert SHARD in warning


@pytest.mark.once
def test_a_manifest_that_is_too_large_is_not_read_and_replaced(
    handle: str, objects: Bucket, storage: Storage
) -> None:
    """Promise 4: a process that may write to the bucket can put anything there."""
    hub.resolve(handle)
    name = f"{key_of(handle)}.manifest.json"
    objects[name] = objects[name] + b" " * MOST_BYTES
    as_another_process()
    (entry,) = hub.cache.entries()
    assert (entry.state, entry.flaw) == ("incomplete", "there is no entry")
    hub.resolve(handle)
    assert objects.model(handle) == FILES


def test_a_manifest_that_names_the_folder_of_another_model_is_not_believed(
    host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 4."""
    other = host.publish("/other/1", models.pack_files(NEW))
    hub.resolve(handle)
    hub.resolve(other)
    name = f"{key_of(handle)}.manifest.json"
    objects[name] = objects[name].replace(
        objects.folder(handle).encode(), objects.folder(other).encode()
    )
    as_another_process()
    hub.resolve(handle)
    assert objects.model(handle) == FILES
    assert objects.model(other) == NEW


def test_a_damaged_model_that_can_not_be_downloaded_says_so_and_stays(
    host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 4: the error names the damage and why it can't be mended."""
    hub.resolve(handle)
    del objects[f"{objects.folder(handle)}/{SHARD}"]
    left = objects.names()
    host.route("/demo/model/1", status(404))
    as_another_process()
    with pytest.raises(DownloadError, match=f"damaged.*{SHARD} is missing.*404"):
        hub.resolve(handle)
    assert objects.names() == left


# Of tensorflow_hub, and of earlier versions.


def put_as_before(objects: Bucket, handle: str) -> None:
    """A model as earlier versions have put it: in the folder of its key."""
    hub.resolve(handle)
    folder, name = objects.folder(handle), f"{key_of(handle)}.manifest.json"
    manifest = json.loads(objects[name])
    del manifest["folder"]
    objects[name] = json.dumps(manifest).encode()
    for file, content in FILES.items():
        objects[f"{key_of(handle)}/{file}"] = content
        del objects[f"{folder}/{file}"]
    as_another_process()


def test_a_model_of_an_earlier_version_is_used_refreshed_and_removed(
    host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 8."""
    put_as_before(objects, handle)
    assert hub.resolve(handle) == f"{ROOT}/{key_of(handle)}"
    assert len(host.requests) == 1
    assert [entry.state for entry in hub.cache.entries()] == ["ok"]
    host.publish("/demo/model/1", models.pack_files(NEW))
    hub.cache.refresh(handle)
    assert objects.model(handle) == NEW
    hub.cache.remove([handle])
    assert objects.names() == set()


@pytest.mark.parametrize("of", ["earlier version", "tensorflow_hub"])
def test_a_removal_that_ends_half_way_leaves_nothing_that_looks_like_a_model_of_tensorflow_hub(
    storage: Storage, host: Host, handle: str, objects: Bucket, of: str
) -> None:
    """Promise 1: what is in the folder of a key has no manifest that says what is missing."""
    if of == "earlier version":
        put_as_before(objects, handle)
    else:
        objects.put(key_of(handle), FILES)
    storage.fault(lambda call: call.kind == "delete" and "assets" in call.name, 403)
    (removed,) = hub.cache.remove([handle])
    assert "is not removed, or not all of it" in str(removed.error)
    storage.mend()
    as_another_process()
    assert [entry.state for entry in hub.cache.entries()] == ["incomplete"]
    hub.resolve(handle)
    assert objects.model(handle) == FILES
    hub.cache.remove([handle])
    assert objects.names() == set()


def test_what_an_earlier_version_left_unfinished_is_no_model(
    host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 1."""
    objects.put(key_of(handle), FILES)
    objects[f"{key_of(handle)}.unfinished"] = b"being filled\n"
    hub.resolve(handle)
    assert len(host.requests) == 1


@pytest.mark.parametrize("lost", ["saved_model.pb", "variables/variables.index", SHARD])
def test_a_model_of_tensorflow_hub_that_lost_a_file_is_downloaded(
    handle: str, objects: Bucket, lost: str
) -> None:
    """Promises 3 and 8: as far as names say."""
    objects.put(key_of(handle), {name: FILES[name] for name in FILES if name != lost})
    hub.resolve(handle)
    assert objects.model(handle) == FILES


def test_a_model_that_tensorflow_hub_is_making_is_waited_for(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 8."""
    objects[lock_of(handle)] = f"elsewhere.77.{TENSORFLOW_HUB}".encode()
    objects.put(key_of(handle), FILES)
    waiting = in_background(hub.resolve, handle)
    until(lambda: len(storage.calls) >= 4, "a second look at the lock")
    del objects[lock_of(handle)]
    assert waiting.result(SOON) == f"{ROOT}/{key_of(handle)}"
    assert host.requests == []


def test_a_model_that_tensorflow_hub_left_half_moved_is_downloaded(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promises 1 and 8: also if that fails, and its lock is gone."""
    objects[lock_of(handle)] = f"elsewhere.77.{TENSORFLOW_HUB}".encode()
    objects.put(key_of(handle), {"saved_model.pb": FILES["saved_model.pb"]})
    storage.go_ahead(660)
    host.route("/demo/model/1", status(404))
    with pytest.raises(DownloadError, match="404"):
        hub.resolve(handle)
    assert objects.names() == set()
    host.publish("/demo/model/1", models.pack_files(FILES))
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_model_of_tensorflow_hub_can_be_used_while_it_is_refreshed(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promises 8 and 12."""
    objects.put(key_of(handle), FILES)
    seen: list[str] = []

    def look(_: Call) -> None:
        as_another_process()
        seen.append(hub.resolve(handle))

    storage.fault(is_upload_of(handle, "saved_model.pb"), look, times=1)
    path = hub.cache.refresh(handle)
    assert seen == [f"{ROOT}/{key_of(handle)}"]
    assert path == f"{ROOT}/{objects.folder(handle)}"


# Bad days.


@pytest.mark.parametrize("code", [429, 503])
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
    storage.mend()
    objects.check_whole(handle, MANY)


@pytest.mark.parametrize("late", [False, True], ids=["in the middle", "before the answer"])
def test_a_connection_that_is_cut_in_an_upload_makes_no_difference(
    storage: Storage, host: Host, objects: Bucket, late: bool
) -> None:
    """Promise 9: the file is sent again."""
    files = {**FILES, "assets/blob": random.Random(1).randbytes(100_000)}
    handle = host.publish("/blob/1", models.pack_files(files, compression=None))
    cut = storage.fault(is_upload_of(handle, "assets/blob"), "cut", times=2, late=late)
    hub.resolve(handle)
    assert cut.met == 2
    objects.check_whole(handle, files)


FAULTS: dict[str, tuple[Callable[[Call], bool], Any]] = {
    "403 for everything": (lambda call: True, 403),
    "403 for writing": (lambda call: call.is_upload or call.kind == "delete", 403),
    "401 for writing": (lambda call: call.is_upload or call.kind == "delete", 401),
    "403 for the files": (lambda call: call.is_upload and "/assets/" in call.name, 403),
    "403 for the manifest": (is_commit, 403),
    "503 for ever": (lambda call: True, 503),
    "503 for the files": (lambda call: call.is_upload and "/assets/" in call.name, 503),
    "429 for the manifest": (is_commit, 429),
    "each upload cut": (lambda call: call.is_upload and "/assets/" in call.name, "cut"),
    "each connection cut": (lambda call: True, "cut"),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_bucket_that_can_not_be_used_is_an_os_error_that_names_it_and_the_way_out(
    storage: Storage, host: Host, handle: str, objects: Bucket, name: str
) -> None:
    """Promise 9: nothing partial is left that counts, and the next try works."""
    storage.fault(*FAULTS[name])
    with pytest.raises(CacheError, match="test-bucket") as error:
        in_background(hub.resolve, handle).result(SOON)
    assert ROOT in str(error.value)
    wanted = "Try again later" if "429" in name else "GOOGLE_APPLICATION_CREDENTIALS"
    assert wanted in str(error.value)
    storage.mend()
    assert objects.model(handle) is None
    as_another_process()
    hub.resolve(handle)
    assert objects.model(handle) == FILES


def test_a_bucket_that_can_be_read_and_not_written_serves_what_is_in_it(
    storage: Storage, handle: str, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """Promise 11: a cache that others fill; the last use is not recorded."""
    path = hub.resolve(handle)
    until_unlocked()
    refused = storage.fault(lambda call: call.is_upload or call.kind == "delete", 403)
    storage.go_ahead(7200)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7200)
    as_another_process()
    assert hub.resolve(handle) == hub.resolve(handle) == path
    assert refused.met == 1
    assert warnings(log) == []


def test_without_the_right_to_delete_a_model_is_cached_with_one_warning(
    storage: Storage, host: Host, objects: Bucket, log: pytest.LogCaptureFixture
) -> None:
    """Promise 9: an account that may only create objects, or a retention policy."""

    def is_refused(call: Call) -> bool:
        there = call.name.removeprefix("models/") in objects.names_now()
        return call.kind == "delete" or (call.is_upload and there)

    storage.fault(is_refused, 403)
    for number in 1, 2:
        handle = host.publish(f"/demo/{number}", models.pack_files(FILES))
        hub.resolve(handle)
        assert objects.model(handle) == FILES
        assert lock_of(handle) in objects.names_now()
    [warning] = warnings(log)
    assert "can't be removed" in warning
    assert "test-bucket" in warning
    assert "Forbidden" in warning
    damaged = f"{objects.folder(handle)}/{SHARD}"
    del objects[damaged]
    as_another_process()
    with pytest.raises(CacheError, match="Forbidden"):  # a manifest can't be replaced there
        hub.resolve(handle)


def test_a_network_that_is_gone_is_an_os_error_that_names_the_bucket(
    storage: Storage, host: Host
) -> None:
    """Promise 9."""
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


def test_an_interrupted_download_leaves_nothing_in_the_bucket(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 1: Ctrl-C."""
    handle = host.publish("/long/1", models.pack_files(models.fake_model(size=6_000_000, seed=1)))
    storage.fault(is_upload_of(handle, "saved_model.pb"), press_ctrl_c, times=1, late=True)
    with pytest.raises(KeyboardInterrupt):
        hub.resolve(handle)
    storage.settle()
    assert objects.names() == set()


def test_a_process_of_this_machine_that_crashed_is_replaced_at_once(
    handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7: the lock timeout does not matter."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "600")
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "0")
    objects[lock_of(handle)] = f"{HERE}.{dead_pid()}.cache-0".encode()
    objects[f"{key_of(handle)}.cache-0/saved_model.pb"] = b"half"
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


# Processes, and other stores.


FORKING = """
import os, signal, sys
import tfhub_cache as hub

first, *handles = sys.argv[1:]
for handle in handles:
    hub.resolve(handle)
    pid = os.fork()  # while the lock is being removed
    if pid == 0:
        signal.alarm(60)
        hub.resolve(handle)
        hub.cache.refresh(first)
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_processes_that_are_forked_as_soon_as_a_model_is_there_resolve_and_refresh(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """As a data loader's; and each process ends after it has removed its lock."""
    packed = models.pack_files(FILES)
    handles = [host.publish(f"/demo/model/{number}", packed) for number in range(10)]
    command = [sys.executable, "-c", FORKING, *handles]
    subprocess.run(command, check=True, timeout=110)
    for handle in handles[1:]:
        objects.check_whole(handle, FILES)
    assert not [name for name in objects.names() if name.endswith(".lock")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_resolves_after_its_parent_did(host: Host, handle: str) -> None:
    """As the workers of multiprocessing and of data loaders do."""
    first = hub.resolve(handle)
    other = host.publish("/demo/model/2", models.pack_files(FILES))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, f"{hub.resolve(handle)} {hub.resolve(other)}".encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    seen = in_background(os.read, reader, 10_000)
    try:
        assert seen.result(SOON).decode() == f"{first} {hub.resolve(other)}"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(reader)


def test_a_scheme_that_is_not_known_is_an_os_error_that_names_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: s3:// without s3fs, or a typing error."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", "nosuch://bucket/models")
    handle = host.publish("/demo/model/1", models.pack_files(FILES))
    with pytest.raises(OSError, match="nosuch"):
        hub.resolve(handle)


def test_a_model_that_is_refreshed_by_others_is_seen_by_the_next_resolve(
    host: Host, objects: Bucket, storage: Storage
) -> None:
    """Promise 12: also if it is replaced between the listing and the reading of the manifest."""
    handle = host.publish("/demo/latest", models.pack_files(FILES))
    hub.resolve(handle)
    host.publish("/demo/latest", archive(models.pack_files(NEW)))
    as_another_process()

    def replace(_: Call) -> None:
        as_another_process()
        hub.cache.refresh(handle)

    storage.fault(lambda call: call.kind == "read", replace, times=1)
    path = hub.resolve(handle)
    assert path.rstrip("/").endswith(objects.folder(handle))
    assert objects.model(handle) == NEW
    assert len(host.requests) == 2
