"""Caring for a cache from Python: what is in it, last use, limits, removing, refreshing."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from entries import (
    DAY,
    HOUR,
    SHARD,
    as_another_process,
    foreign,
    key_of,
    left_behind,
    names,
    ours,
    seconds_since_use,
    was_used,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from models import fake_model, pack_files, read_files
from servers import Host, archive, cut, in_turn, stall, status
from waiting import SOON

import tfhub_cache as hub
from tfhub_cache.errors import CacheError, DownloadError

MODEL = fake_model(size=1000)
OTHER = fake_model(size=2000, seed=1)
A, B, C = (f"https://example.com/{name}/1" for name in "abc")


def let_others_read(cache: Path) -> None:
    """Opens the folders of pytest above a cache."""
    for folder in [cache, *cache.parents]:
        if folder.owner() == cache.owner() and folder.parts[:-1] != Path(folder.anchor).parts:
            folder.chmod(folder.stat().st_mode | 0o055)


@contextlib.contextmanager
def being_downloaded(host: Host, path: str, model: bytes) -> Iterator[str]:
    """A handle that another process is downloading."""
    release = threading.Event()
    handle = host.publish(path, stall(model, 100, release))
    seen = len(host.requests)
    code = f"import tfhub_cache as hub; hub.resolve({handle!r})"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        host.wait_for_requests(seen + 1)
        try:
            yield handle
        finally:
            release.set()
            assert process.wait(SOON) == 0


# Last use.


def test_resolving_records_the_use_once_an_hour(cache_dir: Path) -> None:
    entry = ours(cache_dir, A, used=2 * DAY)
    before = names(cache_dir)
    hub.resolve(A)
    assert seconds_since_use(entry) < 60
    was_used(entry, 3 * DAY)
    hub.resolve(A)  # not recorded: this process has just done so
    assert seconds_since_use(entry) > 2 * DAY
    as_another_process()
    was_used(entry, 0.5 * HOUR)
    hub.resolve(A)  # not recorded: that was done just before
    assert seconds_since_use(entry) > 0.4 * HOUR
    assert names(cache_dir) == before


def test_a_long_running_process_records_the_use_again_when_an_hour_has_gone(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ours(cache_dir, A, used=0.75 * HOUR)
    hub.resolve(A)
    assert seconds_since_use(entry) > 0.7 * HOUR
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 0.3 * HOUR)
    was_used(entry, 1.05 * HOUR)
    hub.resolve(A)
    assert seconds_since_use(entry) < 60


def test_the_use_of_a_model_of_tensorflow_hub_is_recorded_too(cache_dir: Path) -> None:
    entry = foreign(cache_dir, A, used=2 * DAY)
    hub.resolve(A)
    assert seconds_since_use(entry) < 60


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)
def test_a_cache_that_cannot_be_written_resolves_though_no_use_is_recorded(
    tmp_path_factory: pytest.TempPathFactory, run_python
) -> None:
    cache = tmp_path_factory.mktemp("readable")
    entry = ours(cache, A, used=2 * DAY)
    let_others_read(cache)
    code = (
        "import os, tfhub_cache as hub\n"
        f"hub.cache.entries(); os.setuid(65534); print(hub.resolve({A!r}))"
    )
    done = run_python(code, env={"TFHUB_CACHE_DIR": cache})
    assert done.check().stdout.strip() == str(entry)
    assert seconds_since_use(entry) > 1 * DAY


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
def test_a_model_that_may_not_be_read_is_reported_as_such_offline(
    tmp_path: Path, run_python
) -> None:
    cache = tmp_path / "cache"
    entry = foreign(cache, A)
    entry.chmod(0o700)
    let_others_read(cache)
    code = (
        "import filelock, os, tfhub_cache as hub\n"
        "hub.cache.entries(); os.setuid(65534)\n"
        "try:\n"
        f"    hub.resolve({A!r})\n"
        "except hub.errors.OfflineError as error:\n"
        "    print(error)\n"
    )
    found = run_python(code, env={"TFHUB_CACHE_DIR": cache, "TFHUB_OFFLINE": "1"}).check().stdout
    assert f"is unreadable (the permission is missing to read {entry})" in found
    assert f"chmod -R a+rX {entry}" in found
    assert "damaged" not in found
    assert "beforehand" not in found


# Listing.


def test_each_state_is_reported(host: Host, cache_dir: Path) -> None:
    ours(cache_dir, A, used=DAY)
    foreign(cache_dir, B)
    (ours(cache_dir, C) / SHARD).unlink()
    left = left_behind(cache_dir, "https://example.com/dead/1")
    (cache_dir / "notes.txt").write_text("not the cache's")
    with being_downloaded(host, "/slow/1", pack_files(MODEL)) as slow:
        found = {entry.key: entry for entry in hub.cache.entries()}
    assert len(found) == 5

    whole = found[key_of(A)]
    assert (whole.handle, whole.state, whole.flaw) == (A, "ok", None)
    assert (whole.size, whole.files) == (sum(map(len, MODEL.values())), len(MODEL))
    assert whole.path == str(cache_dir / key_of(A))
    assert whole.downloaded == datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    age = datetime.datetime.now(datetime.timezone.utc) - whole.used
    assert abs(age.total_seconds() - DAY) < 60

    other = found[key_of(B)]
    assert (other.handle, other.state, other.manifest) == (B, "foreign", None)
    assert (other.size, other.files) == (whole.size, whole.files)
    assert other.downloaded.replace(tzinfo=None, microsecond=0) == datetime.datetime(
        2026, 1, 2, 3, 4, 5
    )

    damaged = found[key_of(C)]
    assert (damaged.handle, damaged.state) == (C, "incomplete")
    assert "is missing" in damaged.flaw
    assert damaged.size == whole.size - 1000

    dead = found[key_of("https://example.com/dead/1")]
    assert (dead.handle, dead.state, dead.is_there) == (None, "incomplete", False)
    assert dead.leftovers == left

    busy = found[key_of(slow)]
    assert (busy.handle, busy.state, busy.leftovers) == (None, "downloading", {})
    assert busy.holder


def test_a_download_that_was_interrupted_is_listed_by_its_handle(
    host: Host, cache_dir: Path
) -> None:
    packed = pack_files(fake_model(size=6_000_000))
    handle = host.publish("/m/1", in_turn(cut(packed, len(packed) * 9 // 10), status(404)))
    with pytest.raises(DownloadError, match="are kept"):
        hub.resolve(handle)
    (entry,) = hub.cache.entries()
    assert (entry.handle, entry.state, entry.holder) == (handle, "incomplete", None)
    assert entry.expected == len(packed)
    assert entry.received is not None
    assert len(packed) * 7 // 10 < entry.received <= len(packed) * 9 // 10
    assert entry == hub.cache.find(handle)
    host.publish("/m/1", packed)
    hub.resolve(handle)
    entry = hub.cache.find(handle)
    assert (entry.state, entry.received, entry.expected) == ("ok", None, None)


def test_a_model_that_is_being_refreshed_is_still_ok(host: Host, cache_dir: Path) -> None:
    release = threading.Event()
    handle = host.publish("/m", pack_files(MODEL))
    hub.resolve(handle)
    host.publish("/m", stall(pack_files(OTHER), 100, release))
    thread = threading.Thread(target=hub.cache.refresh, args=(handle,))
    thread.start()
    host.wait_for_requests(2)
    (entry,) = hub.cache.entries()
    assert (entry.state, entry.is_versioned) == ("ok", False)
    assert entry.holder
    assert hub.cache.remove([handle])[0].error is not None
    release.set()
    thread.join(SOON)
    assert read_files(hub.resolve(handle)) == OTHER


def test_listing_changes_nothing(cache_dir: Path) -> None:
    ours(cache_dir, A, used=2 * DAY)
    left_behind(cache_dir, B)
    before = {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*")}
    hub.cache.entries()
    hub.cache.find(A)
    hub.cache.info(A)
    list(hub.cache.verify())
    hub.cache.prune(max_size=0, unused_for=0, dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in cache_dir.rglob("*")} == before


def test_a_cache_that_is_not_there_is_empty(cache_dir: Path) -> None:
    assert hub.cache.entries() == []
    assert not hub.cache.exists()
    assert hub.cache.free_space() > 0
    assert hub.cache.prune(max_size=0).removed == []
    assert not cache_dir.exists()


def test_a_cache_that_is_a_file_is_an_error_that_names_it(cache_dir: Path) -> None:
    cache_dir.write_text("")
    with pytest.raises(CacheError, match="not a folder") as error:
        hub.cache.entries()
    assert str(cache_dir) in str(error.value)


def test_an_entry_is_found_by_its_handle_or_by_the_name_of_its_folder(cache_dir: Path) -> None:
    ours(cache_dir, A)
    assert hub.cache.find(A) == hub.cache.find(key_of(A))
    with pytest.raises(CacheError, match="not in the cache") as error:
        hub.cache.find(B)
    assert B in str(error.value)


def test_the_progress_of_many_removals_is_logged_where_there_is_no_terminal(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    for number in range(51):
        ours(cache_dir, f"https://example.com/{number}/1", {"saved_model.pb": b"x"})
    now, calls = time.monotonic(), itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: now + 20 * next(calls))  # each is slow
    assert len(hub.cache.remove(["*"])) == 51
    assert "Removing models: 51 of 51" in log.text


def test_words_and_patterns_name_models(cache_dir: Path) -> None:
    spice, longer, nnlm, wiki = handles = [
        f"https://tfhub.dev/google/{name}"
        for name in ("spice/1", "spice/12", "nnlm-en-dim128/2", "Wiki40b-lm-en/1")
    ]
    other = "https://models.example.com/mine/nnlm/3?token=SECRET"
    for handle in (*handles, other):
        ours(cache_dir, handle)
    assert [entry.handle for entry in hub.cache.entries(["spice", wiki])] == [wiki, spice, longer]
    assert hub.cache.find("dim128").handle == nnlm
    assert hub.cache.info("dim128").entry.handle == nnlm
    assert [verified.handle for verified in hub.cache.verify(["*/google/*"])] == ["*/google/*"] * 4
    planned = hub.cache.prune(max_size=0, keep=["spice", other], dry_run=True)
    assert {entry.handle for entry in planned.removed} == {nnlm, wiki}
    removed = hub.cache.remove(["*/spice/*", "nnlm", "none"])
    assert [(one.handle, one.entry and one.entry.handle) for one in removed] == [
        ("*/spice/*", spice),
        ("*/spice/*", longer),
        ("nnlm", None),
        ("none", None),
    ]
    assert "nnlm means 2 models" in str(removed[2].error)
    assert len(hub.cache.entries()) == 3


@pytest.mark.parametrize(
    ("handle", "versioned"),
    [
        ("https://tfhub.dev/google/spice/2", True),
        ("https://tfhub.dev/google/spice/2/", True),
        ("https://tfhub.dev/google/spice/2?x=y", True),
        ("gs://bucket/model/1.tar.gz", True),
        ("https://tfhub.dev/google/spice", False),
        ("https://tfhub.dev/google/v2", False),
        ("https://example.com/model.tar.gz", False),
    ],
)
def test_handles_without_a_version_are_marked(
    cache_dir: Path, handle: str, versioned: bool
) -> None:
    ours(cache_dir, handle)
    assert hub.cache.find(handle).is_versioned is versioned


# Removing and pruning.


def test_removing_leaves_nothing_and_the_next_resolve_downloads(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    hub.resolve(handle)
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None
    assert removed.entry.handle == handle
    assert names(cache_dir) == set()
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 2


def test_what_is_not_there_cannot_be_removed_and_does_not_stop_the_rest(cache_dir: Path) -> None:
    ours(cache_dir, A)
    missing, removed = hub.cache.remove([B, A])
    assert "not in the cache" in str(missing.error)
    assert removed.error is None
    assert names(cache_dir) == set()


def test_what_a_process_downloads_is_neither_removed_nor_pruned(
    host: Host, cache_dir: Path
) -> None:
    with being_downloaded(host, "/slow/1", pack_files(MODEL)) as slow:
        (removed,) = hub.cache.remove([slow])
        assert "another process is downloading it" in str(removed.error)
        hub.cache.prune(max_size=0, unused_for=0)
    assert read_files(cache_dir / key_of(slow)) == MODEL


def test_pruning_removes_what_was_not_used_for_longest_until_the_rest_fits(cache_dir: Path) -> None:
    ours(cache_dir, A, used=3 * DAY)
    foreign(cache_dir, B, used=2 * DAY)
    ours(cache_dir, C, used=1 * DAY)
    size = sum(map(len, MODEL.values()))
    pruned = hub.cache.prune(max_size=size)
    assert [entry.handle for entry in pruned.removed] == [A, B]
    assert (pruned.freed, pruned.size) == (2 * size, size)
    assert {entry.handle for entry in hub.cache.entries()} == {C}


def test_pruning_removes_what_was_not_used_for_some_time(cache_dir: Path) -> None:
    ours(cache_dir, A, used=3 * DAY)
    ours(cache_dir, B, used=1 * DAY)
    assert [entry.handle for entry in hub.cache.prune(unused_for="2d").removed] == [A]
    assert {entry.handle for entry in hub.cache.entries()} == {B}


def test_a_dry_run_reports_the_same_and_removes_nothing(cache_dir: Path) -> None:
    ours(cache_dir, A, used=3 * DAY)
    ours(cache_dir, B, used=1 * DAY)
    left = left_behind(cache_dir, C)
    before = names(cache_dir)
    found = hub.cache.prune("1kB", dry_run=True)
    assert names(cache_dir) == before
    done = hub.cache.prune("1kB")
    assert [entry.key for entry in found.removed] == [entry.key for entry in done.removed]
    assert found.freed == done.freed
    assert found.leftovers == done.leftovers == left
    assert names(cache_dir) == set()


def test_pruning_without_limits_removes_only_what_the_dead_left(cache_dir: Path) -> None:
    entry = ours(cache_dir, A, used=900 * DAY)
    sound = names(cache_dir)
    left = left_behind(cache_dir, B)
    beside = {f"{entry.name}.part": 4, f"{entry.name}.cache-1.tmp": 0}
    (cache_dir / f"{entry.name}.part").write_bytes(b"half")
    (cache_dir / f"{entry.name}.cache-1.tmp").mkdir()
    (cache_dir / "notes.txt").write_text("not the cache's")
    pruned = hub.cache.prune()
    assert (pruned.removed, pruned.leftovers) == ([], left | beside)
    assert names(cache_dir) == {*sound, "notes.txt"}


def test_a_lock_of_another_machine_that_is_not_old_is_respected(cache_dir: Path) -> None:
    ours(cache_dir, A)
    lock = cache_dir / f"{key_of(A)}.lock"
    lock.write_text("elsewhere.1.cache-0123")
    (entry,) = hub.cache.entries()
    assert (entry.state, entry.holder) == ("ok", "elsewhere.1.cache-0123")
    assert [kept.handle for kept in hub.cache.prune(max_size=0).kept] == [A]
    was_used(lock, 2 * HOUR)  # silent for so long: dead by all rules
    assert [gone.handle for gone in hub.cache.prune(max_size=0).removed] == [A]
    assert names(cache_dir) == set()


def test_two_that_prune_at_once_remove_no_more_than_needed(cache_dir: Path, run_python) -> None:
    handles = [f"https://example.com/{number}/1" for number in range(40)]
    for number, handle in enumerate(handles):
        ours(cache_dir, handle, used=(100 - number) * DAY)
    size = sum(map(len, MODEL.values()))
    code = (
        "import sys, tfhub_cache as hub\n"
        "hub.cache.entries(); print('ready', flush=True); sys.stdin.readline()\n"
        f"pruned = hub.cache.prune({10 * size})\n"
        "assert not pruned.errors, pruned.errors\n"
        "print(len(pruned.removed))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    removed = [int(child.communicate(timeout=SOON)[0]) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sum(removed) == 30
    assert {entry.handle for entry in hub.cache.entries()} == set(handles[30:])


def test_whoever_reads_while_others_prune_sees_a_whole_model_or_none(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    code = "import tfhub_cache as hub\nwhile True: hub.cache.prune(max_size=0)"
    whole = gone = 0
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        try:
            while whole < 20 or len(host.requests) < 5:
                path = Path(hub.resolve(handle))
                try:
                    assert {name: (path / name).read_bytes() for name in MODEL} == MODEL
                    whole += 1
                except FileNotFoundError:
                    gone += 1  # between the resolve and the read
                assert process.poll() is None
                assert gone < 10_000
        finally:
            process.kill()


def test_an_entry_that_was_used_or_replaced_since_it_was_looked_at_stays(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = ours(cache_dir, A, used=DAY)
    listdir, looked = os.listdir, []

    def used_meanwhile(path: object) -> list[str]:
        looked.append(path)
        if len(looked) == 2:  # to remove it
            was_used(entry, 0)
        return listdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", used_meanwhile)
        pruned = hub.cache.prune(max_size=0)
    assert [kept.handle for kept in pruned.kept] == [A]
    assert hub.cache.find(A).state == "ok"
    assert [gone.handle for gone in hub.cache.prune(max_size=0).removed] == [A]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can be another user"
)
def test_what_cannot_be_removed_is_reported_and_does_not_stop_the_rest(
    cache_dir: Path, run_python, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for handle in A, B:
        ours(cache_dir, handle, used=DAY)
    let_others_read(cache_dir)
    code = (
        "import filelock, os, tfhub_cache as hub\n"
        "hub.cache.prune(); os.setuid(65534)\n"
        "print(*hub.cache.prune(max_size=0).errors, sep='\\n')\n"
        f"print(hub.cache.remove([{A!r}])[0].error)"
    )
    lines = run_python(code).check().stdout.splitlines()
    assert len(lines) == 3
    assert all("is not removed" in line and "permissions" in line for line in lines)
    assert len(hub.cache.entries()) == 2


def test_a_model_whose_lock_cannot_be_had_stays_and_the_rest_goes(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    for number, handle in enumerate((A, B, C)):
        ours(cache_dir, handle, used=(9 - number) * DAY)
    (cache_dir / f"{key_of(A)}.lock").mkdir()  # so that it is no file
    assert hub.cache.find(A).state == "ok"
    found = hub.cache.remove([A])[0].error
    assert A in str(found)
    assert "permissions" in str(found)
    pruned = hub.cache.prune(unused_for="8d")
    assert len(pruned.errors) == 2  # what was left, and the model
    assert [entry.handle for entry in pruned.removed] == [B]
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "0")
    handle = host.publish("/m/1", pack_files(MODEL))
    hub.resolve(handle)
    assert any(f"Could not remove '{A}'" in record.getMessage() for record in log.records)
    assert {entry.handle for entry in hub.cache.entries()} == {A, handle}


# The limit.


def test_a_download_that_makes_the_cache_too_large_removes_what_was_not_used_for_longest(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    ours(cache_dir, A, used=3 * DAY)
    ours(cache_dir, B, used=2 * DAY)
    size = sum(map(len, MODEL.values()))
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", f"{2 * size}B")
    handle = host.publish("/m/1", pack_files(MODEL))
    hub.resolve(handle)
    assert {entry.handle for entry in hub.cache.entries()} == {B, handle}
    lines = [r.getMessage() for r in log.records if "from the cache" in r.getMessage()]
    assert len(lines) == 1
    assert f"Removed '{A}'" in lines[0]


def test_without_a_limit_nothing_is_removed(host: Host, cache_dir: Path) -> None:
    ours(cache_dir, A, used=900 * DAY)
    hub.resolve(host.publish("/m/1", pack_files(MODEL)))
    assert len(hub.cache.entries()) == 2


def test_what_was_used_in_the_last_hour_or_is_new_or_is_downloaded_stays(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """The recorded use may be an hour old when the model was used a minute ago."""
    ours(cache_dir, A, used=1.9 * HOUR)
    ours(cache_dir, B, used=2.1 * HOUR)
    with being_downloaded(host, "/slow/1", pack_files(MODEL)) as slow:
        monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "0")
        handle = host.publish("/m/1", pack_files(MODEL))
        hub.resolve(handle)
        monkeypatch.delenv("TFHUB_CACHE_MAX_SIZE")
    assert {entry.handle for entry in hub.cache.entries()} == {A, handle, slow}
    assert any("more than the 0 B that it may have" in r.getMessage() for r in log.records)


def test_how_long_a_used_model_stays_can_be_set(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(cache_dir, A, used=2 * DAY)
    ours(cache_dir, B, used=0)
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "0")
    monkeypatch.setenv("TFHUB_CACHE_KEEP_USED", "3d")
    first = host.publish("/m/1", pack_files(MODEL))
    hub.resolve(first)
    assert {entry.handle for entry in hub.cache.entries()} == {A, B, first}
    monkeypatch.setenv("TFHUB_CACHE_KEEP_USED", "0s")
    second = host.publish("/m/2", pack_files(MODEL))
    hub.resolve(second)
    assert {entry.handle for entry in hub.cache.entries()} == {second}


@pytest.mark.parametrize(
    ("name", "value"), [("TFHUB_CACHE_MAX_SIZE", "1.5"), ("TFHUB_CACHE_KEEP_USED", "soon")]
)
def test_a_limit_that_makes_no_sense_is_an_error_that_names_it(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{name}: invalid [a-z]+ '{value}': write") as error:
        hub.resolve(host.publish("/m/1", pack_files(MODEL)))
    assert "such as" in str(error.value)
    ours(cache_dir, A)
    assert hub.resolve(A)  # what is cached does not depend on it


# Refreshing.


def test_refreshing_replaces_the_model_when_the_new_one_is_complete(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m", pack_files(MODEL))
    path = hub.resolve(handle)
    release = threading.Event()
    host.publish("/m", stall(pack_files(OTHER), 100, release))
    done: list[str] = []
    thread = threading.Thread(target=lambda: done.append(hub.cache.refresh(handle)))
    thread.start()
    host.wait_for_requests(2)
    assert read_files(hub.resolve(handle)) == MODEL
    release.set()
    thread.join(SOON)
    assert done == [path]
    assert read_files(path) == OTHER
    assert hub.cache.find(handle).state == "ok"
    assert names(cache_dir) == {
        key_of(handle),
        f"{key_of(handle)}.manifest.json",
        f"{key_of(handle)}.descriptor.txt",
    }


def test_a_refresh_that_fails_leaves_the_model_as_it_was(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m", pack_files(MODEL))
    hub.resolve(handle)
    before = read_files(cache_dir)
    host.publish("/m", status(404))
    with pytest.raises(DownloadError, match="404"):
        hub.cache.refresh(handle)
    host.publish("/m", archive(pack_files(OTHER)[:-100]))
    with pytest.raises(OSError, match=r"valid module|promised"):
        hub.cache.refresh(handle)
    assert read_files(cache_dir) == before


def test_refreshing_what_is_not_cached_downloads_it(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m", pack_files(MODEL))
    assert read_files(hub.cache.refresh(handle)) == MODEL


def test_refreshing_a_path_or_with_a_resolver_of_ones_own_resolves_it(
    cache_dir: Path, tmp_path: Path
) -> None:
    class Mine:
        def is_supported(self, handle: str) -> bool:
            return handle.startswith("mine://")

        def __call__(self, handle: str) -> str:
            return "/mine"

    assert hub.cache.refresh(str(tmp_path)) == str(tmp_path)
    implementations = hub.registry.resolver._impls
    hub.registry.resolver.add_implementation(Mine())
    try:
        assert hub.cache.refresh("mine://x") == "/mine"
    finally:
        implementations.pop()


# Many at a time.


def test_handles_are_resolved_several_at_a_time_and_reported_in_their_order(
    host: Host, cache_dir: Path
) -> None:
    together = threading.Barrier(3)
    packed = pack_files(MODEL)

    def wait_for_the_others(request) -> None:
        together.wait(SOON)
        archive(packed)(request)

    handles = [host.publish(f"/m/{number}", wait_for_the_others) for number in range(3)]
    handles += ["/nowhere", handles[0]]
    resolved = list(hub.cache.resolve_all(handles, jobs=3))
    assert [one.handle for one in resolved] == handles
    assert [one.path and Path(one.path).name for one in resolved] == [
        *map(key_of, handles[:3]),
        None,
        key_of(handles[0]),
    ]
    assert "does not exist" in str(resolved[3].error)
    assert len(host.requests) == 3


def test_closing_the_generator_stops_the_downloads_and_cleans_up(
    host: Host, cache_dir: Path
) -> None:
    release = threading.Event()
    slow = [host.publish(f"/slow/{n}", stall(pack_files(MODEL), 500, release)) for n in (1, 2)]
    quick = host.publish("/m/1", pack_files(MODEL))
    resolving = hub.cache.resolve_all([quick, *slow], jobs=3)
    assert next(resolving).path
    host.wait_for_requests(3)
    resolving.close()
    release.set()
    assert names(cache_dir) == {
        key_of(quick),
        f"{key_of(quick)}.manifest.json",
        f"{key_of(quick)}.descriptor.txt",
    }


def test_what_is_resolved_together_does_not_make_room_for_each_other(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "0")
    monkeypatch.setenv("TFHUB_CACHE_KEEP_USED", "0s")
    old = ours(cache_dir, A)
    handles = [host.publish(f"/m/{number}", pack_files(MODEL)) for number in range(4)]
    paths = [resolved.path for resolved in hub.cache.resolve_all(handles, jobs=2)]
    assert all(path and read_files(path) == MODEL for path in paths)
    assert not old.exists()
    hub.resolve(host.publish("/m/4", pack_files(MODEL)))
    assert not any(path and Path(path).exists() for path in paths)


def test_what_the_dead_left_goes_with_the_model(cache_dir: Path) -> None:
    ours(cache_dir, A)
    left_behind(cache_dir, A)
    ours(cache_dir, A)
    (removed,) = hub.cache.remove(hub.cache.entries())
    assert (removed.handle, removed.error) == (A, None)
    assert names(cache_dir) == set()


# Verifying.


def flip(path: Path) -> None:
    """Changes a bit, as a tired disk does: the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_bit_that_flipped_is_found_and_fixed(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    path = Path(hub.resolve(handle))
    ours(cache_dir, A)
    flip(path / SHARD)
    found = {one.handle: one for one in hub.cache.verify()}
    assert found[A].is_sound
    assert found[A].compared
    assert not found[handle].is_sound
    (problem,) = found[handle].problems
    assert problem.startswith(f"{SHARD} has other contents: sha256 ")
    (fixed,) = hub.cache.verify([handle], fix=True)
    assert (fixed.is_sound, fixed.fixed) == (True, True)
    assert read_files(path) == MODEL
    assert all(one.is_sound and not one.problems for one in hub.cache.verify())


def test_missing_short_and_added_files_are_found(cache_dir: Path) -> None:
    entry = ours(cache_dir, A)
    (entry / "saved_model.pb").unlink()
    (entry / SHARD).write_bytes(b"short")
    (entry / "assets" / "added.txt").write_bytes(b"")
    (entry / "assets" / "vocab.txt").unlink()
    (entry / "assets" / "vocab.txt").mkdir()
    (verified,) = hub.cache.verify([A])
    assert sorted(verified.problems) == [
        "assets/added.txt is not part of it",
        "assets/vocab.txt can't be read: It is not a regular file",
        "saved_model.pb is missing",
        f"{SHARD} has 5 bytes instead of 1000",
    ]


def test_a_model_of_tensorflow_hub_has_nothing_to_be_compared_with(cache_dir: Path) -> None:
    entry = foreign(cache_dir, A)
    (verified,) = hub.cache.verify()
    assert (verified.is_sound, verified.compared) == (True, False)
    (entry / "variables" / "variables.index").unlink()
    (verified,) = hub.cache.verify()
    assert not verified.is_sound


def test_what_cannot_be_fetched_again_says_why(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", status(404))
    flip(ours(cache_dir, handle) / SHARD)
    unknown = foreign(cache_dir, B, descriptor=False)
    (unknown / "saved_model.pb").unlink()
    strange = "ftp://example.com/m/1"
    flip(ours(cache_dir, strange) / SHARD)
    found = {one.handle: one for one in hub.cache.verify(fix=True)}
    assert "nothing that can be fetched" in str(found[strange].error)
    assert "404" in str(found[handle].error)
    assert "its handle is not known" in str(found[key_of(B)].error)
    assert {name: one.error.handle for name, one in found.items()} == {name: name for name in found}
    assert not any(one.is_sound for one in found.values())
    assert (cache_dir / key_of(handle) / SHARD).exists()


def test_a_manifest_of_another_handle_is_found(cache_dir: Path) -> None:
    ours(cache_dir, A)
    ours(cache_dir, B)
    text = (cache_dir / f"{key_of(B)}.manifest.json").read_text()
    (cache_dir / f"{key_of(A)}.manifest.json").write_text(text)
    (verified,) = hub.cache.verify([A])
    assert verified.problems == ("its manifest is that of another handle",)


def test_a_manifest_of_another_handle_names_neither_that_nor_its_secret(cache_dir: Path) -> None:
    signed = f"{A}?signature=SECRET"
    sound = ours(cache_dir, signed)
    bad = ours(cache_dir, B)
    Path(f"{bad}.manifest.json").write_text(Path(f"{sound}.manifest.json").read_text())
    found = {one.handle: one for one in hub.cache.verify(fix=True)}
    assert set(found) == {signed, bad.name}
    error = found[bad.name].error
    assert str(error).endswith(f"tfhub-cache rm {bad.name}")
    assert "SECRET" not in str(error)
    assert {entry.key: entry.handle for entry in hub.cache.entries()} == {
        sound.name: signed,
        bad.name: None,
    }


def test_an_entry_whose_handle_nothing_names_is_fetched_again_by_the_handle(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    entry = foreign(cache_dir, handle, descriptor=False)
    (entry / "saved_model.pb").unlink()
    (verified,) = hub.cache.verify([handle], fix=True)
    assert (verified.error, verified.fixed) == (None, True)
    assert read_files(entry) == MODEL


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("downloaded", "time"), 5),
        (("downloaded", "pid"), "many"),
        (("files", 0, "path"), 7),
        (("files", 0, "path"), "/etc/passwd"),
        (("files", 0, "path"), "variables/../../other"),
        (("files", 0, "path"), ""),
        (("files", 0, "path"), "a\0b"),
        (("files", 0, "size"), 1.5),
        (("files", 0, "size"), True),
        (("files", 0, "size"), -1),
        (("files", 0, "sha256"), None),
        (("archive_size",), "many"),
        (("handle",), [A]),
        (("validators",), {"ETag": 1}),
    ],
)
def test_a_manifest_of_nonsense_is_damage_and_heals(
    host: Host, cache_dir: Path, where: tuple[str | int, ...], value: object
) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    file = Path(f"{ours(cache_dir, handle)}.manifest.json")
    data = inner = json.loads(file.read_text())
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    file.write_text(json.dumps(data))
    (entry,) = hub.cache.entries()
    assert (entry.state, entry.flaw) == ("incomplete", "its manifest can't be read")
    assert hub.cache.info(handle).entry.state == "incomplete"
    assert read_files(hub.resolve(handle)) == MODEL
    assert hub.cache.find(handle).state == "ok"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
def test_a_pipe_in_place_of_a_lock_file_hides_no_other_model(cache_dir: Path) -> None:
    ours(cache_dir, A)
    os.mkfifo(cache_dir / f"{key_of(B)}.lock")
    found = {entry.key: entry.state for entry in hub.cache.entries()}
    assert found == {key_of(A): "ok", key_of(B): "incomplete"}
    with pytest.raises(CacheError, match="It is not a regular file"):
        hub.resolve(B)


# Settings.


def test_settings_are_reported_with_their_sources_and_without_secrets(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    monkeypatch.setenv("http_proxy", "user:secret@proxy:3128")
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "soon")
    environment = hub.cache.environment()
    found = {setting.name: setting for setting in environment.settings}
    assert found["TFHUB_CACHE_DIR"].value == str(cache_dir)
    assert found["TFHUB_CACHE_DIR"].source == "environment"
    assert found["TFHUB_LOCK_TIMEOUT"].source == "default"
    assert found["HTTPS_PROXY"].value == "http://proxy:3128"
    assert found["http_proxy"].value == "proxy:3128"
    assert "secret" not in repr(environment)
    assert environment.versions["tfhub-cache"] == hub.__version__
    (problem,) = environment.problems
    assert problem.startswith("TFHUB_HTTP_TIMEOUT: invalid duration 'soon': write a number")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("TFHUB_MIRROR", "https://me:sec,ret@hub.example", "https://hub.example"),
        ("TFHUB_MIRROR", "https://me:se/cret@hub.example/a", "https://hub.example/a"),
        ("TFHUB_MIRROR", "https://me:se?cret@hub.example", "https://hub.example"),
        ("TFHUB_MIRROR", "https://me:s@cret@hub.example", "https://hub.example"),
        ("TFHUB_MIRROR", "me:sec,ret@hub.example,direct", "hub.example,direct"),
        ("TFHUB_MIRROR", "https://a:b@one.example,direct", "https://one.example,direct"),
        (
            "TFHUB_MIRROR",
            "https://a:b@one.example/x,https://c:d@two.example",
            "https://one.example/x,https://two.example",
        ),
        ("HTTPS_PROXY", "me:se/cret@proxy:3128", "proxy:3128"),
        ("HTTPS_PROXY", "http://me:se#cret@proxy:3128", "http://proxy:3128"),
        ("NO_PROXY", "localhost,.example.com", "localhost,.example.com"),
        ("HTTP_PROXY", "//me:secret@proxy:3128", "proxy:3128"),
        ("https_proxy", "/me:secret@proxy", "proxy"),
        ("ALL_PROXY", "~me:secret@proxy", "proxy"),
        ("ALL_PROXY", "http:/me:secret@proxy", "proxy"),
        ("ALL_PROXY", "me:secret%40proxy:3128", "proxy:3128"),
        ("ALL_PROXY", "http://me:secret@proxy/?token=secret", "http://proxy/"),
        ("TFHUB_MIRROR", "//me:secret@hub.example,direct", "hub.example,direct"),
        ("STORAGE_EMULATOR_HOST", "//me:secret@127.0.0.1:4443", "127.0.0.1:4443"),
        ("TFHUB_LOCKFILE", "/home/me@work/models.lock", "/home/me@work/models.lock"),
    ],
)
def test_a_password_that_is_not_escaped_is_not_shown_either(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str
) -> None:
    monkeypatch.setenv(name, value)
    found = {setting.name: setting.value for setting in hub.cache.environment().settings}
    assert found[name] == shown


def test_a_query_is_not_shown_whatever_scheme_its_url_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "simplecache::https://u:pw@host/folder?token=s3cret")
    assert "s3cret" not in str(hub.cache.environment())


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["", "//", "/", "\\\\", "http://", "HTTP:/", "socks5h:", "~", "."]),
    st.text(st.sampled_from(":/?#@,%40 ~.\n"), max_size=6),
    st.text(st.sampled_from(":/?#@,%40 ~.\n"), max_size=6),
    st.sampled_from(["@", "%40"]),
)
def test_a_proxy_is_reported_without_the_login_however_it_is_written(
    scheme: str, before: str, after: str, at: str
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}us3r{before}:s3cret{after}{at}proxy:3128")
        found = {setting.name: setting.value for setting in hub.cache.environment().settings}
    assert "us3r" not in found["HTTP_PROXY"]
    assert "s3cret" not in found["HTTP_PROXY"]
    assert found["HTTP_PROXY"].endswith("proxy:3128")


def test_a_lock_file_that_is_not_there_and_odd_connections_are_problems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "abc")
    monkeypatch.setenv("TFHUB_LOCKFILE", str(tmp_path / "models.lock"))
    connections, lock = hub.cache.environment().problems
    assert connections == (
        "TFHUB_DOWNLOAD_CONNECTIONS: invalid number 'abc': write a whole number of at least 1."
    )
    assert lock.startswith(f"The lock file {tmp_path / 'models.lock'} can't be used: No such")


def test_a_flag_is_reported_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from absl import flags

    monkeypatch.setattr(flags.FLAGS["tfhub_cache_max_size"], "value", "20GB")
    found = {setting.name: setting for setting in hub.cache.environment().settings}
    setting = found["TFHUB_CACHE_MAX_SIZE"]
    assert (setting.value, setting.source, setting.flag) == (
        "20GB",
        "flag",
        "tfhub_cache_max_size",
    )
