"""What a cache in a bucket asks of its store: how many requests, and how many at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import models
import pytest
from buckets import FILES, MANY, Bucket
from entries import as_another_process, key_of
from servers import Host
from storage import Storage
from waiting import until_unlocked

import tfhub_cache as hub

pytestmark = [pytest.mark.timeout(120), pytest.mark.libraries]


def kinds(storage: Storage) -> dict[str, int]:
    """How many requests of each kind there were, without the signs of life of a slow one."""
    until_unlocked()
    locks = [call for call in storage.calls if call.is_upload and call.name.endswith(".lock")]
    return dict(Counter(call.kind for call in storage.calls if call not in locks[1:]))


def looks_of_a_download(storage: Storage, files: int) -> int:
    """How often it has listed something. The more time passes, the more often it looks.

    What it has written and removed is checked.
    """
    found = kinds(storage)
    looks = found.pop("list")
    assert looks <= found.pop("read") <= 2 * looks
    assert found == {"write": files + 2, "delete": 1}
    return looks


def test_forty_files_take_one_request_each_and_a_few_more(storage: Storage, host: Host) -> None:
    hub.resolve(host.publish("/many/1", models.pack_files(MANY)))
    assert looks_of_a_download(storage, len(MANY)) <= 3


def test_forty_files_are_uploaded_many_at_a_time(storage: Storage, host: Host) -> None:
    storage.latency = 0.3
    hub.resolve(host.publish("/many/1", models.pack_files(MANY)))
    assert storage.most_at_once["uploads"] >= 8


@pytest.mark.parametrize("page", ["/demo/model/2", "/demo/latest"])
def test_a_cached_model_costs_another_process_two_requests(
    storage: Storage, host: Host, page: str
) -> None:
    handle = host.publish(page, models.pack_files(MANY))
    path = hub.resolve(handle)
    as_another_process()
    storage.forget()
    assert hub.resolve(handle) == path
    assert kinds(storage) == {"list": 1, "read": 1}


def test_a_version_that_was_seen_costs_no_request_for_a_minute(
    storage: Storage, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub.resolve(handle)
    storage.forget()
    for _ in range(3):
        assert hub.resolve(handle) == path
    assert storage.calls == []
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + 61)
    assert hub.resolve(handle) == path
    assert kinds(storage) == {"list": 1, "read": 1}


def test_a_cached_model_of_tensorflow_hub_costs_two_requests(
    storage: Storage, handle: str, objects: Bucket
) -> None:
    objects.put(key_of(handle), FILES)
    hub.resolve(handle)
    assert kinds(storage) == {"list": 1, "read": 1}


def test_what_is_known_of_a_model_costs_three_requests_and_its_removal_two_and_its_files(
    storage: Storage, handle: str
) -> None:
    hub.resolve(handle)
    as_another_process()
    storage.forget()
    hub.cache.info(handle)
    assert kinds(storage) == {"list": 1, "read": 2}
    as_another_process()
    storage.forget()
    hub.cache.remove([handle])
    assert kinds(storage) == {"list": 1, "read": 1, "delete": 1 + len(FILES)}


def test_many_models_are_listed_with_one_listing_and_their_manifests_many_at_a_time(
    storage: Storage, host: Host
) -> None:
    for number in range(40):
        hub.resolve(host.publish(f"/demo/{number}/1", models.pack_files({"saved_model.pb": b"x"})))
    storage.forget()
    storage.latency = 0.1
    assert len(hub.cache.entries()) == 40
    assert kinds(storage) == {"list": 1, "read": 40}
    assert storage.most_at_once["read"] >= 8


def test_a_limit_on_the_cache_costs_a_download_one_request_as_long_as_it_holds(
    storage: Storage, host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.resolve(handle)
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "1GB")
    storage.forget()
    second = host.publish("/demo/2", models.pack_files(FILES))
    hub.resolve(second)
    assert {"write": len(FILES) + 2, "delete": 1}.items() <= kinds(storage).items()
    listed = [call.name for call in storage.calls if call.kind == "list"]
    assert len([prefix for prefix in listed if key_of(second) not in prefix]) == 1


def test_the_last_use_is_recorded_with_one_request_an_hour_by_the_stores_clock(
    storage: Storage, handle: str, objects: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    path = hub.resolve(handle)
    used = f"{key_of(handle)}.used"
    monkeypatch.setattr(time, "time", lambda: now() + 10_800)  # this machine's clock is wrong
    as_another_process()
    assert hub.resolve(handle) == path
    assert objects.generation(used) is None
    storage.go_ahead(3700)
    for _ in range(2):  # made the first time, written over the second
        before = objects.generation(used)
        as_another_process()
        storage.forget()
        for _ in range(3):
            assert hub.resolve(handle) == path
        assert kinds(storage) == {"list": 1, "read": 1, "write": 1}
        assert objects.generation(used) not in (None, before)
    found = hub.cache.find(handle).used
    assert found is not None
    assert abs(now() - found.timestamp()) < 60


@pytest.mark.once
def test_memory_does_not_grow_with_the_model_and_nothing_goes_through_the_disk(
    host: Host, tmp_path: Path
) -> None:
    """At most 96 MB more than a small model takes: many small files, and large ones."""
    small, large = (
        host.publish(f"/{name}/1", models.pack_files(files, compression=None))
        for name, files in {
            "small": FILES,
            "large": {
                "saved_model.pb": b"x",
                **{f"assets/{n:03}": bytes([n]) * (1 << 20) for n in range(150)},
                **{f"assets/large-{n}": bytes([n]) * (70 << 20) for n in range(2)},
            },
        }.items()
    )
    program = (
        "import os, resource, sys, tfhub_cache as hub\n"
        "for handle in sys.argv[1:]:\n"
        "    hub.resolve(handle)\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)\n"
    )
    bucket = [sys.executable, "-m", "benchmarks.bucket_server", "0"]
    with subprocess.Popen(
        bucket, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        environment = {
            **os.environ,
            "TFHUB_CACHE_DIR": "gs://bucket/models",
            "STORAGE_EMULATOR_HOST": server.stdout.readline().strip(),
            "TMPDIR": str(tmp_path / "no such folder"),
        }
        command = [sys.executable, "-c", program, small, large]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        server.communicate("")
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after - before <= 96
