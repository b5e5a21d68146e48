"""The lock object of a cache in a bucket, which is only a courtesy: it saves downloads."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import models
import pytest
from buckets import FILES, Bucket, is_commit, lock_of
from entries import as_another_process
from servers import Host, stall, status
from storage import Call, Storage
from waiting import SOON, in_background, press_ctrl_c, until, until_unlocked

import tfhub_cache as hub
from tfhub_cache.errors import DownloadError

pytestmark = [pytest.mark.timeout(120), pytest.mark.libraries]


@pytest.mark.parametrize("content", [b"", b"who?", b"\xff\xfe"])
def test_a_lock_without_a_name_is_void_after_tensorflow_hubs_timeout(
    storage: Storage, handle: str, objects: Bucket, content: bytes
) -> None:
    """Promise 7: by the store's clock."""
    objects[lock_of(handle)] = content
    storage.go_ahead(660)
    hub.resolve(handle)
    objects.check_whole(handle, FILES)


def test_a_machine_that_is_downloading_is_waited_for_as_long_as_its_lock_is_written(
    storage: Storage, host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: also with the same bytes."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "5")
    content = f"elsewhere.{os.getpid()}.cache-0".encode()
    objects[lock_of(handle)] = content
    waiting = in_background(hub.resolve, handle)
    begun = time.monotonic()
    while time.monotonic() < begun + 7:  # longer than the timeout
        objects[lock_of(handle)] = content
        threading.Event().wait(0.1)
    assert host.requests == []
    del objects[lock_of(handle)]
    waiting.result(SOON)
    objects.check_whole(handle, FILES)


def test_a_machine_that_never_ends_its_download_is_waited_for_an_hour_and_no_longer(
    storage: Storage, host: Host, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6: then this one downloads as well."""
    content = f"elsewhere.{os.getpid()}.cache-0".encode()
    objects[lock_of(handle)] = content
    waiting = in_background(hub.resolve, handle)
    until(lambda: len(storage.calls) >= 4, "a second look at the lock")
    assert host.requests == []
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 3601)
    begun = now()
    while not waiting.done() and now() < begun + SOON:
        objects[lock_of(handle)] = content
        threading.Event().wait(0.1)
    assert waiting.result(0)
    assert objects.model(handle) == FILES
    assert len(host.requests) == 1


def test_a_resolve_does_not_wait_for_the_removal_of_its_lock_and_neither_does_what_follows(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 7: a lock is void as soon as its owner has made the model."""
    may_go_on = threading.Event()
    storage.fault(lambda call: call.kind == "delete", lambda _: may_go_on.wait(SOON), times=1)
    try:
        hub.resolve(handle)
        as_another_process()
        (entry,) = hub.cache.entries()
        assert (entry.state, entry.holder, entry.leftovers) == ("ok", None, {})
        assert hub.cache.prune().leftovers == {}
        assert lock_of(handle) in objects.names_now()
        as_another_process()
        hub.cache.refresh(handle)
        assert len(host.requests) == 2
    finally:
        may_go_on.set()


def test_a_download_that_fails_has_removed_its_lock_when_it_says_so(
    storage: Storage, host: Host, objects: Bucket
) -> None:
    """Promise 9: another machine need not wait for this one."""
    handle = host.publish("/gone/1", status(404))
    storage.fault(lambda call: call.kind == "delete", lambda _: threading.Event().wait(0.5))
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert objects.names_now() == set()


def test_a_process_that_may_remove_nothing_does_not_wait_for_the_lock_of_its_failed_download(
    storage: Storage, host: Host, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a notebook lives on."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "600")
    handle = host.publish("/demo/model/1", status(404))
    storage.fault(lambda call: call.kind == "delete", 403)
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert lock_of(handle) in objects.names()
    host.publish("/demo/model/1", models.pack_files(FILES))
    in_background(hub.resolve, handle).result(SOON)
    assert objects.model(handle) == FILES


@pytest.mark.parametrize("what", ["refresh", "remove", "prune"])
def test_the_lock_of_a_machine_that_crashed_after_it_made_the_model_is_in_no_ones_way(
    storage: Storage, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Promise 7: the lock timeout does not matter."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "600")
    hub.resolve(handle)
    until_unlocked()
    objects[lock_of(handle)] = f"elsewhere.77.{objects.folder(handle)[41:]}".encode()
    as_another_process()
    if what == "remove":
        storage.forget()
        assert [removed.error for removed in hub.cache.remove([handle])] == [None]
        assert objects.names() == set()
        # Killed between the two, it would leave a lock that looks as if its owner were at work.
        ends = [call.name[-5:] for call in storage.calls if call.kind == "delete"]
        assert ends.index(".lock") < ends.index(".json")
        return
    if what == "refresh":
        hub.cache.refresh(handle)
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "0")
    hub.cache.prune()
    objects.check_whole(handle, FILES)


def test_a_download_gives_signs_of_life_while_nothing_arrives(
    host: Host, storage: Storage, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 6."""
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "4")
    release = threading.Event()
    handle = host.publish("/slow/1", stall(models.pack_files(FILES), 5_000, release))
    slow = in_background(hub.resolve, handle)
    host.wait_for_requests(1)
    seen: set[str | None] = set()
    until(lambda: seen.add(objects.generation(lock_of(handle))) or len(seen) >= 4)
    assert hub.cache.entries()[0].holder
    release.set()
    slow.result(SOON)
    objects.check_whole(handle, FILES)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_was_interrupted_while_it_took_the_lock_does_not_wait_for_itself(
    storage: Storage, handle: str, objects: Bucket, when: str
) -> None:
    """Promise 9: a notebook lives on."""
    storage.fault(
        lambda call: call.is_creation and call.name.endswith(".lock"),
        press_ctrl_c,
        times=1,
        late=when == "after",
    )
    with pytest.raises(KeyboardInterrupt):
        hub.resolve(handle)
    storage.settle()
    in_background(hub.resolve, handle).result(SOON)  # and not after the lock timeout, a minute
    assert objects.model(handle) == FILES


@pytest.mark.parametrize("name", [".lock", ".manifest.json"])
@pytest.mark.parametrize("how", [503, "cut"])
def test_a_creation_whose_answer_was_lost_is_known_as_our_own(
    storage: Storage, handle: str, objects: Bucket, name: str, how: Any
) -> None:
    """Promise 9: the client repeats the request, and the second answer is that it is there."""
    storage.fault(
        lambda call: call.is_creation and call.name.endswith(name), how, times=1, late=True
    )
    in_background(hub.resolve, handle).result(SOON)
    objects.check_whole(handle, FILES)


def test_a_model_that_another_machine_publishes_first_stays(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 1: what is slower is removed again, and both have the same path."""
    theirs: list[str] = []

    def be_faster(_: Call) -> None:
        del objects[lock_of(handle)]
        as_another_process()
        theirs.append(hub.resolve(handle))

    storage.fault(is_commit, be_faster, times=1)
    assert [hub.resolve(handle)] == theirs
    assert len(host.requests) == 2
    objects.check_whole(handle, FILES)


def test_a_download_that_began_and_ended_since_this_one_looked_is_not_repeated(
    storage: Storage, host: Host, handle: str, objects: Bucket
) -> None:
    """Promise 6: also if the answer to the first look was long under way."""
    theirs: list[str] = []

    def be_faster(_: Call) -> None:
        as_another_process()
        theirs.append(hub.resolve(handle))
        threading.Event().wait(0.2)

    storage.fault(lambda call: call.kind == "list", be_faster, times=1, late=True)
    assert [hub.resolve(handle).rpartition("/")[2]] == [path.rpartition("/")[2] for path in theirs]
    assert len(host.requests) == 1
    objects.check_whole(handle, FILES)
