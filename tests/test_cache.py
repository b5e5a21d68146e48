"""The cache: made once, checked each time, healed when it is damaged."""

import hashlib
import itertools
import json
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from entries import key_of, names
from logs import warnings
from models import fake_model, pack_files, read_files, write_files
from servers import Host, archive, cut, in_turn, redirect, status

import tfhub_cache as hub
from tfhub_cache.errors import ArchiveError, CacheError, DownloadError, UnsafeArchiveError

MODEL = fake_model()
ARCHIVE = pack_files(MODEL)
SHARD = "variables/variables.data-00000-of-00001"


# What is in it.


def test_the_layout_is_the_one_of_tensorflow_hub(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/google/nnlm/2", ARCHIVE)
    path = hub.resolve(handle)
    assert path == f"{cache_dir}{os.sep}{key_of(handle)}"
    assert names(cache_dir) == {
        key_of(handle),
        f"{key_of(handle)}.descriptor.txt",
        f"{key_of(handle)}.manifest.json",
    }
    assert read_files(path) == MODEL
    module, time, by = (cache_dir / f"{key_of(handle)}.descriptor.txt").read_text().split("\n")
    assert module == f"Module: {handle}"
    assert time.startswith("Download Time: 20")
    assert by == f"Downloader Hostname: {socket.gethostname()} (PID:{os.getpid()})"


def test_the_manifest_says_what_was_downloaded(host: Host, cache_dir: Path) -> None:
    """Promise 2: a manifest beside each entry."""
    storage = host.route("/bucket/m.tar.gz", archive(ARCHIVE))
    handle = host.route("/m/1", redirect(f"{storage}?X-Goog-Signature=5ec2e7"))
    hub.resolve(handle)
    text = (cache_dir / f"{key_of(handle)}.manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["handle"] == handle
    assert manifest["url"] == storage
    assert "5ec2e7" not in text
    assert manifest["format"] == 2
    assert manifest["archive_size"] == len(ARCHIVE)
    assert manifest["files"] == [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in sorted(MODEL.items())
    ]
    assert manifest["downloaded"]["host"] == socket.gethostname()
    assert manifest["downloaded"]["pid"] == os.getpid()
    assert manifest["downloaded"]["library"] == f"tfhub-cache {hub.__version__}"
    assert manifest["validators"]["ETag"] == archive(ARCHIVE).tag
    assert "md5=" in manifest["validators"]["x-goog-hash"]


@pytest.mark.parametrize("style", ["absolute", "relative", "trailing slash", "file URL", "tilde"])
def test_the_path_is_the_cache_folder_as_written_and_the_hash(
    host: Host, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written, expected = {
        "absolute": (f"{tmp_path}/c", f"{tmp_path}/c/"),
        "relative": ("a/c", "a/c/"),
        "trailing slash": (f"{tmp_path}/c/", f"{tmp_path}/c/"),
        "file URL": (f"file://{tmp_path}/c", f"file://{tmp_path}/c/"),
        "tilde": ("~/c", f"{home}/c/"),
    }[style]
    monkeypatch.setenv("TFHUB_CACHE_DIR", written)
    handle = host.publish("/m/1", ARCHIVE)
    assert hub.resolve(handle) == expected + key_of(handle)
    assert hub.resolve(handle) == expected + key_of(handle)
    assert read_files(hub.resolve(handle).removeprefix("file://")) == MODEL
    assert len(host.requests) == 1


def test_by_default_the_cache_is_in_the_temporary_folder(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handle = host.publish("/m/1", ARCHIVE)
    assert hub.resolve(handle) == str(tmp_path / "tfhub_modules" / key_of(handle))


def test_the_handle_is_the_key_as_it_is_written(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    assert hub.resolve(handle) != hub.resolve(handle + "?")
    assert len(host.requests) == 2


def test_it_logs_what_tensorflow_hub_logs(host: Host, cache_dir: Path, log) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    hub.resolve(handle)
    hub.resolve(handle)
    assert [record.getMessage() for record in log.records if record.name == "absl"] == [
        f"Using {cache_dir} to cache modules.",
        f"Downloading TF-Hub Module '{handle}'.",
        f"Downloaded TF-Hub Module '{handle}'.",
    ]


# What is cached stays usable.


def test_a_cached_model_needs_no_network(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    path = hub.resolve(handle)
    host.close()
    assert hub.resolve(handle) == path


def test_a_model_that_tensorflow_hub_cached_is_used_as_it_is(host: Host, cache_dir: Path) -> None:
    """Promise 3: an entry without a manifest is whole if it looks like a SavedModel."""
    handle = host.url + "/m/1"
    write_files(MODEL, cache_dir / key_of(handle))
    assert read_files(hub.resolve(handle)) == MODEL
    assert host.requests == []


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb"])
def test_any_kind_of_saved_model_counts(host: Host, cache_dir: Path, name: str) -> None:
    """Promise 3: entries without a manifest."""
    handle = host.url + "/m/1"
    write_files({name: b""}, cache_dir / key_of(handle))
    (cache_dir / key_of(handle) / "variables").mkdir()
    hub.resolve(handle)
    assert host.requests == []


def test_an_archive_that_is_no_saved_model_resolves_too(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", pack_files({"notes.txt": b"hello"}))
    assert read_files(hub.resolve(handle)) == {"notes.txt": b"hello"}
    hub.resolve(handle)
    assert len(host.requests) == 1


def test_a_manifest_that_is_lost_or_of_a_later_version_does_not_cost_a_download(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    manifest = Path(hub.resolve(handle) + ".manifest.json")
    manifest.write_text('{"format": 99}')
    hub.resolve(handle)
    manifest.unlink()
    hub.resolve(handle)
    assert len(host.requests) == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"format": 1, "files": 3}', b"\xff"])
def test_a_manifest_that_a_power_cut_has_garbled_costs_a_download(
    host: Host, cache_dir: Path, content: bytes
) -> None:
    """Promise 1: a power cut may cost an entry, which is noticed and mended."""
    handle = host.publish("/m/1", ARCHIVE)
    manifest = Path(hub.resolve(handle) + ".manifest.json")
    manifest.write_bytes(content)
    hub.resolve(handle)
    hub.resolve(handle)
    assert len(host.requests) == 2
    assert json.loads(manifest.read_text())["handle"] == handle


def test_what_is_left_by_a_process_killed_after_publishing_is_no_obstacle_and_is_pruned(
    host: Host, cache_dir: Path
) -> None:
    """Promise 9: what a killed process left behind is removed."""
    handle = host.publish("/m/1", ARCHIVE)
    path = hub.resolve(handle)
    (cache_dir / f"{key_of(handle)}.lock").write_text(f"{socket.gethostname()}.1.cache-0")
    write_files(MODEL, cache_dir / f"{key_of(handle)}.cache-0.old.tmp")
    assert hub.resolve(handle) == path
    assert len(host.requests) == 1
    hub.cache.prune()
    assert len(names(cache_dir)) == 3
    assert hub.resolve(handle) == path
    assert len(host.requests) == 1


# What is damaged is mended.


@pytest.mark.parametrize("path", list(MODEL))
@pytest.mark.parametrize("harm", ["removed", "truncated", "grown"])
def test_a_damaged_model_is_fetched_again(
    host: Host, cache_dir: Path, log, path: str, harm: str
) -> None:
    """Promises 3 and 4: noticed at the next resolve, and healed without being asked."""
    handle = host.publish("/m/1", ARCHIVE)
    file = Path(hub.resolve(handle)) / path
    content = file.read_bytes()
    if harm == "removed":
        file.unlink()
    else:
        file.write_bytes(content[:-1] if harm == "truncated" else content + b"x")
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 2
    (warning,) = warnings(log)
    assert handle in warning
    assert path in warning
    assert len(names(cache_dir)) == 3


@pytest.mark.parametrize(
    "lost",
    [["saved_model.pb"], ["variables/variables.index"], [SHARD]],
    ids=lambda lost: lost[0],
)
def test_a_damaged_model_of_tensorflow_hub_is_fetched_again(
    host: Host, cache_dir: Path, log, lost: list[str]
) -> None:
    """Promise 4: healed, also where there is no manifest."""
    handle = host.publish("/m/1", ARCHIVE)
    left = {path: content for path, content in MODEL.items() if path not in lost}
    write_files(left, cache_dir / key_of(handle))
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(warnings(log)) == 1


def test_a_shard_that_is_missing_is_noticed(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    shards = {f"variables/variables.data-0000{n}-of-00003": b"x" for n in range(2)}
    write_files({**MODEL, **shards}, cache_dir / key_of(handle))
    (cache_dir / key_of(handle) / SHARD).unlink()
    assert read_files(hub.resolve(handle)) == MODEL


def test_an_empty_folder_is_no_model(host: Host, cache_dir: Path, log) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    (cache_dir / key_of(handle)).mkdir(parents=True)
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_file_in_place_of_the_model_is_replaced(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    cache_dir.mkdir()
    (cache_dir / key_of(handle)).write_text("what is this?")
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(names(cache_dir)) == 3


def test_a_damaged_model_that_cannot_be_fetched_is_left_as_it_is(
    host: Host, cache_dir: Path
) -> None:
    """Promise 4: the error says what is missing; what is left stays untouched."""
    handle = host.publish("/m/1", ARCHIVE)
    path = Path(hub.resolve(handle))
    (path / SHARD).unlink()
    host.close()
    with pytest.raises(DownloadError, match="is damaged") as error:
        hub.resolve(handle)
    assert SHARD in str(error.value)
    assert "fetching it again failed" in str(error.value)
    assert "no connection" in str(error.value)
    assert read_files(path) == {name: data for name, data in MODEL.items() if name != SHARD}
    assert len(names(cache_dir)) == 3


# What arrives is verified.


def lying(**headers: str):
    """An answer with an archive, and headers that say something else about it."""
    return lambda request: request.answer(
        200, ARCHIVE, {name.replace("_", "-"): value for name, value in headers.items()}
    )


WRONG = {
    "x-goog-hash md5": lying(x_goog_hash="md5=AAAAAAAAAAAAAAAAAAAAAA=="),
    "x-goog-hash crc32c": lying(x_goog_hash="crc32c=AAAAAA=="),
    "Content-MD5": lying(Content_MD5="AAAAAAAAAAAAAAAAAAAAAA=="),
    "cut": cut(ARCHIVE, 1000, ranges=False, etag=False),
    "cut at the last byte": cut(ARCHIVE, len(ARCHIVE) - 1, ranges=False, etag=False),
    "bit": archive(ARCHIVE[:1000] + bytes([ARCHIVE[1000] ^ 1]) + ARCHIVE[1001:]),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_damaged_download_is_tried_once_more(host: Host, cache_dir: Path, log, how: str) -> None:
    """Promise 5: downloads are verified, a mismatch is retried once from the start."""
    handle = host.publish("/m/1", in_turn(WRONG[how], archive(ARCHIVE)))
    assert read_files(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 2
    assert len(warnings(log)) == 1


@pytest.mark.parametrize("how", WRONG)
def test_a_download_that_stays_damaged_is_an_error_and_is_not_published(
    host: Host, cache_dir: Path, how: str
) -> None:
    """Promise 5: then an OSError, and nothing is published."""
    handle = host.publish("/m/1", WRONG[how])
    with pytest.raises((DownloadError, ArchiveError)) as error:
        hub.resolve(handle)
    assert handle in str(error.value)
    if how not in ("bit", "cut", "cut at the last byte"):
        assert "expected" in str(error.value)
        assert "AAAAAA" in str(error.value)
    assert len(host.requests) == 2
    assert names(cache_dir) == set()


@pytest.mark.parametrize(
    "headers",
    [
        {"x_goog_hash": "md5=AAAAAAAAAAAAAAAAAAAAAA==", "x_goog_stored_content_encoding": "gzip"},
        {"x_goog_hash": "md5=notbase64!,crc32c=short,sha9=AAAA,"},
        {"Content_MD5": ""},
    ],
)
def test_a_checksum_of_other_bytes_or_of_none_does_not_count(
    host: Host, cache_dir: Path, headers: dict[str, str]
) -> None:
    """Promise 5: hashes are used where they apply to the received bytes."""
    assert read_files(hub.resolve(host.publish("/m/1", lying(**headers)))) == MODEL


def test_an_unsafe_archive_is_refused_and_the_cache_stays_as_it_was(
    host: Host, cache_dir: Path
) -> None:
    from models import member

    for number, name in enumerate(["../evil", "../../evil"]):
        bad = pack_files(MODEL, extra_members=[member(name, data=b"evil")])
        with pytest.raises(UnsafeArchiveError):
            hub.resolve(host.publish(f"/m/{number}", bad))
    assert names(cache_dir) == set()
    assert not list(cache_dir.parent.rglob("evil"))


def test_limits_can_be_set(host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 10: limits are configurable."""
    handle = host.publish("/m/1", ARCHIVE)
    monkeypatch.setenv("TFHUB_UNPACK_MAX_FILES", "3")
    with pytest.raises(UnsafeArchiveError, match="TFHUB_UNPACK_MAX_FILES"):
        hub.resolve(handle)
    monkeypatch.setenv("TFHUB_UNPACK_MAX_FILES", "30")
    hub.resolve(handle)


def test_a_cache_folder_that_cannot_be_made_is_reported(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match="set TFHUB_CACHE_DIR") as error:
        hub.resolve(host.publish("/m/1", ARCHIVE))
    assert str(tmp_path / "file" / "cache") in str(error.value)
    assert host.requests == []


def test_progress_is_shown_on_stderr_when_asked_for(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    hub.resolve(host.publish("/m/1", ARCHIVE))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TFHUB_DOWNLOAD_PROGRESS", "1")
    handle = host.publish("/m/2", ARCHIVE)
    hub.resolve(handle)
    shown = capsys.readouterr()
    assert handle in shown.err
    assert "100%" in shown.err
    assert shown.out == ""


def test_progress_is_logged_now_and_then_otherwise(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, log
) -> None:
    calls, now = itertools.count(), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 20 * next(calls))  # all is slow
    handle = host.publish("/m/1", ARCHIVE)
    hub.resolve(handle)
    assert f"Downloading {handle}: 0." in log.text


def test_a_failed_download_does_not_stand_in_the_way_of_the_next(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", in_turn(status(404), archive(ARCHIVE)))
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_relative_cache_is_one_folder_though_the_program_changes_its_own(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "cache")
    packed = archive(ARCHIVE)

    def answer(request) -> None:
        os.chdir(tmp_path / "elsewhere")
        packed(request)

    handle = host.publish("/m/1", answer)
    assert hub.resolve(handle) == f"cache{os.sep}{key_of(handle)}"
    assert read_files(tmp_path / "cache" / key_of(handle)) == MODEL
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_file_in_place_of_the_cache_folder_is_reported(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{tmp_path}/file{below}")
    with pytest.raises(CacheError) as error:
        hub.resolve(host.publish("/m/1", ARCHIVE))
    assert "damaged" not in str(error.value)
    assert str(tmp_path / "file") in str(error.value)


def test_a_cache_folder_of_an_unknown_kind_is_reported(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "foo://bucket")
    with pytest.raises(CacheError, match=r"foo://bucket.*Check TFHUB_CACHE_DIR"):
        hub.resolve(host.publish("/m/1", ARCHIVE))


def test_room_that_is_to_stay_free_is_left(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10: limits against the free disk space are configurable."""
    monkeypatch.setenv("TFHUB_UNPACK_KEEP_FREE", "100TB")
    with pytest.raises(CacheError, match="No space left"):
        hub.resolve(host.publish("/m/1", ARCHIVE))
    assert names(cache_dir) == set()
