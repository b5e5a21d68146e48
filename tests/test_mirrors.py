"""Mirrors: public models asked for elsewhere, in an order, while the code keeps its handles."""

from __future__ import annotations

import gzip
import logging
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entries import key_of, names
from logs import warnings
from models import fake_model, pack_files, read_files
from servers import (
    Host,
    Proxy,
    Request,
    archive,
    basic_auth,
    cut,
    gcs_folder,
    in_turn,
    stall,
    status,
    web_page,
)

import tfhub_cache as hub
from tfhub_cache import settings
from tfhub_cache.errors import (
    ArchiveError,
    CacheError,
    DownloadError,
    ProtocolError,
    ResolveError,
    UnsafeArchiveError,
)
from tfhub_cache.manifest import Manifest
from tfhub_cache.source import mirrors

pytestmark = pytest.mark.libraries

MODEL = fake_model()
ARCHIVE = pack_files(MODEL)
OTHER = fake_model(seed=1)
HANDLE = "https://tfhub.dev/google/nnlm/2"
PATH = "/google/nnlm/2"
HOSTS = (
    *("tfhub.dev", "www.tfhub.dev", "kaggle.com", "www.kaggle.com"),
    *("hub.tensorflow.google.cn", "gcs.tensorflow.google.cn", "models.example.com"),
)


@pytest.fixture
def internet(ca: Any, ca_pem: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """All the hosts out there."""
    with (
        Host(tls=ca, names=HOSTS) as host,
        Proxy({f"{name}:443": f"127.0.0.1:{host.port}" for name in HOSTS}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
        yield host


@pytest.fixture
def second() -> Iterator[Host]:
    """Another mirror."""
    with Host() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(cache_dir: Path, impatient: list[float]) -> None:
    pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch):
    """Sets TFHUB_MIRROR."""

    def set_mirror(*parts: str | Host) -> None:
        value = ",".join(part if isinstance(part, str) else part.url for part in parts)
        monkeypatch.setenv("TFHUB_MIRROR", value)

    return set_mirror


def targets(host: Host) -> list[str]:
    return [request.target for request in host.requests]


def manifest(cache_dir: Path, handle: str) -> Manifest:
    return Manifest.from_json((cache_dir / f"{key_of(handle)}.manifest.json").read_text())


# What is asked, and where.


def test_a_public_model_is_asked_for_at_the_mirror_and_its_own_host_is_not(
    host: Host, internet: Host, mirror, cache_dir: Path
) -> None:
    host.publish(PATH, ARCHIVE)
    mirror(host)
    assert read_files(hub.resolve(HANDLE)) == MODEL
    assert targets(host) == [f"{PATH}?tf-hub-format=compressed"]
    assert internet.requests == []


def test_the_cache_has_it_under_its_handle_as_written(host: Host, mirror, cache_dir: Path) -> None:
    host.publish(PATH, ARCHIVE)
    mirror(host)
    path = hub.resolve(HANDLE)
    assert path == str(cache_dir / key_of(HANDLE))
    known = manifest(cache_dir, HANDLE)
    assert (known.handle, known.url) == (HANDLE, host.url + PATH)
    host.close()
    assert hub.resolve(HANDLE) == path


@pytest.mark.parametrize(
    "handle",
    [
        "https://tfhub.dev/a/b/1",
        "http://tfhub.dev/a/b/1",
        "https://www.tfhub.dev/a/b/1",
        "https://TFHub.dev:443/a/b/1",
        "https://kaggle.com/a/b/1",
        "https://www.kaggle.com/a/b/1",
        "https://hub.tensorflow.google.cn/a/b/1",
    ],
)
def test_all_spellings_of_the_public_hosts_have_mirrors(host: Host, mirror, handle: str) -> None:
    host.publish("/a/b/1", ARCHIVE)
    mirror(host)
    assert read_files(hub.resolve(handle)) == MODEL
    assert targets(host) == ["/a/b/1?tf-hub-format=compressed"]


def test_other_hosts_have_none(host: Host, second: Host, mirror) -> None:
    mirror(second)
    hub.resolve(host.publish("/m/1", ARCHIVE))
    others = (
        "https://tfhub.dev:8443/m/1",
        "https://tfhub.dev.example.com/m/1",
        "https://tfhub.dev:x/m",
    )
    for handle in others:
        assert mirrors.addresses(handle, "direct", "compressed", (second.url,)) == [
            mirrors.Address("direct")
        ]
    assert second.requests == []


def test_the_path_and_the_query_of_the_handle_follow_the_path_of_the_mirror(
    host: Host, mirror
) -> None:
    host.route("/hub/models/a%2fb/1", archive(ARCHIVE))
    mirror(f"{host.url}/hub/models/")
    hub.resolve("https://tfhub.dev/a%2fb/1?x=%7e&y#readme")
    assert targets(host) == ["/hub/models/a%2fb/1?x=%7e&y&tf-hub-format=compressed"]


def test_mirrors_are_asked_in_order_and_the_first_that_has_it_serves(
    host: Host, second: Host, internet: Host, mirror, caplog: pytest.LogCaptureFixture
) -> None:
    second.publish(PATH, ARCHIVE)
    internet.publish(PATH, ARCHIVE)
    mirror(host, second, "direct")
    hub.resolve(HANDLE)
    assert len(host.requests) == len(second.requests) == 1
    assert internet.requests == []
    (line,) = warnings(caplog)
    assert line.startswith(f"Skipping {host.url}{PATH}: the server answered 404 Not Found.")


def test_direct_is_the_host_of_the_handle_at_its_place_in_the_order(
    host: Host, internet: Host, mirror
) -> None:
    internet.publish(PATH, ARCHIVE)
    mirror("direct", host)
    hub.resolve(HANDLE)
    assert targets(internet) == [f"{PATH}?tf-hub-format=compressed"]
    assert host.requests == []


def test_direct_knows_where_the_chinese_host_has_its_archives(
    host: Host, internet: Host, mirror
) -> None:
    internet.route("/tfhub-modules/google/nnlm/2.tar.gz", archive(ARCHIVE))
    mirror(host, "direct")
    hub.resolve(f"https://hub.tensorflow.google.cn{PATH}")
    assert targets(host) == [f"{PATH}?tf-hub-format=compressed"]
    assert targets(internet) == ["/tfhub-modules/google/nnlm/2.tar.gz"]


# Mirrors that fail.


def sized(name: str, size: int) -> bytes:
    """The header of a file in a tar."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


WRONG = {
    "404": status(404),
    "403": status(403),
    "410": status(410),
    "500": status(500),
    "503": status(503),
    "a web page": web_page(),
    "no archive": archive(b"no archive"),
    "half an archive": archive(ARCHIVE[:-1000]),
    "an unsafe archive": archive(pack_files({"../evil": b"x"})),
    "a file of a terabyte": archive(gzip.compress(sized("a", 1 << 40))),
    "a name of 300 letters": archive(pack_files({"x" * 300: b"x"})),
    "a cut connection": cut(ARCHIVE, 100_000, ranges=False),
    "no answer": lambda request: request.cut(),
}


def head(*lines: str, body: bytes = ARCHIVE) -> Any:
    """Answers with these lines, whatever they say, and an archive."""

    def answer(request: Request) -> None:
        request.wfile.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1"))
        request.wfile.write(body)
        request.cut()

    return answer


def member(name: str = "saved_model.pb", size: int = 0) -> bytes:
    """An archive that begins with a member, whatever it claims."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(20 * 512)


DIGITS = "9" * 5000
DATES = [
    f"Thu, 01 Jan {DIGITS} 00:00:00 GMT",
    "Thu, 01 Jan 99999 00:00:00 GMT",
    f"Thu, {DIGITS} Jan 2026 {DIGITS}:00:00 GMT",
    f"Thu, 01 Jan 2026 00:00:00 +{DIGITS}",
    "Thu, 01 Jan 0001 00:00:00 +2359",
    "Thu, 01 Jan 2026 00:00:00 -0000",
    DIGITS,
    "\x1b[2J",
    "\x00",
    ",,,",
]
NUMBERS = [DIGITS, f"-{DIGITS}", "1e999", "nan", "\xb2", "0x10", f"1, {DIGITS}"]
FIELDS = {
    **dict.fromkeys(("Last-Modified", "Date", "Retry-After"), DATES + NUMBERS),
    "Content-Length": NUMBERS,
    "Content-Range": [f"bytes {number}-{number}/{number}" for number in NUMBERS],
    "x-goog-hash": [DIGITS, f"md5={DIGITS}", "md5=\xff\xff", "crc32c=AAAA=,md5==", ",=,"],
    "ETag": [f'"{DIGITS}', '"\x1b[2J"', '"a\r\n b"', '"\xff"'],
    "Content-Type": [DIGITS, "text/html\x1b; charset=" + DIGITS, "multipart/mixed; boundary=x"],
    "Content-Encoding": [DIGITS, "\x1b"],
    "Transfer-Encoding": [DIGITS, "chunked, chunked"],
    "Set-Cookie": [f"a=b; expires={DIGITS}; max-age={DIGITS}", f"a=b; expires={DATES[0]}"],
    "Location": [DIGITS, r"http://evil\@host/", "http://\xff/", "http://a@b@c/", "http://[", "//"],
    "Connection": [DIGITS],
    "Keep-Alive": [f"timeout={DIGITS}, max={DIGITS}"],
}
STATUSES = {
    "200 OK": FIELDS.keys(),
    "206 Partial Content": FIELDS.keys() - {"Set-Cookie", "Location", "Keep-Alive", "Retry-After"},
    "302 Found": {"Location"},
    "429 Too Many Requests": {"Retry-After"},
    "503 Service Unavailable": {"Retry-After", "Date"},
    "416 \x1b[2J": {"Content-Range"},
}
HOSTILE = {
    **{
        f"{code} {name} {number}": head(f"HTTP/1.1 {code}", f"{name}: {value}")
        for code, fields in STATUSES.items()
        for name in sorted(fields)
        for number, value in enumerate(FIELDS[name])
    },
    "a line without a colon": head("HTTP/1.1 200 OK", "without a colon", body=b""),
    "a status of 5,000 digits": head(f"HTTP/1.1 {DIGITS} OK"),
    "another protocol": head("HTTP/1.1 101 Switching Protocols", "Upgrade: x"),
    "a file of 1 TB": archive(member(size=1 << 40)),
    "a file of 1 TB, and no length": archive(member(size=1 << 40), framing="chunked"),
    "a file of a few GB more than there are": archive(
        member(size=shutil.disk_usage("/").free + (3 << 30))
    ),
    "a name of 300 letters": archive(pack_files({"a" * 300: b"x"})),
    "a folder of 300 letters": archive(pack_files({"a" * 300 + "/b": b"x"})),
    "a path of 5,000 letters": archive(pack_files({"/".join(["a" * 90] * 55): b"x"})),
}


def test_whatever_a_mirror_sends_the_next_one_is_asked_and_without_one_it_is_an_error_of_ours(
    host: Host, second: Host, mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "2")
    wrong = []
    for number, (name, answer) in enumerate(HOSTILE.items()):
        path = f"/google/nnlm/{number}"
        host.route(path, answer)
        second.publish(path, ARCHIVE)
        handle = f"https://tfhub.dev{path}"
        mirror(host)
        try:
            outcome = read_files(hub.resolve(handle)) == MODEL
        except (ResolveError, UnsafeArchiveError) as error:
            outcome = str(error).replace("\n  http", "").replace("\nIts own", "").isprintable()
        except Exception as error:
            outcome = False
            name += f": {type(error).__name__}: {error}"[:200]
        mirror(host, second)
        try:
            served = read_files(hub.resolve(handle)) == MODEL
        except Exception as error:
            served = False
            name += f"; with another mirror {type(error).__name__}: {error}"[:200]
        if not (outcome and served):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("answer", WRONG)
def test_a_mirror_that_fails_or_sends_wrong_bytes_is_skipped(
    host: Host,
    internet: Host,
    mirror,
    cache_dir: Path,
    caplog: pytest.LogCaptureFixture,
    answer: str,
) -> None:
    host.route(PATH, WRONG[answer])
    internet.publish(PATH, ARCHIVE)
    mirror(host, "direct")
    path = hub.resolve(HANDLE)
    assert read_files(path) == MODEL
    skipped = [line for line in warnings(caplog) if line.startswith("Skipping")]
    assert len(skipped) == 1
    assert skipped[0].startswith(f"Skipping {host.url}{PATH}: ")
    assert len(names(cache_dir)) == 3


def test_a_mirror_that_is_not_there_is_skipped(host: Host, internet: Host, mirror) -> None:
    host.close()
    internet.publish(PATH, ARCHIVE)
    mirror(host, "https://nowhere.invalid", "direct")
    assert read_files(hub.resolve(HANDLE)) == MODEL


def test_nothing_of_wrong_bytes_gets_into_the_model(host: Host, internet: Host, mirror) -> None:
    """The mirror's archive is of another model, and damaged behind most of its files."""
    wrong = {**OTHER, "assets/of_the_mirror.txt": b"wrong", "zzz": bytes(100_000)}
    host.publish(PATH, pack_files(wrong, compression=None)[:-50_000], hashes=False)
    internet.publish(PATH, ARCHIVE)
    mirror(host, "direct")
    assert read_files(hub.resolve(HANDLE)) == MODEL


def test_if_all_fail_the_error_names_each_and_why_and_the_way_out(
    host: Host, second: Host, internet: Host, mirror, cache_dir: Path
) -> None:
    host.route(PATH, status(403))
    mirror(host, second, "direct")
    with pytest.raises(DownloadError) as error:
        hub.resolve(HANDLE)
    first, *tried, last = str(error.value).split("\n")
    assert first == f"Could not get {HANDLE} from where TFHUB_MIRROR says:"
    assert [line.partition(" The")[0] for line in tried] == [
        f"  {host.url}{PATH}: the server answered 403 Forbidden.",
        f"  {second.url}{PATH}: the server answered 404 Not Found.",
        f"  {HANDLE}: the server answered 404 Not Found.",
    ]
    assert last == "Check TFHUB_MIRROR and the network."
    assert (error.value.handle, error.value.url, error.value.status) == (HANDLE, HANDLE, 404)
    assert names(cache_dir) == set()


def test_without_direct_the_error_says_that_the_host_was_not_asked(
    host: Host, internet: Host, mirror
) -> None:
    internet.publish(PATH, ARCHIVE)
    mirror(host)
    with pytest.raises(DownloadError, match="Its own host was not asked: add 'direct'"):
        hub.resolve(HANDLE)
    assert internet.requests == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("a web page", ArchiveError), ("an unsafe archive", UnsafeArchiveError)],
)
def test_the_error_is_of_the_kind_of_the_last_one(host: Host, mirror, answer, kind) -> None:
    host.route(PATH, WRONG[answer])
    mirror(host)
    with pytest.raises(kind, match=f"from where TFHUB_MIRROR says:\n  {host.url}{PATH}: "):
        hub.resolve(HANDLE)


def test_a_full_disk_is_reported_at_once_and_no_other_mirror_is_asked(
    host: Host, second: Host, mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.publish(PATH, ARCHIVE)
    second.publish(PATH, ARCHIVE)
    mirror(host, second)
    monkeypatch.setenv("TFHUB_UNPACK_KEEP_FREE", str(10**14))
    with pytest.raises(CacheError, match="No space left"):
        hub.resolve(HANDLE)
    assert second.requests == []


def test_a_damaged_model_is_healed_from_a_mirror(host: Host, second: Host, mirror) -> None:
    second.publish(PATH, ARCHIVE)
    mirror(host, second)
    path = Path(hub.resolve(HANDLE))
    (path / "saved_model.pb").unlink()
    assert read_files(hub.resolve(HANDLE)) == MODEL
    second.close()
    (path / "saved_model.pb").unlink()
    with pytest.raises(DownloadError, match=r"is damaged .* and fetching it again failed"):
        hub.resolve(HANDLE)


# Going on where another one broke off.

LARGE = fake_model(size=6_000_000)
PACKED = pack_files(LARGE)


def first_bytes(host: Host) -> list[str | None]:
    return [request.headers["Range"] for request in host.requests]


def test_another_mirror_goes_on_where_one_broke_off_if_it_has_the_same_version(
    host: Host, second: Host, mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    host.publish(PATH, in_turn(cut(PACKED, 5_000_000), lambda request: request.cut()))
    second.publish(PATH, PACKED)
    mirror(host, second)
    assert read_files(hub.resolve(HANDLE)) == LARGE
    whole, asked = first_bytes(second)
    assert whole is None
    assert asked is not None
    assert int(asked.removeprefix("bytes=").partition("-")[0]) >= 4_000_000
    assert second.requests[1].headers["If-Range"] == archive(PACKED).tag


def test_another_mirror_begins_again_if_it_has_another_version(
    host: Host, second: Host, mirror
) -> None:
    other = pack_files(OTHER)
    host.publish(PATH, in_turn(cut(PACKED, 5_000_000), lambda request: request.cut()))
    second.publish(PATH, other)
    mirror(host, second)
    assert read_files(hub.resolve(HANDLE)) == OTHER


def test_what_an_interrupted_download_left_is_used_with_another_mirror(
    host: Host, second: Host, mirror
) -> None:
    host.publish(PATH, in_turn(cut(PACKED, 5_000_000), lambda request: request.cut()))
    mirror(host)
    with pytest.raises(DownloadError, match="bytes are kept: try again"):
        hub.resolve(HANDLE)
    second.publish(PATH, PACKED)
    mirror(second)
    assert read_files(hub.resolve(HANDLE)) == LARGE
    assert first_bytes(second)[1] is not None


def test_a_process_that_waits_for_a_download_from_a_mirror_sends_no_request(
    host: Host, second: Host, mirror
) -> None:
    release = threading.Event()
    second.publish(PATH, stall(ARCHIVE, 100_000, release))
    mirror(host, second)
    paths: list[str] = []
    threads = [threading.Thread(target=lambda: paths.append(hub.resolve(HANDLE))) for _ in "abc"]
    for thread in threads:
        thread.start()
    second.wait_for_requests(1)
    release.set()
    for thread in threads:
        thread.join(20)
    assert len(set(paths)) == 1
    assert len(paths) == 3
    assert (len(host.requests), len(second.requests)) == (1, 1)


# Secrets.


def test_a_mirrors_password_is_used_and_never_shown(
    host: Host, mirror, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with_password = host.url.replace("http://", "http://me:5ec2e7@")
    host.publish(PATH, basic_auth("me", "5ec2e7", archive(ARCHIVE)))
    mirror(with_password)
    hub.resolve(HANDLE)
    missing = "https://tfhub.dev/missing/1?signature=5ec2e7"
    mirror(with_password, f"{with_password}/again")
    with pytest.raises(DownloadError) as error:
        hub.resolve(missing)
    assert "/again/missing/1" in str(error.value)
    kept = "".join(path.read_text() for path in cache_dir.iterdir() if path.is_file())
    assert "5ec2e7" not in f"{error.value}{error.value.url}{caplog.text}{kept}"
    assert "5ec2e7" not in str(hub.cache.environment())


# UNCOMPRESSED.


def test_mirrors_tell_where_the_uncompressed_model_is(
    host: Host, second: Host, internet: Host, mirror, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    from tfhub_cache.clients import gcs

    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket)
    gcs.file_system(bucket, 60).pipe_file("test-bucket/nnlm/saved_model.pb", b"model")
    host.publish(PATH, ARCHIVE, gcs="gs://test-bucket/is-not-there")
    second.publish(PATH, ARCHIVE, gcs="gs://test-bucket/nnlm")
    mirror("http://127.0.0.1:9", host, second, "direct")
    assert hub.resolve(HANDLE) == "gs://test-bucket/nnlm"
    assert targets(host) == targets(second) == [f"{PATH}?tf-hub-format=uncompressed"]
    assert internet.requests == []


def test_if_no_mirror_says_it_the_error_names_each(
    host: Host, second: Host, mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    second.route(PATH, gcs_folder("/not/in/a/bucket"))
    mirror(host, second)
    with pytest.raises(ValueError, match="Expected server to return a GCS location") as error:
        hub.resolve(HANDLE)
    assert f"  {host.url}{PATH}: Expected 303" in str(error.value)


@pytest.mark.parametrize(
    "answer",
    [
        "gs://",
        "gs:///m",
        "gs://b/\x1b[2J",
        "gs://b/m\ngs://c/m",
        "gs://b\xff/m",
        "gs:/b/m",
        "9" * 5000,
    ],
)
def test_an_answer_that_names_no_folder_in_a_bucket_is_an_error_and_the_next_mirror_is_asked(
    host: Host, second: Host, mirror, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    host.route(PATH, gcs_folder(answer))
    mirror(host, second)
    with pytest.raises(ProtocolError, match="Expected server to return a GCS location") as error:
        hub.resolve(HANDLE)
    assert "\x1b" not in str(error.value)
    assert targets(second) == [f"{PATH}?tf-hub-format=uncompressed"]


# The setting.


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("", ("direct",)),
        ("direct", ("direct",)),
        ("https://a.example", ("https://a.example",)),
        (" https://a.example/hub/ , direct, ", ("https://a.example/hub", "direct")),
        ("http://a,http://b:81,http://a/", ("http://a", "http://b:81")),
    ],
)
def test_mirrors_are_listed_with_commas(mirror, value: str, parts: tuple[str, ...]) -> None:
    mirror(value)
    assert settings.MIRROR.value() == parts


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hub.example.com", "part 1 is neither a URL nor 'direct'"),
        ("https://a,Direct", "part 2 is neither a URL"),
        ("ftp://a", "part 1 is neither a URL nor 'direct': it is neither http://"),
        ("https://a/?token=5ec2e7", "part 1 .* no query"),
        ("https://", "part 1 .* no host"),
        ("https://a b", "part 1 .* space"),
        ("me:5ec2e7@a", "part 1 is"),
        ("https://me:5ec2e7,x@a", "part 1 is"),
        (",", "it names no mirror"),
    ],
)
def test_one_that_makes_no_sense_is_an_error_that_names_it_and_the_setting(
    mirror, value: str, message: str
) -> None:
    mirror(value)
    with pytest.raises(ValueError, match=f"^TFHUB_MIRROR: {message}") as error:
        hub.resolve(HANDLE)
    assert "5ec2e7" not in str(error.value)
    assert hub.cache.environment().problems == [str(error.value)]
