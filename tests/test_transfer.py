"""Downloads that go on where they broke off, and over as many connections as pay."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from models import fake_model, pack_files, read_files
from servers import (
    SIGNED_QUERY,
    Host,
    Recorded,
    Request,
    archive,
    cut,
    in_turn,
    redirect,
    stall,
    status,
)

import tfhub_cache as hub
from tfhub_cache.errors import DownloadError
from tfhub_cache.transfer.pace import Pace
from tfhub_cache.transfer.pieces import Pieces

MODEL = fake_model(size=6_000_000)
ARCHIVE = pack_files(MODEL)
SIZE = len(ARCHIVE)
OTHER_MODEL = fake_model(size=6_000_000, seed=1)
OTHER_ARCHIVE = pack_files(OTHER_MODEL)
AT_90_PERCENT = SIZE * 9 // 10
RESOLVE = "import sys, tfhub_cache; tfhub_cache.resolve(sys.argv[1])"


def key(handle: str) -> str:
    return hashlib.sha1(handle.encode()).hexdigest()


def first_byte(request: Recorded) -> int:
    """Where a request wants the archive to begin."""
    wanted = re.fullmatch(r"bytes=(\d+)-\d*", request.headers.get("Range", "bytes=0-"))
    assert wanted is not None
    return int(wanted[1])


def names(cache_dir: Path) -> set[str]:
    return {path.name.partition(".")[2] for path in cache_dir.iterdir()}


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def published(host: Host, *answers: Callable[[Request], None]) -> str:
    return host.publish("/m/1", in_turn(*answers))


@pytest.fixture(autouse=True)
def _cache(cache_dir: Path) -> None:
    pass


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr("tfhub_cache.transfer._FIRST_PAUSE", 0.0)


# Going on in the same process.


def test_a_download_that_is_cut_goes_on_where_it_was(host: Host, cache_dir: Path) -> None:
    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL
    first, second = host.requests
    sent_again = AT_90_PERCENT - first_byte(second)
    assert 0 <= sent_again <= 0.02 * SIZE
    assert "Range" not in first.headers
    assert second.headers["If-Range"] == archive(ARCHIVE).tag
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


def test_a_download_that_is_cut_again_and_again_gets_there(host: Host, impatient: None) -> None:
    handle = published(host, cut(ARCHIVE, 1_000_000, reset=True), cut(ARCHIVE, 1_200_000))
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_download_from_a_host_that_sends_no_parts_begins_anew(
    host: Host, impatient: None
) -> None:
    handle = published(
        host, cut(ARCHIVE, AT_90_PERCENT, ranges=False), archive(ARCHIVE, ranges=False)
    )
    assert read_files(hub.resolve(handle)) == MODEL
    assert first_byte(host.requests[-1]) == 0
    assert len(host.requests) == 3  # one of them to find out


def test_an_archive_that_has_changed_on_the_way_is_fetched_anew(
    host: Host, impatient: None
) -> None:
    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), archive(OTHER_ARCHIVE))
    assert read_files(hub.resolve(handle)) == OTHER_MODEL


def test_a_part_of_another_version_is_not_taken(host: Host, impatient: None) -> None:
    """By a host that looks at Range and not at If-Range."""
    part = OTHER_ARCHIVE[AT_90_PERCENT:]

    def careless(request: Request) -> None:
        size = len(OTHER_ARCHIVE)
        first = first_byte_of(request)
        request.answer(
            206,
            OTHER_ARCHIVE[first:],
            {"Content-Range": f"bytes {first}-{size - 1}/{size}", "ETag": '"other"'},
        )

    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), careless, archive(OTHER_ARCHIVE))
    assert part
    assert read_files(hub.resolve(handle)) == OTHER_MODEL
    assert len(host.requests) == 3


def first_byte_of(request: Request) -> int:
    return int(request.headers["Range"].removeprefix("bytes=").partition("-")[0])


@pytest.mark.parametrize("content_range", ["bytes 5-9/10", "bytes 9-1/3", "nonsense", ""])
def test_a_part_that_makes_no_sense_is_not_taken(
    host: Host, impatient: None, content_range: str
) -> None:
    def confused(request: Request) -> None:
        request.answer(206, b"x" * 100, {"Content-Range": content_range, "ETag": '"a"'})

    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), confused, archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_signed_url_that_has_expired_is_asked_for_anew(host: Host, impatient: None) -> None:
    expired = in_turn(cut(ARCHIVE, AT_90_PERCENT), status(403, body="ExpiredToken"))
    old = host.sign("/storage/old", expired)
    new = host.sign("/storage/new", archive(ARCHIVE), SIGNED_QUERY + "&again=1")
    handle = published(host, redirect(old), redirect(new))
    assert read_files(hub.resolve(handle)) == MODEL
    paths = [request.path for request in host.requests]
    assert paths == ["/m/1", "/storage/old", "/storage/old", "/m/1", "/storage/new"]
    assert first_byte(host.requests[-1]) > AT_90_PERCENT * 0.98


def test_the_rest_is_asked_for_where_the_redirects_led(host: Host, impatient: None) -> None:
    signed = host.sign("/storage/m", in_turn(cut(ARCHIVE, AT_90_PERCENT), archive(ARCHIVE)))
    hub.resolve(published(host, redirect(signed)))
    assert [request.path for request in host.requests] == ["/m/1", "/storage/m", "/storage/m"]


# Going on in another call, or another process.


def test_what_has_arrived_of_a_download_that_failed_is_kept(
    host: Host, cache_dir: Path, impatient: None
) -> None:
    dead = in_turn(cut(ARCHIVE, AT_90_PERCENT), status(404))
    handle = published(host, dead, dead)
    with pytest.raises(DownloadError, match=r"(\d+) of (\d+) bytes are kept: try again") as error:
        hub.resolve(handle)
    assert handle in str(error.value)
    assert names(cache_dir) == {"part", "part.json"}
    host.publish("/m/1", archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL
    assert first_byte(host.requests[-1]) > AT_90_PERCENT * 0.98
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_new_process_goes_on_where_a_dead_one_was(
    host: Host, cache_dir: Path, kill: signal.Signals
) -> None:
    release = threading.Event()
    handle = published(host, stall(ARCHIVE, AT_90_PERCENT, release), archive(ARCHIVE))
    part = cache_dir / f"{key(handle)}.part"
    with subprocess.Popen([sys.executable, "-c", RESOLVE, handle], stderr=subprocess.PIPE) as child:
        until(lambda: part.exists() and part.stat().st_size >= AT_90_PERCENT)
        child.send_signal(kill)
        child.wait(20)
    release.set()
    assert read_files(hub.resolve(handle)) == MODEL
    again = host.requests[-1]
    assert AT_90_PERCENT - first_byte(again) <= 0.15 * SIZE
    assert again.headers["If-Range"] == archive(ARCHIVE).tag
    assert len(host.requests) == 2
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


def interrupted(host: Host, cache_dir: Path, *later: Callable[[Request], None]) -> str:
    """A handle of which most is in a part file; `later` are the answers from now on."""
    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), *[status(404)] * 2)
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert (cache_dir / f"{key(handle)}.part").exists()
    published(host, *later)
    return handle


def test_another_version_starts_over(host: Host, cache_dir: Path, impatient: None) -> None:
    handle = interrupted(host, cache_dir, archive(OTHER_ARCHIVE))
    assert read_files(hub.resolve(handle)) == OTHER_MODEL
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


def test_a_part_file_that_has_rotted_is_noticed(
    host: Host, cache_dir: Path, impatient: None
) -> None:
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    with open(cache_dir / f"{key(handle)}.part", "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"rotten")
    assert read_files(hub.resolve(handle)) == MODEL


@pytest.mark.parametrize(
    "garbage", [b"", b"{}\n", b'{"format": 1}\n[0, 5]', b"[1, 2]\n", b"\xff\n", b'{"format": 7}\n']
)
def test_notes_that_make_no_sense_cost_a_download(
    host: Host, cache_dir: Path, impatient: None, garbage: bytes
) -> None:
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    (cache_dir / f"{key(handle)}.part.json").write_bytes(garbage)
    assert read_files(hub.resolve(handle)) == MODEL
    assert first_byte(host.requests[-1]) == 0


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_in_place_of_the_part_file_is_not_followed(
    host: Host, cache_dir: Path, tmp_path: Path, impatient: None
) -> None:
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    part = cache_dir / f"{key(handle)}.part"
    part.unlink()
    part.symlink_to(victim)
    assert read_files(hub.resolve(handle)) == MODEL
    assert victim.read_text() == "mine"


def test_nothing_is_kept_of_a_small_archive(host: Host, cache_dir: Path, impatient: None) -> None:
    small = pack_files(fake_model(size=100_000))
    handle = published(host, cut(small, 50_000), *[status(404)] * 2)
    with pytest.raises(DownloadError, match="Nothing of it was kept"):
        hub.resolve(handle)
    assert names(cache_dir) == set()


# Several connections.

SLOW = SIZE * 2 / 3
"""Bytes per second of each connection, so that one would take a second and a half."""


def test_more_connections_are_made_where_each_is_slow(host: Host) -> None:
    big = pack_files(fake_model(size=12_000_000))
    slow, counted, now, most = archive(big, rate=4e6), threading.Lock(), 0, 0

    def count(request: Request) -> None:
        nonlocal now, most
        with counted:
            now += 1
            most = max(now, most)
        try:
            slow(request)
        finally:
            with counted:
                now -= 1

    assert hub.resolve(host.publish("/m/1", count))
    assert 2 <= most <= 9  # one that has had enough may still be on its way out
    assert sum(length(request, len(big)) for request in host.requests[1:]) <= len(big)


def length(request: Recorded, size: int) -> int:
    first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
    return (int(last) + 1 if last else size) - int(first)


def test_what_several_connections_bring_is_put_together_right(host: Host) -> None:
    model = fake_model(size=12_000_000, seed=2)
    handle = host.publish("/m/1", archive(pack_files(model), rate=4e6))
    assert read_files(hub.resolve(handle)) == model


def test_connections_that_are_all_cut_at_once_go_on(host: Host, impatient: None) -> None:
    """As when a router restarts, or somebody moves from one network to another."""
    model = fake_model(size=12_000_000, seed=3)
    packed = pack_files(model)
    handle = published(host, *[cut(packed, 700_000, rate=4e6)] * 12, archive(packed, rate=4e6))
    assert read_files(hub.resolve(handle)) == model
    assert host.connections > 12


def test_the_number_of_connections_can_be_set(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    assert hub.resolve(host.publish("/m/1", archive(ARCHIVE, rate=SLOW)))
    assert len(host.requests) == 1


@pytest.mark.parametrize("number", ["0", "many", "-1"])
def test_a_number_of_connections_that_makes_no_sense_is_told(
    host: Host, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", number)
    with pytest.raises(ValueError, match="TFHUB_DOWNLOAD_CONNECTIONS"):
        hub.resolve(host.publish("/m/1", ARCHIVE))


def test_a_fast_host_is_asked_once(host: Host) -> None:
    assert hub.resolve(host.publish("/m/1", archive(ARCHIVE)))
    assert len(host.requests) == 1


@pytest.mark.parametrize(
    "options", [{"framing": "chunked"}, {"ranges": False}, {"etag": False}], ids=str
)
def test_one_connection_is_made_where_more_would_not_be_safe(
    host: Host, options: dict[str, object]
) -> None:
    """The size is not known, parts are not offered, or nothing says that they fit together."""
    assert hub.resolve(host.publish("/m/1", archive(ARCHIVE, rate=SLOW, **options)))
    assert len(host.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_host_that_wants_no_second_connection_is_not_pressed(host: Host, code: int) -> None:
    """The first one goes on, and no third one is tried."""
    first = archive(ARCHIVE, rate=SLOW)
    handle = published(host, first, status(code), archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL
    refused = host.requests[1]
    assert len(host.requests) <= 3
    assert all(first_byte(request) == first_byte(refused) for request in host.requests[2:])


def test_a_second_connection_that_gets_the_whole_ends(host: Host) -> None:
    """A host that offers parts and does not send them."""
    counts = itertools.count()
    whole = archive(ARCHIVE, rate=SLOW, ranges=False)

    def answer(request: Request) -> None:
        next(counts)
        fields = [*whole._fixed, ("Accept-Ranges", "bytes"), ("Content-Length", str(SIZE))]
        request.start(200, fields)
        request.send(ARCHIVE, SLOW)

    assert read_files(hub.resolve(host.publish("/m/1", answer))) == MODEL
    assert next(counts) <= 2


# How many connections: the rule, without a network.


def paces(rate: Callable[[int, float], float], most: int = 8, seconds: float = 3.0) -> list[int]:
    """The number of connections over time, if `rate(connections, now)` is what they bring."""
    pace, received, now, waited = Pace(most, 0.0), 0.0, 0.0, 0.0
    numbers = [pace.wanted]
    while now < seconds:
        now += 0.05
        waited += 0.05
        received += 0.05 * rate(pace.wanted, now)
        numbers.append(pace.consider(now, int(received), waited, pace.wanted))
    return [number for number, _ in itertools.groupby(numbers)]


def test_connections_double_as_long_as_each_brings_as_much() -> None:
    assert paces(lambda connections, now: connections * 20e6) == [1, 2, 4, 8]


def test_connections_that_do_not_pay_are_given_up() -> None:
    assert paces(lambda connections, now: 20e6, seconds=1.0) == [1, 2, 1]


def test_connections_that_did_not_pay_are_tried_again_ever_more_rarely() -> None:
    numbers = paces(lambda connections, now: 20e6, seconds=30.0)
    assert numbers.count(2) == 5  # after 1, 2, 4, 8 and 16 seconds


def test_connections_are_added_when_it_pays_later() -> None:
    assert (
        paces(lambda connections, now: 20e6 * (connections if now > 2 else 1), seconds=10)[-1] == 8
    )


def test_connections_are_not_added_where_unpacking_is_what_is_slow() -> None:
    pace = Pace(8, 0.0)
    for step in range(1, 100):
        assert pace.consider(step * 0.05, step * 10_000_000, 0.0, 1) == 1


def test_connections_that_are_still_being_made_are_not_judged() -> None:
    pace = Pace(8, 0.0)
    assert pace.consider(0.2, 4_000_000, 0.2, 1) == 2
    for step in range(5, 40):  # up to two seconds: a far host
        assert pace.consider(step * 0.05, step * 1_000_000, step * 0.05, 1) == 2


def test_pieces_cover_what_is_missing_and_nothing_else() -> None:
    pieces = Pieces([(0, 10_000_000), (20_000_000, 90_000_000)], None)
    taken = []
    while (piece := pieces.take(8)) is not None:
        taken.append(piece)
    assert sum(stop - start for start, stop in taken) == 80_000_000
    assert taken == sorted(taken)
    assert all(
        one[1] == other[0] or other[0] == 20_000_000 for one, other in itertools.pairwise(taken)
    )
