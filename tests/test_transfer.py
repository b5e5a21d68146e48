"""Downloads that go on where they broke off, and over as many connections as pay."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from entries import key_of
from models import fake_model, member, pack_files, read_files
from processes import deny_threads
from servers import (
    SIGNED_QUERY,
    Handler,
    Host,
    Recorded,
    Request,
    archive,
    cut,
    in_turn,
    redirect,
    stall,
    status,
    web_page,
)
from waiting import until

import tfhub_cache as hub
from tfhub_cache.clients.access import Access
from tfhub_cache.errors import ArchiveError, DownloadError, ResolveError, UnsafeArchiveError
from tfhub_cache.resolvers.archives import archive_url
from tfhub_cache.source.http import HttpArchive
from tfhub_cache.store.disk.store import LocalStore
from tfhub_cache.transfer.spool import Identity, Spool
from tfhub_cache.transfer.transfer import Transfer

pytestmark = pytest.mark.libraries

MODEL = fake_model(size=6_000_000)
ARCHIVE = pack_files(MODEL)
SIZE = len(ARCHIVE)
OTHER_MODEL = fake_model(size=6_000_000, seed=1)
OTHER_ARCHIVE = pack_files(OTHER_MODEL)
BIG_MODEL = fake_model(size=20_000_000)
BIG = pack_files(BIG_MODEL)
AT_90_PERCENT = SIZE * 9 // 10
SEGMENT = 1 << 20
"""Bytes that are kept together, of archives of this size."""
RESOLVE = "import sys, tfhub_cache; tfhub_cache.resolve(sys.argv[1])"


def first_byte(request: Recorded) -> int:
    """Where a request wants the archive to begin."""
    wanted = re.fullmatch(r"bytes=(\d+)-\d*", request.headers.get("Range", "bytes=0-"))
    assert wanted is not None
    return int(wanted[1])


def names(cache_dir: Path) -> set[str]:
    return {path.name.partition(".")[2] for path in cache_dir.iterdir()}


def published(host: Host, *answers: Callable[[Request], None]) -> str:
    return host.publish("/m/1", in_turn(*answers))


@pytest.fixture(autouse=True)
def _cache(cache_dir: Path) -> None:
    pass


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


def test_a_download_that_is_cut_again_and_again_gets_there(host: Host, impatient) -> None:
    handle = published(host, cut(ARCHIVE, 1_000_000, reset=True), cut(ARCHIVE, 1_200_000))
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_download_from_a_host_that_sends_no_parts_begins_again(host: Host, impatient) -> None:
    handle = published(
        host, cut(ARCHIVE, AT_90_PERCENT, ranges=False), archive(ARCHIVE, ranges=False)
    )
    assert read_files(hub.resolve(handle)) == MODEL
    assert first_byte(host.requests[-1]) == 0
    assert len(host.requests) == 3  # one of them to find out


def test_an_archive_that_has_changed_on_the_way_is_fetched_again(host: Host, impatient) -> None:
    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), archive(OTHER_ARCHIVE))
    assert read_files(hub.resolve(handle)) == OTHER_MODEL


def test_a_part_of_another_version_is_not_taken(host: Host, impatient) -> None:
    """By a host that looks at Range and not at If-Range."""

    def careless(request: Request) -> None:
        size = len(OTHER_ARCHIVE)
        first = first_byte_of(request)
        request.answer(
            206,
            OTHER_ARCHIVE[first:],
            {"Content-Range": f"bytes {first}-{size - 1}/{size}", "ETag": '"other"'},
        )

    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), careless, archive(OTHER_ARCHIVE))
    assert read_files(hub.resolve(handle)) == OTHER_MODEL
    assert len(host.requests) == 3


def first_byte_of(request: Request) -> int:
    return int(request.headers["Range"].removeprefix("bytes=").partition("-")[0])


@pytest.mark.parametrize("content_range", ["bytes 5-9/10", "bytes 9-1/3", "nonsense", ""])
def test_a_part_that_makes_no_sense_is_not_taken(host: Host, impatient, content_range: str) -> None:
    def confused(request: Request) -> None:
        request.answer(206, b"x" * 100, {"Content-Range": content_range, "ETag": '"a"'})

    handle = published(host, cut(ARCHIVE, AT_90_PERCENT), confused, archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_signed_url_that_has_expired_is_asked_for_again(host: Host, impatient) -> None:
    expired = in_turn(cut(ARCHIVE, AT_90_PERCENT), status(403, body="ExpiredToken"))
    old = host.sign("/storage/old", expired)
    new = host.sign("/storage/new", archive(ARCHIVE), SIGNED_QUERY + "&again=1")
    handle = published(host, redirect(old), redirect(new))
    assert read_files(hub.resolve(handle)) == MODEL
    paths = [request.path for request in host.requests]
    assert paths == ["/m/1", "/storage/old", "/storage/old", "/m/1", "/storage/new"]
    assert first_byte(host.requests[-1]) > AT_90_PERCENT * 0.98


def test_the_rest_is_asked_for_where_the_redirects_led(host: Host, impatient) -> None:
    signed = host.sign("/storage/m", in_turn(cut(ARCHIVE, AT_90_PERCENT), archive(ARCHIVE)))
    hub.resolve(published(host, redirect(signed)))
    assert [request.path for request in host.requests] == ["/m/1", "/storage/m", "/storage/m"]


# Going on in another call, or another process.


def test_what_has_arrived_of_a_download_that_failed_is_kept(
    host: Host, cache_dir: Path, impatient
) -> None:
    dead = in_turn(cut(ARCHIVE, AT_90_PERCENT), status(404))
    handle = published(host, dead, dead)
    with pytest.raises(DownloadError, match=r"(\d+) of (\d+) bytes are kept: try again") as error:
        hub.resolve(handle)
    assert handle in str(error.value)
    assert names(cache_dir) == {"part", "part.json"}
    host.publish("/m/1", archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL
    assert 0 <= AT_90_PERCENT - first_byte(host.requests[-1]) < SEGMENT
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_new_process_goes_on_where_a_dead_one_was(
    host: Host, cache_dir: Path, kill: signal.Signals
) -> None:
    release = threading.Event()
    handle = published(host, stall(ARCHIVE, AT_90_PERCENT, release), archive(ARCHIVE))
    part = cache_dir / f"{key_of(handle)}.part"
    with subprocess.Popen([sys.executable, "-c", RESOLVE, handle], stderr=subprocess.PIPE) as child:
        until(lambda: part.exists() and part.stat().st_size >= AT_90_PERCENT)
        child.send_signal(kill)
        child.wait(20)
    release.set()
    assert read_files(hub.resolve(handle)) == MODEL
    again = host.requests[-1]
    assert 0 <= AT_90_PERCENT - first_byte(again) < SEGMENT
    assert again.headers["If-Range"] == archive(ARCHIVE).tag
    assert len(host.requests) == 3  # of which the second shows that it is still the same archive
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


def interrupted(
    host: Host,
    cache_dir: Path,
    *later: Callable[[Request], None],
    packed: bytes = ARCHIVE,
    after: int | None = None,
) -> str:
    """A handle of which most is in a part file; `later` are the answers from now on."""
    broken = cut(packed, after or len(packed) * 9 // 10, hashes=False)
    handle = published(host, broken, *[status(404)] * 2)
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert (cache_dir / f"{key_of(handle)}.part").exists()
    published(host, *later)
    return handle


@pytest.mark.parametrize("size", [6_000_000, 1000], ids=["large", "small"])
def test_another_version_starts_over(host: Host, cache_dir: Path, impatient, size: int) -> None:
    other = fake_model(size=size, seed=1)
    handle = interrupted(host, cache_dir, archive(pack_files(other)))
    assert read_files(hub.resolve(handle)) == other
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


NOTES = b'{"format": 4, "handle": "h", "size": %d, "version": "%s"}\n' % (
    SIZE,
    archive(ARCHIVE).tag.replace('"', '\\"').encode(),
)
"""The first line of the notes that belong to the archive, with the handle left open."""


def write_notes(cache_dir: Path, handle: str, notes: bytes) -> None:
    notes = notes.replace(b'"h"', json.dumps(handle).encode())
    (cache_dir / f"{key_of(handle)}.part.json").write_bytes(notes)


@pytest.mark.parametrize("rot", [b"rotten", bytes(100_000)], ids=["rot", "a power failure"])
@pytest.mark.parametrize("compression", ["gz", None])
def test_a_part_file_that_is_not_as_it_was_written_is_noticed(
    host: Host,
    cache_dir: Path,
    impatient,
    rot: bytes,
    compression: Literal["gz"] | None,
) -> None:
    """Also of a plain archive without checksums, in which nothing else would tell."""
    packed = pack_files(MODEL, compression=compression)
    handle = interrupted(host, cache_dir, archive(packed, hashes=False), packed=packed)
    with open(cache_dir / f"{key_of(handle)}.part", "r+b") as file:
        file.seek(SIZE // 2)
        file.write(rot)
    assert read_files(hub.resolve(handle)) == MODEL
    damaged = SIZE // 2 // SEGMENT * SEGMENT
    assert min(first_byte(request) for request in host.requests[-2:]) == damaged


def test_what_is_kept_is_used_up_to_where_the_file_ends(
    host: Host, cache_dir: Path, impatient
) -> None:
    """As a power failure leaves a file whose size was not yet on the disk."""
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    os.truncate(cache_dir / f"{key_of(handle)}.part", SIZE // 2)
    assert read_files(hub.resolve(handle)) == MODEL
    assert 0.3 * SIZE < first_byte(host.requests[-1]) <= 0.5 * SIZE


@pytest.mark.parametrize(
    "garbage",
    [
        *(b"", b"{}\n", b'{"format": 1}\n[0, 5]', b"[1, 2]\n", b"\xff\n", b'{"format": 7}\n'),
        *(NOTES + line for line in (b"[0]", b"[0.0, 1]", b'"x"', b"[-1, 0]", b"[true, false]")),
        *(NOTES + line for line in (b"[6, 0]", b"[0, 1, 2]", b"[Infinity, 0]", b"[0, 1e400]")),
        *(NOTES + line for line in (b"[%d, 0]" % 10**400, b"[0, " + b"[" * 100_000, b"[0, 1")),
        NOTES.replace(b"%d" % SIZE, b"%d" % 10**400),
        NOTES.replace(b"%d" % SIZE, b"Infinity"),
        NOTES.replace(b"%d" % SIZE, b"-1"),
        NOTES.replace(b'"h"', b"[" * 100_000),
        NOTES.replace(b'"h"', b"5"),
    ],
    ids=itertools.count(),
)
def test_notes_that_make_no_sense_cost_a_download(
    host: Host, cache_dir: Path, impatient, garbage: bytes
) -> None:
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    write_notes(cache_dir, handle, garbage)
    assert read_files(hub.resolve(handle)) == MODEL
    assert first_byte(host.requests[-1]) == 0


def test_notes_that_make_sense_spare_what_they_name(host: Host, cache_dir: Path, impatient) -> None:
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    line = b"[0, %d]\n[1, 5]\n[1, " % zlib.crc32(ARCHIVE[:SEGMENT])
    write_notes(cache_dir, handle, NOTES + line)
    before = len(host.requests)
    assert read_files(hub.resolve(handle)) == MODEL
    wanted = {first_byte(request) for request in host.requests[before:]} - {0}
    assert min(wanted) == SEGMENT  # which is not as its checksum says
    assert 2 * SEGMENT in wanted


@pytest.mark.skipif(os.name == "nt", reason="links need rights there, and there are no FIFOs")
@pytest.mark.parametrize("suffix", ["part", "part.json"])
@pytest.mark.parametrize("planted", ["link", "fifo", "folder"])
def test_what_is_planted_in_place_of_the_part_file_is_neither_followed_nor_waited_for(
    host: Host, cache_dir: Path, tmp_path: Path, impatient, suffix: str, planted: str
) -> None:
    handle = interrupted(host, cache_dir, archive(ARCHIVE))
    victim = tmp_path / "victim"
    victim.write_text("mine")
    part = cache_dir / f"{key_of(handle)}.{suffix}"
    part.unlink()
    if planted == "link":
        part.symlink_to(victim)
    elif planted == "fifo":
        os.mkfifo(part)
    else:
        part.mkdir()
    assert read_files(hub.resolve(handle)) == MODEL
    assert victim.read_text() == "mine"


def test_a_small_archive_is_received_without_a_thread_or_a_part_file(
    host: Host, cache_dir: Path
) -> None:
    """Nothing but the call itself: it starts fast, and Ctrl-C stops it at once."""
    small = fake_model(size=100_000)
    seen: list[tuple[int, set[str]]] = []
    handle = host.publish("/m/1", archive(pack_files(small)))
    with transfer_of(
        handle,
        cache_dir,
        lambda *_: seen.append((threading.get_ident(), names(cache_dir))),
        connections=8,
    ) as transfer:
        data = b"".join(iter(lambda: transfer.read(1 << 20), b""))
    assert data == pack_files(small)
    assert {thread for thread, _ in seen} == {threading.get_ident()}
    assert all("part" not in there for _, there in seen)


def test_a_small_archive_that_is_cut_goes_on_where_it_was(host: Host, impatient) -> None:
    small = fake_model(size=100_000)
    packed = pack_files(small)
    handle = published(host, cut(packed, 50_000), archive(packed))
    assert read_files(hub.resolve(handle)) == small
    assert first_byte(host.requests[1]) == 50_000


def test_a_host_that_sends_nothing_but_headers_is_not_pressed(host: Host) -> None:
    """It is asked with growing pauses, and no more often than one that is alone would."""
    handle = host.publish("/m/1", cut(ARCHIVE, 0))
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert len(host.requests) <= 6


def test_nothing_is_kept_of_a_small_archive(host: Host, cache_dir: Path, impatient) -> None:
    small = pack_files(fake_model(size=100_000))
    handle = published(host, cut(small, 50_000), *[status(404)] * 2)
    with pytest.raises(DownloadError, match="Nothing of it was kept"):
        hub.resolve(handle)
    assert names(cache_dir) == set()


# Several connections.

SLOW = len(BIG) * 2 / 5
"""Bytes per second of each connection, so that one would take two and a half seconds: enough on a
machine that is busy with others for one more to be wanted."""


class Counted:
    """Answers as another handler does, and counts the answers.

    Attributes:
        most: how many there were at a time.
    """

    def __init__(self, answer: Handler) -> None:
        self.most = 0
        self._answer = answer
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self._now, self.most)
        try:
            self._answer(request)
        finally:
            with self._lock:
                self._now -= 1


def test_more_connections_are_made_where_each_is_slow(host: Host) -> None:
    big = pack_files(fake_model(size=12_000_000))
    slow = Counted(archive(big, rate=4e6))
    assert hub.resolve(host.publish("/m/1", slow))
    assert 2 <= slow.most <= 9  # one that has had enough may still be on its way out
    assert sum(length(request, len(big)) for request in host.requests[1:]) <= len(big)


def test_no_more_connections_are_made_where_all_of_them_share_what_there_is(host: Host) -> None:
    """As on a line at home: a second one is tried, and brings nothing more."""
    turn, step, rate = threading.Lock(), 1 << 14, 3e6
    due = [0.0]

    class SharedLine(archive):
        def _send_part(self, request: Request, body: memoryview) -> None:
            for offset in range(0, len(body), step):
                with turn:
                    # A machine that is late catches up, so the line's rate does not change.
                    due[0] = (due[0] or time.monotonic()) + step / rate
                    request.wait(max(0.0, due[0] - time.monotonic()))
                    request.send(body[offset : offset + step])

    line = Counted(SharedLine(pack_files(fake_model(size=12_000_000))))
    assert hub.resolve(host.publish("/m/1", line))
    assert 2 <= line.most < 8  # where the line's rate changes by a fifth, there may be four


def length(request: Recorded, size: int) -> int:
    first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
    return (int(last) + 1 if last else size) - int(first)


def test_what_several_connections_bring_is_put_together_right(host: Host) -> None:
    model = fake_model(size=12_000_000, seed=2)
    handle = host.publish("/m/1", archive(pack_files(model), rate=4e6))
    assert read_files(hub.resolve(handle)) == model


def test_connections_that_are_all_cut_at_once_go_on(host: Host, impatient) -> None:
    """As when a router restarts, or a laptop moves from one network to another."""
    model = fake_model(size=12_000_000, seed=3)
    packed = pack_files(model)
    handle = published(host, *[cut(packed, 700_000, rate=4e6)] * 12, archive(packed, rate=4e6))
    assert read_files(hub.resolve(handle)) == model
    assert host.connections > 12


def test_the_number_of_connections_can_be_set(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    assert hub.resolve(host.publish("/m/1", archive(BIG, rate=SLOW)))
    assert len(host.requests) == 1


@pytest.mark.parametrize("number", ["0", "many", "-1"])
def test_a_number_of_connections_that_makes_no_sense_is_reported(
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
    assert hub.resolve(host.publish("/m/1", archive(BIG, rate=SLOW, **options)))
    assert len(host.requests) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_host_that_wants_no_second_connection_is_not_pressed(host: Host, code: int) -> None:
    """The first one goes on, and no third one is tried."""
    first = archive(BIG, rate=SLOW)
    handle = published(host, first, status(code), archive(BIG))
    assert read_files(hub.resolve(handle)) == BIG_MODEL
    refused = host.requests[1]
    assert len(host.requests) <= 3
    assert all(first_byte(request) == first_byte(refused) for request in host.requests[2:])


def test_a_second_connection_that_gets_the_whole_ends(host: Host) -> None:
    """A host that offers parts and does not send them."""
    counts = itertools.count()
    whole = archive(BIG, rate=SLOW, ranges=False)

    def answer(request: Request) -> None:
        next(counts)
        fields = [*whole._fixed, ("Accept-Ranges", "bytes"), ("Content-Length", str(len(BIG)))]
        request.start(200, fields)
        request.send(BIG, SLOW)

    assert read_files(hub.resolve(host.publish("/m/1", answer))) == BIG_MODEL
    assert next(counts) <= 2


@pytest.mark.parametrize(
    "trouble",
    [
        "another ETag",
        "no ETag",
        "a reset",
        "a web page",
        "a part of unknown size",
        "silence",
        "another byte",
    ],
)
def test_trouble_with_further_connections_leaves_the_first_one_alone(
    host: Host, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Load balancers, proxies and odd servers: it is as if there had been one connection."""
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "30")
    first = archive(BIG, rate=SLOW)
    part = {"Content-Range": f"bytes {{first}}-{len(BIG) - 1}/{len(BIG)}", "ETag": first.tag}
    if trouble == "another ETag":
        part["ETag"] = '"of another backend"'
    elif trouble == "no ETag":
        del part["ETag"]
    elif trouble == "a part of unknown size":
        part["Content-Range"] = "bytes {first}-{last}/*"
    elif trouble == "another byte":
        part["Content-Range"] = f"bytes 0-{len(BIG) - 1}/{len(BIG)}"

    def answer(request: Request) -> None:
        if "Range" not in request.headers:
            first(request)
        elif trouble == "a reset":
            request.cut(reset=True)
        elif trouble == "a web page":
            web_page()(request)
        elif trouble == "silence":
            request.wait(600)
        else:
            at = first_byte_of(request)
            fields = {
                name: value.format(first=at, last=len(BIG) - 1) for name, value in part.items()
            }
            request.answer(206, BIG[at:], fields)

    handle = host.publish("/m/1", answer)
    assert read_files(hub.resolve(handle)) == BIG_MODEL
    assert ["Range" in request.headers for request in host.requests].count(False) == 1
    assert len(host.requests) >= 2


def test_a_network_that_falls_silent_for_a_moment_goes_on_with_few_requests(host: Host) -> None:
    """So long that another connection takes over, which has yet to show that it brings anything."""
    over = threading.Event()
    numbers = itertools.count()
    asked: list[int] = []

    def end() -> None:
        asked.append(len(host.requests))  # afterwards each segment may be a request
        over.set()

    def answer(request: Request) -> None:
        if next(numbers) == 0:
            threading.Timer(5.0, end).start()
            stall(BIG, 8_000_000, over)(request)
        else:
            over.wait(20)
            archive(BIG)(request)

    assert read_files(hub.resolve(host.publish("/m/1", answer))) == BIG_MODEL
    assert asked[0] <= 6


def test_a_host_that_refuses_is_not_pressed_while_another_connection_is_being_made(
    host: Host,
) -> None:
    over = threading.Event()
    numbers, refused = itertools.count(), itertools.count()

    def cut_when_another_is_asked_for(request: Request) -> None:
        host.wait_for_requests(2)
        threading.Timer(1.5, over.set).start()
        request.cut()

    def answer(request: Request) -> None:
        number = next(numbers)
        if number == 0:
            archive(BIG, after=5_000_000, interrupt=cut_when_another_is_asked_for)(request)
        elif number > 1 and not over.is_set():
            next(refused)
            request.answer(503, "busy")
        else:
            over.wait(20)
            archive(BIG)(request)

    assert read_files(hub.resolve(host.publish("/m/1", answer))) == BIG_MODEL
    assert 1 <= next(refused) <= 4


def test_a_connection_that_is_refused_does_not_leave_all_to_one_that_hangs(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "5")
    numbers = itertools.count()

    def cut_when_another_is_asked_for(request: Request) -> None:
        host.wait_for_requests(2)
        request.cut()

    def answer(request: Request) -> None:
        number = next(numbers)
        if number == 0:
            archive(BIG, after=5_000_000, interrupt=cut_when_another_is_asked_for)(request)
        elif number == 1:
            request.wait(600)
        elif number == 2:
            request.answer(503, "busy")
        else:
            archive(BIG)(request)

    assert read_files(hub.resolve(host.publish("/m/1", answer))) == BIG_MODEL
    # It asks again for a piece, and not, as one that is alone would, for all that is missing.
    assert re.fullmatch(r"bytes=5000000-\d+", host.requests[3].headers["Range"])


def test_a_connection_that_trickles_does_not_hold_up_the_others(host: Host) -> None:
    model = fake_model(size=12_000_000, seed=4)
    packed = pack_files(model)
    rates = itertools.chain([4e6, 2e3], itertools.repeat(4e6))

    def answer(request: Request) -> None:
        with lock:
            rate = next(rates)
        archive(packed, rate=rate)(request)

    lock = threading.Lock()
    assert read_files(hub.resolve(host.publish("/m/1", answer))) == model


def silence(request: Request) -> None:
    request.wait(600)


@pytest.mark.parametrize("refuse", [*map(status, (400, 403, 501)), Request.cut, silence])
def test_what_is_kept_never_makes_a_handle_impossible_to_resolve(
    host: Host,
    cache_dir: Path,
    impatient,
    refuse: Callable[[Request], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that has sent parts may stop doing so."""

    def answer(request: Request) -> None:
        if "Range" in request.headers:
            refuse(request)
        else:
            archive(ARCHIVE)(request)

    handle = interrupted(host, cache_dir, answer)
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "1")
    assert read_files(hub.resolve(handle)) == MODEL
    assert names(cache_dir) == {"", "manifest.json", "descriptor.txt"}


def test_a_captive_portal_does_not_cost_what_is_kept(
    host: Host, cache_dir: Path, impatient
) -> None:
    handle = interrupted(host, cache_dir, web_page("Please log in"))
    with pytest.raises(ArchiveError, match="web page"):
        hub.resolve(handle)
    published(host, archive(ARCHIVE))
    assert read_files(hub.resolve(handle)) == MODEL
    assert 0 <= AT_90_PERCENT - first_byte(host.requests[-1]) < SEGMENT


def test_a_checksum_of_the_body_is_that_of_the_archive_also_where_it_is_resumed(
    host: Host, cache_dir: Path, impatient
) -> None:
    """Only an answer with the whole has it."""
    packed = pack_files(MODEL, compression=None)
    wrong = {"Content-MD5": base64.b64encode(hashlib.md5(b"").digest()).decode()}
    whole = archive(packed, hashes=False)

    def answer(request: Request) -> None:
        if "Range" in request.headers:
            whole(request)
            return
        request.start(200, [*whole._fixed, *wrong.items(), ("Content-Length", str(len(packed)))])
        request.send(packed)

    handle = interrupted(host, cache_dir, answer, packed=packed)
    with pytest.raises(DownloadError, match="expected md5"):
        hub.resolve(handle)
    assert any(first_byte(request) for request in host.requests[1:])


def test_a_date_that_may_be_of_two_versions_is_no_version(host: Host, impatient) -> None:
    """RFC 9110, 8.8.2.2: within the second in which it was modified, much can happen."""
    fresh = email.utils.formatdate(usegmt=True)

    def dated(data: bytes, after: int | None = None) -> Callable[[Request], None]:
        def answer(request: Request) -> None:
            first = first_byte_of(request) if "Range" in request.headers else 0
            fields = {"Last-Modified": fresh, "Accept-Ranges": "bytes"}
            if first:
                fields["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            body = data[first:]
            request.start(206 if first else 200, {**fields, "Content-Length": str(len(body))})
            request.send(body[:after])
            if after is not None:
                request.cut()

        return answer

    size = min(len(ARCHIVE), len(OTHER_ARCHIVE))
    handle = published(host, dated(ARCHIVE, size // 2), dated(OTHER_ARCHIVE))
    assert read_files(hub.resolve(handle)) == OTHER_MODEL


def test_an_archive_that_is_refused_in_the_middle_ends_at_once(host: Host, cache_dir: Path) -> None:
    """With much received, inflated and digested ahead, at any distance from the trouble."""
    noise = os.urandom(300_000)
    for before in range(12, 24, 2):
        good = [member(f"{number:04}.bin", data=noise) for number in range(before)]
        tail = [member(f"tail/{number:04}.bin", data=noise) for number in range(20)]
        members = [*good, member("../evil", data=b"x"), *tail]
        packed = pack_files({}, compression=None, extra_members=members)
        handle = host.publish(f"/m/{before}", archive(packed))
        with pytest.raises(UnsafeArchiveError):
            hub.resolve(handle)
        assert names(cache_dir) == set()


@contextlib.contextmanager
def transfer_of(
    handle: str,
    cache_dir: Path,
    tell: Callable[[int, int | None], object],
    connections: int = 1,
    *,
    in_memory: bool = False,
) -> Iterator[Transfer]:
    """A transfer of which the test is the reader."""
    claim = LocalStore(str(cache_dir)).contend(key_of(handle), 60.0, 0).attempt()
    assert claim is not None
    source = HttpArchive(handle, archive_url(handle), Access(timeout=20, min_rate=0, verify=True))
    with contextlib.ExitStack() as stack:
        stack.callback(claim.release)
        keep = Spool if in_memory else claim.spool
        transfer = Transfer(handle, source, keep, connections, tell, pause=time.sleep)
        yield stack.enter_context(transfer)


def test_what_is_kept_in_memory_is_little_and_a_connection_that_hangs_does_not_stop_it(
    host: Host, cache_dir: Path
) -> None:
    content = random.Random(0).randbytes(100_000_000)
    slow, numbers, hangs, read, ahead = archive(content, rate=25e6), itertools.count(), [], 0, [0]

    def answer(request: Request) -> None:
        if next(numbers) == 2:
            hangs.append(True)
            try:
                request.wait(600)
            finally:
                hangs.append(False)
        slow(request)

    handle = host.publish("/m/1", answer)
    digest = hashlib.sha256()
    with transfer_of(
        handle, cache_dir, lambda now, _: ahead.append(now - read), 2, in_memory=True
    ) as transfer:
        while data := transfer.read(1 << 20):
            digest.update(data)
            read += len(data)
        assert hangs == [True]  # to the end: what it was to bring has been brought by another
    assert digest.digest() == hashlib.sha256(content).digest()
    assert 20 << 20 <= max(ahead) <= 34 << 20


def test_a_connection_that_is_alone_stays_close_to_the_reader(host: Host, cache_dir: Path) -> None:
    """What it brings too early only takes time from the one who unpacks."""
    read, ahead = bytearray(), [0]
    handle = host.publish("/m/1", archive(BIG))
    with transfer_of(
        handle, cache_dir, lambda received, _: ahead.append(received - len(read))
    ) as transfer:
        until(lambda: ahead[-1] >= 7 << 20)
        while data := transfer.read(1 << 20):
            read += data
    assert read == BIG
    assert max(ahead) <= 9 << 20


def test_a_connection_does_not_wait_for_what_is_kept_to_be_read(
    host: Host, cache_dir: Path, impatient
) -> None:
    handle = interrupted(host, cache_dir, archive(BIG), packed=BIG, after=5_000_000)
    received = [0]
    with transfer_of(handle, cache_dir, lambda now, _: received.append(now)) as transfer:
        until(lambda: received[-1] >= 11_000_000)
        assert transfer.resumed
        data = b"".join(iter(lambda: transfer.read(1 << 20), b""))
    assert data == BIG


def test_a_server_that_sends_a_byte_at_a_time_costs_no_memory() -> None:
    spool = Spool(Identity("h", 1 << 20, "v"))
    tracemalloc.start()
    for _ in range(1 << 20):
        spool.write(0, b"x")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 << 20
    data = b""
    while len(data) < 1 << 20:
        data += spool.read(len(data), 1000)
    assert data == b"x" * (1 << 20)


def test_a_machine_without_more_threads_goes_on_with_those_it_has(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = deny_threads(monkeypatch, "Segments._run", after=1)
    assert hub.resolve(host.publish("/m/1", archive(BIG, rate=SLOW)))
    assert next(counted) >= 2
    assert len(host.requests) == 1


def test_a_machine_without_threads_to_inflate_in_does_without(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = deny_threads(monkeypatch, "ReadAhead._read_all")
    assert read_files(hub.resolve(host.publish("/m/1", archive(ARCHIVE)))) == MODEL
    assert next(counted) == 2


@pytest.mark.parametrize("target", ["Segments._run", "Lock._beat"])
def test_a_machine_without_threads_is_an_error_of_ours(
    host: Host, monkeypatch: pytest.MonkeyPatch, cache_dir: Path, target: str
) -> None:
    handle = host.publish("/m/1", archive(ARCHIVE))
    with monkeypatch.context() as patched:
        deny_threads(patched, target)
        with pytest.raises(ResolveError, match="can't start new thread") as error:
            hub.resolve(handle)
    assert "permissions" not in str(error.value)
    assert not list(cache_dir.glob("*"))
    assert read_files(hub.resolve(handle)) == MODEL


def test_an_interruption_while_a_download_begins_leaves_no_thread_that_goes_on_asking(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment after a thread has started, which no signal hits reliably."""
    start, started = threading.Thread.start, []

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        if thread._target.__qualname__ == "Segments._run":  # type: ignore[attr-defined]
            started.append(thread)
            raise KeyboardInterrupt

    release = threading.Event()
    handle = published(host, stall(ARCHIVE, 0, release), archive(ARCHIVE))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            hub.resolve(handle)
    (thread,) = started
    thread.join(10)
    release.set()
    assert len(host.requests) == 1
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 2
