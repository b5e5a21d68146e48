"""Full disks, folders that can't be written, bad connections, hostile servers, Ctrl-C."""

from __future__ import annotations

import io
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import models
import pytest
from checker import NOBODY, Checker
from children import Child, names_in, names_without_part, resolve_here
from entries import key_of
from servers import Host, Request, cut, in_turn, redirect, stall
from servers import archive as served
from waiting import SOON, until

import tfhub_cache
from tfhub_cache.errors import ArchiveError, CacheError, DownloadError

Children = Callable[..., Child]
DATA = "variables/variables.data-00000-of-00001"


# Disks that are full.


@pytest.fixture
def small_disk(disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Checker:
    """A cache on a disk of 8 MB; the long model takes 6 of them."""
    folder = disk("size=8m") / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    return Checker(folder)


def fill(folder: Path) -> Path:
    """Writes a file into a folder until its disk is full."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    assert shutil.disk_usage(folder).free == 0
    return path


def test_a_model_that_does_not_fit_on_the_disk_is_an_error_and_leaves_nothing(
    host: Host, small_disk: Checker, packed: bytes
) -> None:
    """Promise 9: disk full."""
    too_large = models.pack_files(models.fake_model(size=9_000_000))
    handle = host.publish("/demo/large/1", too_large)
    with pytest.raises(CacheError, match="No space left") as caught:
        tfhub_cache.resolve(handle)
    assert handle in str(caught.value)
    assert "TFHUB_CACHE_DIR" in str(caught.value)
    assert names_in(small_disk.cache) == []
    small = host.publish("/demo/small/1", packed)
    tfhub_cache.resolve(small)
    small_disk.is_all(small)


def test_a_disk_that_is_filled_in_the_middle_of_a_file_is_an_error_and_leaves_nothing(
    host: Host,
    child: Children,
    small_disk: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
) -> None:
    """Promise 9: disk full (ENOSPC) in the middle."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(long_packed, 3_000_000, release))
    one = child(handle, cache=small_disk.cache)
    host.wait_for_requests(1)
    until(lambda: any(path.stat().st_size for path in small_disk.cache.glob(f"*.tmp/{DATA}")))
    filler = fill(small_disk.cache.parent)
    release.set()
    outcome = one.outcome()
    assert "CacheError" in outcome.error
    assert "No space left" in outcome.message
    assert handle in outcome.message
    assert names_in(small_disk.cache) == []
    filler.unlink()
    one.resolve_again().check()
    assert small_disk.is_whole(handle, long_model)
    small_disk.is_all(handle)


@pytest.mark.parametrize(
    "step",
    [
        "write",
        "make folder <key>.<uid>.tmp",
        "make <key>.<uid>.descriptor.tmp",
        "make <key>.<uid>.manifest.tmp",
        "rename <key>.<uid>.tmp to <key>",
    ],
)
@pytest.mark.parametrize("again", ["the same process", "another process"])
def test_a_disk_that_is_filled_at_a_step_costs_at_most_that_download(
    step: str,
    again: str,
    host: Host,
    child: Children,
    small_disk: Checker,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 9: disk full, not even room for the lock file's content or the manifest."""
    handle = host.publish("/demo/model/1", packed)
    one = child(handle, cache=small_disk.cache, stop_at=step)
    one.wait_for_stop()
    filler = fill(small_disk.cache.parent)
    one.go_on()
    outcome = one.outcome()
    if outcome.error:
        assert "CacheError" in outcome.error
        assert "No space left" in outcome.message
        assert names_in(small_disk.cache) == []
    filler.unlink()
    if again == "the same process":
        one.resolve_again().check()
    else:
        child(handle, cache=small_disk.cache).outcome().check()
    assert small_disk.is_whole(handle, model)
    small_disk.is_all(handle)


def test_a_disk_without_room_for_another_file_is_an_error_and_leaves_nothing(
    host: Host, disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, packed: bytes
) -> None:
    """Promise 9: quotas and inodes run out too."""
    for files in 4, 5, 6, 7, 8, 9, 10:
        cache = disk(f"size=8m,nr_inodes={files}") / "cache"
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
        handle = host.publish("/demo/model/1", packed)
        with pytest.raises(CacheError, match="No space left"):
            tfhub_cache.resolve(handle)
        assert names_in(cache) == []


def test_a_damaged_entry_stays_as_it_is_when_the_disk_is_full(
    host: Host, small_disk: Checker, long_model: dict[str, bytes], long_packed: bytes
) -> None:
    """Promise 4 and 9: what can't be mended for want of space stays untouched."""
    handle = host.publish("/demo/model/1", long_packed)
    tfhub_cache.resolve(handle)
    (small_disk.entry(handle) / "saved_model.pb").unlink()
    rest = models.read_files(small_disk.entry(handle))
    with pytest.raises(CacheError, match="No space left"):
        tfhub_cache.resolve(handle)
    assert small_disk.is_whole(handle, rest)
    small_disk.is_all(handle)


# Folders that can't be written.


def test_a_read_only_cache_serves_what_it_has_and_refuses_the_rest_at_once(
    host: Host, disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, packed: bytes
) -> None:
    """Promise 9: a read-only cache with the entry present resolves; absent is a clear error."""
    folder = disk("size=8m")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    there, absent = (host.publish(f"/demo/model/{number}", packed) for number in (1, 2))
    path = tfhub_cache.resolve(there)
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    asked = len(host.requests)
    assert tfhub_cache.resolve(there) == path
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "600")  # no process waits that long
    with pytest.raises(CacheError, match="Read-only file system") as caught:
        tfhub_cache.resolve(absent)
    assert absent in str(caught.value)
    assert "TFHUB_CACHE_DIR" in str(caught.value)
    assert len(host.requests) == asked
    Checker(folder).is_all(there)


def test_a_cache_of_another_user_serves_what_it_has_and_refuses_the_rest_at_once(
    host: Host, child: Children, public_dir: Path, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 9: a cache dir owned by another user."""
    there, absent = (host.publish(f"/demo/model/{number}", packed) for number in (1, 2))
    cache = Checker(public_dir / "cache")
    child(there, cache=cache.cache).outcome().check()
    asked = len(host.requests)
    assert child(there, cache=cache.cache, uid=NOBODY).outcome().check().path
    env = {"TFHUB_LOCK_TIMEOUT": "600"}  # no process waits that long
    refused = child(absent, cache=cache.cache, uid=NOBODY, env=env).outcome()
    assert "CacheError" in refused.error
    assert absent in refused.message
    assert "Permission denied" in refused.message
    assert len(host.requests) == asked
    assert cache.is_whole(there, model)
    cache.is_all(there)


def test_a_cache_that_two_users_may_write_serves_both(
    host: Host, child: Children, public_dir: Path, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 11: a cache shared by several users; one even tidies up after the other."""
    handle = host.publish("/demo/model/1", packed)
    cache = Checker(public_dir / "cache")
    cache.cache.mkdir()
    cache.cache.chmod(0o777)
    killed = child(handle, cache=cache.cache, stop_at="make folder <key>.<uid>.tmp")
    killed.wait_for_stop()
    killed.kill()
    child(handle, cache=cache.cache, uid=NOBODY).outcome().check()
    assert cache.entry(handle).stat().st_uid == NOBODY
    child(handle, cache=cache.cache).outcome().check()
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_permission_that_is_taken_away_in_the_middle_is_an_error_and_the_cache_stays_usable(
    host: Host, child: Children, public_dir: Path, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 9: permission taken away in the middle."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(packed, 1000, release))
    cache = Checker(public_dir / "cache")
    cache.cache.mkdir()
    os.chown(cache.cache, NOBODY, NOBODY)
    one = child(handle, cache=cache.cache, uid=NOBODY)
    host.wait_for_requests(1)
    os.chown(cache.cache, 0, 0)
    cache.cache.chmod(0o555)
    release.set()
    outcome = one.outcome()
    assert "CacheError" in outcome.error
    assert handle in outcome.message
    assert "Permission denied" in outcome.message
    assert not cache.is_whole(handle, model)
    os.chown(cache.cache, NOBODY, NOBODY)
    cache.cache.chmod(0o755)
    one.resolve_again().check()
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


# Links that another user planted.


@pytest.fixture
def victim(as_root: None, tmp_path: Path) -> Path:
    """A folder that another user wants us to write into, or to load from."""
    return models.write_files({"saved_model.pb": b"theirs"}, tmp_path / "victim")


def plant(link: Path, target: Path) -> None:
    """Makes a link that belongs to another user."""
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    os.lchown(link, NOBODY, NOBODY)


def test_a_link_in_place_of_the_cache_is_refused_and_nothing_is_written_through_it(
    host: Host, cache: Checker, victim: Path, packed: bytes
) -> None:
    """Promise 11: no following of symlinks that another user planted in place of the cache."""
    handle = host.publish("/demo/model/1", packed)
    models.write_files({"saved_model.pb": b"theirs"}, victim / key_of(handle))
    there = models.read_files(victim)
    plant(cache.cache, victim)
    with pytest.raises(CacheError, match="link") as caught:
        tfhub_cache.resolve(handle)
    assert handle in str(caught.value)
    assert models.read_files(victim) == there
    assert host.requests == []


def test_a_link_in_place_of_the_lock_is_refused_and_nothing_is_written_through_it(
    host: Host, cache: Checker, victim: Path, packed: bytes
) -> None:
    """Promise 11: no following of symlinks that another user planted in place of a lock."""
    handle = host.publish("/demo/model/1", packed)
    for target in victim / "saved_model.pb", victim / "not there":
        plant(Path(f"{cache.entry(handle)}.lock"), target)
        with pytest.raises(CacheError) as caught:
            tfhub_cache.resolve(handle)
        assert handle in str(caught.value)
        Path(f"{cache.entry(handle)}.lock").unlink()
    assert models.read_files(victim) == {"saved_model.pb": b"theirs"}
    assert host.requests == []
    tfhub_cache.resolve(handle)
    cache.is_all(handle)


def test_a_link_in_place_of_an_entry_is_not_served_but_replaced(
    host: Host, cache: Checker, victim: Path, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 11: no user is served a model that another one put there by a link."""
    handle = host.publish("/demo/model/1", packed)
    plant(cache.entry(handle), victim)
    tfhub_cache.resolve(handle)
    assert not cache.entry(handle).is_symlink()
    assert cache.is_whole(handle, model)
    assert models.read_files(victim) == {"saved_model.pb": b"theirs"}
    cache.is_all(handle)


@pytest.mark.parametrize("suffix", [".descriptor.txt", ".manifest.json"])
def test_a_link_beside_an_entry_is_replaced_and_nothing_is_written_through_it(
    suffix: str, host: Host, cache: Checker, victim: Path, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 11: what stands beside an entry is not written through a link either."""
    handle = host.publish("/demo/model/1", packed)
    plant(Path(f"{cache.entry(handle)}{suffix}"), victim / "saved_model.pb")
    tfhub_cache.resolve(handle)
    assert models.read_files(victim) == {"saved_model.pb": b"theirs"}
    assert not Path(f"{cache.entry(handle)}{suffix}").is_symlink()
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_a_link_in_place_of_a_dead_holders_folder_is_removed_but_not_what_it_leads_to(
    host: Host, child: Children, cache: Checker, victim: Path, packed: bytes
) -> None:
    """Promise 11: tidying up after the dead does not follow links out of the cache."""
    handle = host.publish("/demo/model/1", packed)
    gone = child("not asked for")
    gone.kill()
    uid = "cache-" + "0" * 32
    plant(Path(f"{cache.entry(handle)}.{uid}.tmp"), victim)
    lock = Path(f"{cache.entry(handle)}.lock")
    lock.write_text(f"{socket.gethostname()}.{gone.pid}.{uid}")
    tfhub_cache.resolve(handle)
    assert models.read_files(victim) == {"saved_model.pb": b"theirs"}
    cache.is_all(handle)


# Connections.


def offsets(size: int) -> list[int]:
    """Where connections are cut: at both ends, at limits of buffers, and anywhere."""
    anywhere = random.Random(7)
    at = {0, 1, 2, 5, 6, 7, 10, 18, 511, 512, 8191, 8192, 65_535, 65_536, 262_143, 262_144}
    at |= {size - 1, size - 4, size - 8, size - 9, size // 2}
    return sorted(at | {anywhere.randrange(size) for _ in range(10)})


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_connection_that_is_cut_once_costs_one_request_more(
    framing: str, host: Host, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 5 and 9: a connection cut at any byte; a mismatch is retried from the start."""
    for number, after in enumerate(offsets(len(packed))):
        handle = host.publish(
            f"/demo/model/{number}",
            in_turn(
                cut(packed, after, framing=framing, reset=bool(number % 2), hashes=False),
                served(packed, framing=framing),
            ),
        )
        asked = len(host.requests)
        tfhub_cache.resolve(handle)
        assert len(host.requests) == asked + 2, f"cut after {after}"
        assert cache.is_whole(handle, model)
    assert not [name for name in names_in(cache.cache) if name.endswith((".lock", ".tmp"))]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_connection_that_is_cut_twice_is_an_error_and_leaves_nothing(
    framing: str, host: Host, cache: Checker, packed: bytes
) -> None:
    """Promise 5 and 9: a connection cut at any byte never gives an entry."""
    for number, after in enumerate(offsets(len(packed))):
        # Without an ETag nothing says that a second answer would be the rest of the first.
        reset = bool(number % 2)
        bad = cut(packed, after, framing=framing, reset=reset, hashes=False, etag=False)
        handle = host.publish(f"/demo/model/{number}", bad)
        asked = len(host.requests)
        with pytest.raises((DownloadError, ArchiveError)) as caught:
            tfhub_cache.resolve(handle)
        assert handle in str(caught.value)
        assert len(host.requests) == asked + 2, f"cut after {after}"
        assert names_in(cache.cache) == []


@pytest.mark.parametrize("compression", [None, "bz2", "xz"])
def test_an_archive_of_unknown_length_that_ends_between_two_files_is_an_error(
    compression: models.Compression, host: Host, cache: Checker, model: dict[str, bytes]
) -> None:
    """Promise 1 and 5: the connection's end is no end of an archive."""
    packed = models.pack_files(model, compression=compression)
    after = len(packed) // 2
    if compression is None:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            after = next(one.offset for one in tar if one.name.endswith("vocab.txt"))
    handle = host.publish("/demo/model/1", cut(packed, after, framing="close", hashes=False))
    with pytest.raises((DownloadError, ArchiveError)):
        tfhub_cache.resolve(handle)
    assert names_in(cache.cache) == []


@pytest.mark.parametrize("after", [0, 1000, 3_000_000])
def test_a_server_that_stalls_is_given_up(
    after: int, host: Host, cache: Checker, long_packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a server that stalls (read timeout)."""
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.4")
    handle = host.publish("/demo/model/1", stall(long_packed, after, threading.Event(), etag=False))
    started = time.monotonic()
    with pytest.raises(DownloadError) as caught:
        tfhub_cache.resolve(handle)
    assert time.monotonic() - started < SOON
    assert handle in str(caught.value)
    assert names_without_part(cache.cache) == []


def test_a_server_that_never_answers_is_given_up(
    host: Host, cache: Checker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9: a server that accepts the connection and says nothing."""
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.3")
    handle = host.publish("/demo/model/1", lambda request: request.wait(600))
    with pytest.raises(DownloadError, match="TFHUB_HTTP_TIMEOUT") as caught:
        tfhub_cache.resolve(handle)
    assert handle in str(caught.value)
    assert names_in(cache.cache) == []


def test_offline_a_healthy_cache_works(host: Host, cache: Checker, packed: bytes) -> None:
    """Promise 3: a cached model needs no network."""
    handle = host.publish("/demo/model/1", packed)
    path = tfhub_cache.resolve(handle)
    host.close()
    assert tfhub_cache.resolve(handle) == path
    assert len(host.requests) == 1


def test_offline_a_damaged_entry_is_reported_and_stays_untouched(
    host: Host, cache: Checker, packed: bytes
) -> None:
    """Promise 4: the error says what is missing and that the download failed."""
    handle = host.publish("/demo/model/1", packed)
    tfhub_cache.resolve(handle)
    rest = cache.damage(handle)
    host.close()
    with pytest.raises(DownloadError) as caught:
        tfhub_cache.resolve(handle)
    said = str(caught.value)
    assert handle in said
    assert "variables.data-00000-of-00001 is missing" in said
    assert "failed" in said
    assert "no connection" in said
    assert cache.is_whole(handle, rest)
    cache.is_all(handle)


# Ctrl-C.


@pytest.mark.parametrize("after", [0, 1000, 3_000_000])
def test_ctrl_c_ends_a_download_from_a_server_that_stalls_and_leaves_nothing(
    after: int,
    host: Host,
    child: Children,
    cache: Checker,
    long_model: dict[str, bytes],
    long_packed: bytes,
) -> None:
    """Promise 9: Ctrl-C; the process lives on, as a notebook does, and can try again."""
    release = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(long_packed, after, release), served(long_packed))
    )
    one = child(handle)
    host.wait_for_requests(1)
    if after > 1000:
        until(lambda: any(path.stat().st_size for path in cache.cache.glob(f"*.tmp/{DATA}")))
    else:
        until(lambda: any(cache.cache.glob("*.tmp")))
    one.signal(signal.SIGINT)
    outcome = one.outcome()  # and not after the HTTP timeout, a minute
    assert "KeyboardInterrupt" in outcome.error
    assert names_without_part(cache.cache) == []
    one.resolve_again().check()
    assert len(host.requests) - 2 in (0, 1)  # one more asks for the rest of what is kept
    assert cache.is_whole(handle, long_model)
    cache.is_all(handle)


def test_ctrl_c_while_waiting_for_anothers_download_disturbs_it_not(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 9: Ctrl-C while waiting."""
    release = threading.Event()
    handle = host.publish("/demo/model/1", stall(packed, 1000, release))
    working = child(handle)
    host.wait_for_requests(1)
    waiting = child(handle)
    waiting.wait_for_waiting()
    waiting.signal(signal.SIGINT)
    outcome = waiting.outcome()
    assert "KeyboardInterrupt" in outcome.error
    release.set()
    working.outcome().check()
    waiting.resolve_again().check()
    assert len(host.requests) == 1
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


def test_ctrl_c_pressed_again_while_it_tidies_up_does_not_keep_the_lock(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 9: impatient people press twice; the process lives on, and keeps no other one out."""
    handle = host.publish(
        "/demo/model/1", in_turn(stall(packed, 1000, threading.Event()), served(packed))
    )
    one = child(handle, stop_at="remove tree <key>.<uid>.tmp", action="interrupt")
    host.wait_for_requests(1)
    until(lambda: any(cache.cache.glob("*.tmp")))
    one.signal(signal.SIGINT)
    assert "KeyboardInterrupt" in one.outcome().error
    child(handle).outcome().check()
    one.resolve_again().check()
    assert len(host.requests) == 2
    assert cache.is_whole(handle, model)
    cache.is_all(handle)


@pytest.mark.parametrize(
    "found", ["nothing", pytest.param("a damaged entry", marks=pytest.mark.once)]
)
def test_ctrl_c_at_any_step_leaves_a_sound_cache_and_the_same_process_can_try_again(
    found: str,
    host: Host,
    child: Children,
    cache: Checker,
    tmp_path: Path,
    model: dict[str, bytes],
    packed: bytes,
) -> None:
    """Promise 1 and 9: Ctrl-C; a process that lives on keeps neither its lock nor its folder."""
    handle = host.publish("/demo/model/1", packed)

    cache.cache.mkdir()
    rest: dict[str, bytes] = {}
    if found == "a damaged entry":
        resolve_here(handle)
        rest = cache.damage(handle)
    as_found = tmp_path / "as found"
    shutil.copytree(cache.cache, as_found)

    steps = child(handle, steps=True).outcome().check().steps
    wrong = []
    for number, step in enumerate(steps):
        shutil.rmtree(cache.cache)
        shutil.copytree(as_found, cache.cache)
        one = child(handle, stop_at=number, action="interrupt")
        outcome = one.outcome()
        entry = cache.entry(handle)
        if entry.exists():
            assert models.read_files(entry) in (model, rest), step
        left = [name for name in names_in(cache.cache) if name.endswith((".lock", ".tmp"))]
        is_tidying = step.startswith(("remove", "open <key>.<uid>.old")) or "gone.tmp" in step
        if left and not is_tidying:
            # Who is interrupted while tidying up can't have tidied up.
            wrong.append(f"{number}: {step}: {outcome.error[:1]} left {left}")
        cache_is_free = child(handle)  # or it would wait for ever
        try:
            cache_is_free.outcome().check()
            one.resolve_again().check()
            assert cache.is_whole(handle, model)
        except AssertionError as error:
            wrong.append(f"{number}: {step}: {error}")
        cache_is_free.close()
        one.close()
    assert not wrong, "\n".join(wrong)


# Hostile servers. None of their answers is true, and none ends.


def endless(body: Callable[[], bytes], status: int = 200) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        request.start(status, {"Content-Type": "application/gzip", "Connection": "close"})
        while not request.closing.is_set():
            request.send(body())

    return answer


def gzip_of_zeros() -> bytes:
    return models.pack_files({"saved_model.pb": bytes(1_000_000)})


ENDLESS = {
    "zeros": lambda: bytes(65_536),
    "noise": lambda: random.Random(0).randbytes(65_536),
    "an archive again and again": lambda: gzip_of_zeros(),
    "text": lambda: b"<p>and so on</p>\n" * 4096,
}


@pytest.mark.parametrize("body", ENDLESS)
@pytest.mark.parametrize("behind", ["nothing", "an archive"])
def test_an_endless_body_is_given_up(
    body: str, behind: str, host: Host, child: Children, cache: Checker, packed: bytes
) -> None:
    """Promise 10: endless bodies."""
    first = iter([packed] if behind == "an archive" else [])
    handle = host.publish("/demo/model/1", endless(lambda: next(first, b"") or ENDLESS[body]()))
    outcome = child(handle).outcome()
    assert "OSError" in outcome.error
    assert handle in outcome.message
    assert names_in(cache.cache) == []


@pytest.mark.parametrize("status", [404, 302, 500])
def test_an_endless_body_of_a_refusal_is_not_read(
    status: int, host: Host, child: Children, cache: Checker
) -> None:
    """Promise 10: endless bodies of answers that are no success."""
    handle = host.publish("/demo/model/1", endless(lambda: bytes(65_536), status))
    outcome = child(handle).outcome()
    assert "DownloadError" in outcome.error
    assert handle in outcome.message
    assert names_in(cache.cache) == []


def test_a_file_that_claims_to_be_larger_than_every_disk_is_refused_at_once(
    host: Host, child: Children, cache: Checker
) -> None:
    """Promise 10: an endless file in an archive."""
    info = tarfile.TarInfo("saved_model.pb")
    info.size = 1 << 60
    head = iter([info.tobuf(tarfile.GNU_FORMAT)])
    handle = host.publish("/demo/model/1", endless(lambda: next(head, b"") or bytes(65_536)))
    outcome = child(handle).outcome()
    assert "OSError" in outcome.error
    assert names_in(cache.cache) == []


def test_endless_redirects_are_given_up(host: Host, cache: Checker) -> None:
    """Promise 10: endless redirects, in a circle and to ever new places."""
    in_a_circle = host.route("/circle", redirect("/circle"))
    numbers = itertools.count()
    ever_new = host.route(
        "/new", lambda request: redirect(f"/new/{next(numbers)}?{'x' * 1000}")(request)
    )
    for number in range(100):
        host.route(f"/new/{number}", lambda request: redirect(f"/new/{next(numbers)}")(request))
    for handle in in_a_circle, ever_new:
        asked = len(host.requests)
        with pytest.raises(DownloadError, match="redirected more than") as caught:
            tfhub_cache.resolve(handle)
        assert handle in str(caught.value)
        assert len(host.requests) - asked <= 50
    assert names_in(cache.cache) == []


@pytest.mark.parametrize("length", ["+1", "*2", "-1", "/2", "1", "0"])
def test_a_wrong_content_length_is_an_error_and_leaves_nothing(
    length: str, host: Host, cache: Checker, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5 and 10: wrong lengths, too long or too short."""
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "0.5")
    size = len(packed)
    promised = {"+1": size + 1, "*2": size * 2, "-1": size - 1, "/2": size // 2}
    wrong = promised.get(length, int(length) if length.isdecimal() else 0)

    def answer(request: Request) -> None:
        request.start(200, {"Content-Length": str(wrong)})
        request.send(packed)
        request.cut()

    handle = host.publish("/demo/model/1", answer)
    with pytest.raises((DownloadError, ArchiveError)) as caught:
        tfhub_cache.resolve(handle)
    assert handle in str(caught.value)
    assert names_in(cache.cache) == []


@pytest.mark.parametrize("length", ["-1", "many", "1, 2", "9" * 5000, "\u0663"])
def test_a_content_length_that_is_no_number_never_gives_a_wrong_entry(
    length: str, host: Host, cache: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    """Promise 5 and 10: nonsense in place of a length is an error of the OSError family."""

    def answer(request: Request) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        request.wfile.write(head.encode())
        request.send(packed)
        request.cut()

    handle = host.publish("/demo/model/1", answer)
    try:
        tfhub_cache.resolve(handle)
    except OSError as error:
        assert handle in str(error)  # noqa: PT017 - it may succeed as well
        assert names_in(cache.cache) == []
    else:
        assert cache.is_whole(handle, model)
        cache.is_all(handle)


def send_head(head: bytes) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        request.wfile.write(head)
        request.cut()

    return answer


GIGANTIC = {
    "a header of 10 MB": b"HTTP/1.1 200 OK\r\nX-Much: " + b"x" * 10_000_000 + b"\r\n\r\n",
    "100,000 headers": b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 100_000 + b"\r\n",
    "a status line of 1 MB": b"HTTP/1.1 200 " + b"x" * 1_000_000 + b"\r\n\r\n",
    "a Location of 1 MB": b"HTTP/1.1 302 Found\r\nLocation: /" + b"x" * 1_000_000 + b"\r\n\r\n",
    "a Location of 60 KB": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /"
    + b"x" * 60_000
    + b"\r\n\r\n",
    "a Location that is none": b"HTTP/1.1 302 Found\r\nLocation: http://[::1:x/\r\n\r\n",
    "a Location to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "a Location with a port that is none": b"HTTP/1.1 302 Found\r\n"
    b"Location: http://127.0.0.1:99999999/\r\n\r\n",
    "no HTTP at all": b"\x00\xff SSH-2.0\r\n" * 100,
    "a status that is none": b"HTTP/1.1 9999999999 OK\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("head", GIGANTIC)
def test_gigantic_and_nonsensical_headers_are_errors_of_the_network(
    head: str, host: Host, child: Children, cache: Checker
) -> None:
    """Promise 10: gigantic headers are an OSError, and no other download is disturbed."""
    handle = host.publish("/demo/model/1", send_head(GIGANTIC[head]))
    outcome = child(handle).outcome()
    assert "OSError" in outcome.error, f"{outcome.error}: {outcome.message[:500]}"
    assert handle in outcome.message
    assert len(outcome.message) < 2000 or "60 KB" in head
    assert names_in(cache.cache) == []


def test_a_server_that_says_continue_for_ever_is_given_up(
    host: Host, child: Children, cache: Checker, model: dict[str, bytes]
) -> None:
    """Promise 10: endless headers."""

    def answer(request: Request) -> None:
        while not request.closing.is_set():
            request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    handle = host.publish("/demo/model/1", answer)
    outcome = child(handle, env={"TFHUB_HTTP_TIMEOUT": "1"}).outcome()
    assert "OSError" in outcome.error
    assert names_in(cache.cache) == []
