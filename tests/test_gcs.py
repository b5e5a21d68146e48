"""Google Cloud Storage, against an emulator: gs:// handles, UNCOMPRESSED handles, gs:// caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import models
import pytest
import requests
from entries import as_another_process, key_of
from servers import Host, bucket_server, gcs_folder, in_turn, redirect, status, web_page
from storage import Call, Storage

import tfhub_cache as hub
from tfhub_cache.errors import ArchiveError, DownloadError, ProtocolError, UnsafeArchiveError

pytestmark = pytest.mark.libraries

FILES = models.fake_model(size=20_000)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """One for all tests here, as it takes half a second to end."""
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def bucket(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The emulator, empty but for `test-bucket`: where gcsfs looks, as if for the first time."""
    from gcsfs.core import GCSFileSystem
    from google.auth.compute_engine import _metadata

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    # There are no credentials, nor a machine of Google's to ask for some. The second line is for
    # a google-auth that was imported before the first one.
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True, raising=False)

    requests.get(f"{emulator}/wipe", params={"keep-buckets": "true"}, timeout=10).raise_for_status()
    GCSFileSystem.clear_instance_cache()
    yield emulator
    GCSFileSystem.clear_instance_cache()


@pytest.fixture
def others(bucket: str):
    """The client of another process, which shares no memory with the library's."""
    from gcsfs.core import GCSFileSystem

    return GCSFileSystem(
        endpoint_url=bucket, token="anon", skip_instance_cache=True, use_listings_cache=False
    )


@pytest.fixture
def put(others) -> Callable[[str, dict[str, bytes]], str]:
    """Puts files below a gs:// folder, and returns it."""

    def upload(folder: str, files: dict[str, bytes]) -> str:
        for name, content in files.items():
            others.pipe_file(f"{folder}/{name}", content)
        return folder

    return upload


def objects(others, folder: str) -> dict[str, bytes]:
    """What lies below a gs:// folder, by paths relative to it."""
    root = folder.removeprefix("gs://") + "/"
    return {name.removeprefix(root): others.cat_file(name) for name in others.find(root)}


# gs:// folders


def test_a_gs_folder_that_exists_is_its_own_path(put) -> None:
    handle = put("gs://test-bucket/spice/2", FILES)
    assert hub.resolve(handle) == handle
    assert hub.resolve(handle + "/") == handle + "/"


def test_a_gs_folder_is_the_same_in_uncompressed_mode(put, monkeypatch) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    handle = put("gs://test-bucket/spice/2", FILES)
    assert hub.resolve(handle) == handle


@pytest.mark.parametrize(
    "handle",
    ["gs://test-bucket/nothing", "gs://test-bucket/spice/20"],
)
def test_a_gs_folder_that_does_not_exist_is_an_os_error_that_says_so(put, handle: str) -> None:
    put("gs://test-bucket/spice/2", FILES)
    with pytest.raises(OSError, match=f"^{handle} does not exist\\.$"):
        hub.resolve(handle)


@pytest.mark.parametrize("name", ["spice/2", "spice.tar.gz"])
def test_a_handle_in_a_bucket_that_does_not_exist_names_the_bucket(name: str) -> None:
    handle = f"gs://no-such-bucket/{name}"
    with pytest.raises(
        DownloadError, match=rf"^{handle} does not exist.*'no-such-bucket'"
    ) as error:
        hub.resolve(handle)
    assert error.value.status == 404


def test_a_gs_folder_that_was_missing_is_found_when_it_has_come(put) -> None:
    with pytest.raises(OSError, match="does not exist"):
        hub.resolve("gs://test-bucket/late/1")
    handle = put("gs://test-bucket/late/1", FILES)
    assert hub.resolve(handle) == handle


# gs:// archives


@pytest.mark.parametrize(
    ("name", "compression"),
    [("model.tar", None), ("model.tar.gz", "gz"), ("model.tgz", "gz"), ("zipped.tar", "xz")],
)
@pytest.mark.parametrize("load_format", ["COMPRESSED", "UNCOMPRESSED"])
def test_a_gs_archive_is_unpacked_into_the_local_cache(
    put, cache_dir: Path, monkeypatch, name: str, compression, load_format: str
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", load_format)
    put("gs://test-bucket/a", {name: models.pack_files(FILES, compression=compression)})
    handle = f"gs://test-bucket/a/{name}"
    path = hub.resolve(handle)
    assert path == str(cache_dir / key_of(handle))
    assert models.read_files(path) == FILES


def test_a_gs_archive_is_read_once(
    put, others, emulator: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = put("gs://test-bucket/a", {"m.tgz": models.pack_files(FILES)}) + "/m.tgz"
    path = hub.resolve(handle)
    others.rm(handle)
    with Storage(emulator) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        assert hub.resolve(handle) == path
        assert storage.calls == []


def test_a_gs_archive_that_broke_off_goes_on_where_it_was(
    put,
    emulator: str,
    cache_dir: Path,
    impatient: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = models.fake_model(size=10_000_000)
    handle = put("gs://test-bucket/a", {"m.tgz": models.pack_files(files)}) + "/m.tgz"
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    with Storage(emulator) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        beginning = "bytes=0-"
        refused = storage.fault(
            lambda call: (
                call.kind == "read" and not call.request.headers["Range"].startswith(beginning)
            ),
            403,
        )
        with pytest.raises(DownloadError, match="bytes are kept") as error:
            hub.resolve(handle)
        assert handle in str(error.value)
        assert refused.met
        storage.mend()
        storage.forget()
        assert models.read_files(hub.resolve(handle)) == files
        ranges = [call.request.headers["Range"] for call in storage.calls if call.kind == "read"]
        assert ranges
        assert not any(wanted.startswith(beginning) for wanted in ranges)


def test_a_gs_archive_is_held_against_the_buckets_checksum(
    put, emulator: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = models.pack_files(FILES, compression=None)
    handle = put("gs://test-bucket/a", {"m.tar": packed}) + "/m.tar"

    def garble(call: Call) -> None:
        rotten = packed.replace(b"word", b"wort")
        call.request.answer(200, rotten)
        call.request.cut()

    with Storage(emulator) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        storage.fault(lambda call: call.kind == "read", garble)
        with pytest.raises(DownloadError, match="not what the server promised"):
            hub.resolve(handle)
    assert list(cache_dir.iterdir()) == []


def test_a_gs_archive_is_verified_and_refreshed_in_each_mode(
    put, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("gs://test-bucket/m", {"1.tar.gz": models.pack_files(FILES)})
    handle = "gs://test-bucket/m/1.tar.gz"
    path = Path(hub.resolve(handle))
    (path / "saved_model.pb").write_bytes(b"GRAPH 0")
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    (verified,) = hub.cache.verify(fix=True)
    assert verified.fixed
    assert models.read_files(path) == FILES
    other = models.fake_model(size=20_000, seed=1)
    put("gs://test-bucket/m", {"1.tar.gz": models.pack_files(other)})
    assert hub.cache.refresh(handle) == str(path)
    assert models.read_files(path) == other


def test_a_gs_archive_that_does_not_exist_is_an_os_error_and_leaves_no_entry(
    cache_dir: Path,
) -> None:
    handle = "gs://test-bucket/nothing.tar.gz"
    with pytest.raises(DownloadError, match=f"^{handle} does not exist\\.$") as error:
        hub.resolve(handle)
    assert (error.value.handle, error.value.status) == (handle, 404)
    assert list(cache_dir.iterdir()) == []


def test_a_gs_archive_that_is_none_does_not_appear_to_be_a_valid_module(
    put, cache_dir: Path
) -> None:
    handle = put("gs://test-bucket/a", {"m.tgz": b"<html>not a model</html>"}) + "/m.tgz"
    with pytest.raises(ArchiveError, match=f"^{handle} does not appear to be a valid module"):
        hub.resolve(handle)
    assert list(cache_dir.iterdir()) == []


def test_a_gs_archive_that_is_cut_off_is_refused(put, cache_dir: Path) -> None:
    whole = models.pack_files(FILES)
    handle = put("gs://test-bucket/a", {"m.tgz": whole[: len(whole) // 2]}) + "/m.tgz"
    with pytest.raises(ArchiveError, match="does not appear to be a valid module"):
        hub.resolve(handle)
    assert list(cache_dir.iterdir()) == []


def test_a_gs_archive_with_a_member_that_escapes_is_a_value_error(put, cache_dir: Path) -> None:
    data = models.pack_files(FILES, extra_members=[models.member("../escaped", data=b"!")])
    handle = put("gs://test-bucket/a", {"m.tgz": data}) + "/m.tgz"
    with pytest.raises(UnsafeArchiveError, match=r"\.\./escaped"):
        hub.resolve(handle)
    assert list(cache_dir.iterdir()) == []
    assert not (cache_dir.parent / "escaped").exists()


# UNCOMPRESSED handles


@pytest.fixture
def uncompressed(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Path:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    return cache_dir


def test_an_uncompressed_handle_is_the_gs_folder_that_the_host_names(
    host: Host, put, uncompressed: Path
) -> None:
    folder = put("gs://test-bucket/google/spice/2/uncompressed", FILES)
    handle = host.publish("/google/spice/2", b"", gcs=folder)
    assert hub.resolve(handle) == folder
    assert [request.target for request in host.requests] == [
        "/google/spice/2?tf-hub-format=uncompressed"
    ]
    assert not uncompressed.exists()


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_an_uncompressed_handle_follows_redirects_to_the_answer(
    host: Host, put, uncompressed: Path, code: int
) -> None:
    folder = put("gs://test-bucket/m/1", FILES)
    target = host.publish("/new/1", b"", gcs=folder)
    handle = host.route("/old/1", redirect(f"{target}?tf-hub-format=uncompressed", code))
    assert hub.resolve(handle) == folder


def test_the_host_is_asked_each_time_as_there_is_no_cache(
    host: Host, put, uncompressed: Path
) -> None:
    old, new = (put(f"gs://test-bucket/m/{n}", FILES) for n in (1, 2))
    handle = host.route("/m", in_turn(gcs_folder(old), gcs_folder(new)))
    assert [hub.resolve(handle), hub.resolve(handle)] == [old, new]


def test_a_newline_after_the_gs_folder_does_no_harm(host: Host, put, uncompressed: Path) -> None:
    folder = put("gs://test-bucket/m/1", FILES)
    assert hub.resolve(host.route("/m/1", gcs_folder(f"{folder}\n"))) == folder


def test_a_host_that_names_a_gs_folder_that_is_not_there_is_an_os_error(
    host: Host, uncompressed: Path
) -> None:
    handle = host.publish("/m/1", b"", gcs="gs://test-bucket/m/1")
    with pytest.raises(OSError, match=r"^gs://test-bucket/m/1 does not exist\.$"):
        hub.resolve(handle)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(200, body="gs://test-bucket/m/1"), 200),
        (web_page(), 200),
        (status(404), 404),
        (status(403), 403),
        (status(206, body="gs://test-bucket/m/1"), 206),
    ],
    ids=["200 with a folder", "web page", "404", "403", "206"],
)
def test_an_answer_other_than_303_is_a_value_error_that_suggests_compressed(
    host: Host, put, uncompressed: Path, answer, code: int
) -> None:
    put("gs://test-bucket/m/1", FILES)
    handle = host.route("/m/1", answer)
    with pytest.raises(ProtocolError) as error:
        hub.resolve(handle)
    assert isinstance(error.value, ValueError)
    assert f"Expected 303 See other HTTP response but received code {code}" in str(error.value)
    assert handle in str(error.value)
    assert "TFHUB_MODEL_LOAD_FORMAT=COMPRESSED" in str(error.value)


@pytest.mark.parametrize(
    "answer", ["s3://bucket/m/1", "", "/m/1", "https://h/m", "see gs://b/m", "gs://b\nm"]
)
def test_a_303_that_names_no_gs_folder_is_a_value_error_that_suggests_compressed(
    host: Host, uncompressed: Path, answer: str
) -> None:
    handle = host.route("/m/1", gcs_folder(answer))
    with pytest.raises(ProtocolError) as error:
        hub.resolve(handle)
    assert "Expected server to return a GCS location but received" in str(error.value)
    assert repr(answer) in str(error.value)
    assert "TFHUB_MODEL_LOAD_FORMAT=COMPRESSED" in str(error.value)


def test_a_303_with_bytes_that_are_no_text_is_a_value_error(host: Host, uncompressed: Path) -> None:
    handle = host.route("/m/1", status(303, body=b"\xff\xfe\x00"))
    with pytest.raises(ProtocolError, match="Expected server to return a GCS location"):
        hub.resolve(handle)


@pytest.mark.parametrize("location", ["gs://test-bucket/m/1", "/elsewhere"])
def test_a_303_with_a_location_is_not_followed_as_the_folder_is_in_its_body(
    host: Host, put, uncompressed: Path, location: str
) -> None:
    folder = put("gs://test-bucket/m/1", FILES)
    handle = host.route("/m/1", status(303, {"Location": location}, folder))
    assert hub.resolve(handle) == folder
    assert len(host.requests) == 1


# gs:// caches


@pytest.fixture(params=["gs://test-bucket/models", "gs://test-bucket/models/", "gs://test-bucket"])
def bucket_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A cache in a bucket, as TFHUB_CACHE_DIR."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", request.param)
    return request.param


def test_a_gs_cache_holds_the_model_where_the_returned_path_says(
    host: Host, others, bucket_cache: str
) -> None:
    handle = host.publish("/m/1", models.pack_files(FILES))
    path = hub.resolve(handle)
    assert path.startswith(f"{bucket_cache.rstrip('/')}/{key_of(handle)}.")
    assert objects(others, path) == FILES
    beside = {name.rpartition("/")[2] for name in others.ls(bucket_cache.rstrip("/"))}
    assert beside == {path.rpartition("/")[2], f"{key_of(handle)}.manifest.json"}


def test_a_model_in_a_gs_cache_is_not_downloaded_again(host: Host, bucket_cache: str) -> None:
    handle = host.publish("/m/1", models.pack_files(FILES))
    path = hub.resolve(handle)
    assert len(host.requests) == 1
    assert hub.resolve(handle) == path
    host.close()
    as_another_process()
    assert hub.resolve(handle) == path
    assert len(host.requests) == 1


def test_what_is_in_a_gs_cache_is_a_gs_handle_of_its_own(host: Host, bucket_cache: str) -> None:
    path = hub.resolve(host.publish("/m/1", models.pack_files(FILES)))
    assert hub.resolve(path) == path


def test_a_gs_archive_can_go_into_a_gs_cache(put, others, bucket_cache: str) -> None:
    handle = put("gs://test-bucket/a", {"m.tgz": models.pack_files(FILES)}) + "/m.tgz"
    assert objects(others, hub.resolve(handle)) == FILES


def test_a_failed_download_leaves_nothing_in_a_gs_cache(
    host: Host, others, bucket_cache: str
) -> None:
    with pytest.raises(DownloadError, match="404"):
        hub.resolve(host.url + "/nothing")
    with pytest.raises(ArchiveError, match="does not appear to be a valid module"):
        hub.resolve(host.route("/page", web_page()))
    assert others.find("test-bucket") == []


def test_a_gs_cache_in_a_bucket_that_does_not_exist_fails_and_names_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://no-such-bucket/models")
    with pytest.raises(OSError, match="no-such-bucket"):
        hub.resolve(host.publish("/m/1", models.pack_files(FILES)))
