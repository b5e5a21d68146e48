"""What every kind of cache promises: on a disk, in a bucket of Google's or of S3, in memory.

One suite, run on each kind of store, through what users call. What only one of them can do is in
the tests of that one.
"""

from __future__ import annotations

import concurrent.futures
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import models
import pytest
import requests
from entries import key_of
from fsspec.implementations.local import LocalFileSystem
from logs import warnings
from models import pack_files
from other_stores import azure_server, sftp_server
from servers import Host, bucket_server, s3_server, stall, status
from storage import Storage
from waiting import SOON, until_unlocked

import tfhub_cache as hub

pytestmark = pytest.mark.once

MODEL = models.fake_model(size=20_000)
OTHER = models.fake_model(size=20_000, seed=7)
SHARD = "variables/variables.data-00000-of-00001"


class Cache:
    """The cache under test, seen past the library.

    Attributes:
        root: as `TFHUB_CACHE_DIR` has it.
        files: fsspec's file system for it.
        has_preconditions: whether of several that create a file at once only one does.
    """

    has_preconditions = True

    def __init__(self, root: str, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.files = files
        self._setenv = monkeypatch.setenv
        self._spelling = root
        self._setenv("TFHUB_CACHE_DIR", root)
        self._setenv("TFHUB_BUCKET_GRACE", "0s")

    def as_another_process(self) -> None:
        """Goes on without what this process remembers, which goes by the spelling of the root."""
        self._spelling += "/"
        self._setenv("TFHUB_CACHE_DIR", self._spelling)

    def names(self) -> set[str]:
        until_unlocked()
        root = self.files._strip_protocol(self.root).rstrip("/") + "/"
        return {name.removeprefix(root) for name in self.files.find(root)}

    def model(self, path: str) -> dict[str, bytes]:
        """The files of the model at a path that the library returned."""
        root = self.files._strip_protocol(path).replace("//", "/").rstrip("/") + "/"
        found = {
            name.removeprefix(root): self.files.cat_file(name) for name in self.files.find(root)
        }
        return {name: content for name, content in found.items() if not name.endswith("/")}

    def put(self, path: str, content: bytes) -> None:
        full = f"{self.root}/{path}"
        self.files.makedirs(full.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(full, content)

    def delete(self, path: str) -> None:
        self.files.rm_file(path)


def on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    yield Cache(str(tmp_path / "cache"), fsspec.filesystem("file"), monkeypatch)


def in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield Cache("memory://shared/models", files, monkeypatch)
    files.store.clear()


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    with azure_server("models") as connection_string:
        yield connection_string


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    folder = tmp_path_factory.mktemp("sftp")
    with sftp_server(folder) as (url, known_host):
        yield folder, url, known_host


def at_azure(connection_string: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    from adlfs import AzureBlobFileSystem

    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string)
    AzureBlobFileSystem.clear_instance_cache()
    files = AzureBlobFileSystem(
        connection_string=connection_string, skip_instance_cache=True, use_listings_cache=False
    )
    with_objects = files.find("models")
    if with_objects:
        files.rm(with_objects)
    yield Cache("az://models/cache", files, monkeypatch)
    AzureBlobFileSystem.clear_instance_cache()


def over_sftp(
    folder: Path, url: str, known_host: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cache]:
    class Served(LocalFileSystem):
        """The folder behind the server, by the server's URLs."""

        cachable = False

        @classmethod
        def _strip_protocol(cls, path: Any) -> Any:
            return super()._strip_protocol(str(path).replace(url, str(folder), 1))

    (home / ".ssh").mkdir()
    (home / ".ssh" / "known_hosts").write_text(known_host)
    shutil.rmtree(folder / "models", ignore_errors=True)
    cache = Cache(f"{url}/models", Served(), monkeypatch)
    cache.has_preconditions = False
    yield cache


@pytest.fixture(params=["disk", "memory", "gs", "gs without preconditions", "s3", "az", "sftp"])
def cache(
    request: pytest.FixtureRequest, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cache]:
    """An empty cache on each kind of store."""
    if request.param == "disk":
        yield from on_a_disk(tmp_path, monkeypatch)
    elif request.param == "memory":
        yield from in_memory(tmp_path, monkeypatch)
    elif request.param == "az":
        yield from at_azure(request.getfixturevalue("azure"), monkeypatch)
    elif request.param == "sftp":
        yield from over_sftp(*request.getfixturevalue("sftp"), home, monkeypatch)
    elif request.param.startswith("gs"):
        gcsfs_core = pytest.importorskip("gcsfs.core")
        endpoint = request.getfixturevalue("google")
        wiped = requests.get(f"{endpoint}/wipe", params={"keep-buckets": "true"}, timeout=10)
        wiped.raise_for_status()
        with Storage(endpoint) as front:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
            files = gcsfs_core.GCSFileSystem(
                endpoint_url=endpoint,
                token="anon",
                skip_instance_cache=True,
                use_listings_cache=False,
            )
            cache = Cache("gs://test-bucket/models", files, monkeypatch)
            cache.has_preconditions = front.preconditions = request.param == "gs"
            yield cache
    else:
        s3fs = pytest.importorskip("s3fs")
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
        with_objects = files.find("test-bucket")
        if with_objects:
            files.rm(with_objects)
        yield Cache("s3://test-bucket/models", files, monkeypatch)
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def _settled(cache: Cache) -> Iterator[None]:
    yield
    until_unlocked()


@pytest.fixture
def handle(host: Host, cache: Cache) -> str:
    return host.publish("/demo/model/1", pack_files(MODEL))


def of(cache: Cache, handle: str) -> set[str]:
    """The names of all that there is of a handle's model."""
    return {name for name in cache.names() if name.startswith(key_of(handle))}


def resolve(handle: str) -> str:
    """Resolves a handle as a process does that then ends."""
    path = hub.resolve(handle)
    until_unlocked()
    return path


# Resolving.


def test_a_model_is_downloaded_once_and_is_what_was_published(
    cache: Cache, host: Host, handle: str
) -> None:
    path = hub.resolve(handle)
    assert path.startswith(cache.root)
    assert cache.model(path) == MODEL
    cache.as_another_process()
    assert cache.model(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 1


def test_files_of_odd_sizes_and_names_arrive(cache: Cache, host: Host) -> None:
    files: Mapping[str, bytes] = {
        **MODEL,
        "assets/empty": b"",
        "assets/with space.txt": b"x",
        "assets/\u00e9t\u00e9.txt": b"y",
        "assets/deep/er/blob": bytes(6 << 20),
    }
    handle = host.publish("/odd/1", pack_files(files))
    assert cache.model(hub.resolve(handle)) == files


@pytest.mark.parametrize("lost", ["saved_model.pb", SHARD])
def test_a_model_that_lost_a_file_is_downloaded_again_with_one_warning(
    cache: Cache, host: Host, handle: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache.delete(f"{hub.resolve(handle)}/{lost}")
    cache.as_another_process()
    caplog.clear()
    assert cache.model(hub.resolve(handle)) == MODEL
    assert len(host.requests) == 2
    assert len(warnings(caplog)) == 1


def test_a_model_that_tensorflow_hub_has_put_there_is_used(cache: Cache, host: Host) -> None:
    handle = f"{host.url}/theirs/1"
    for name, content in MODEL.items():
        cache.put(f"{key_of(handle)}/{name}", content)
    assert cache.model(hub.resolve(handle)) == MODEL
    assert not host.requests
    assert [entry.state for entry in hub.cache.entries()] == ["foreign"]


def test_threads_that_ask_at_once_download_once_where_that_can_be_decided(
    cache: Cache, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or what another thread has made a moment ago would be garbage, where two can take one lock.
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "1h")
    release = threading.Event()
    handle = host.publish("/slow/1", stall(pack_files(MODEL), 5_000, release))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(hub.resolve, handle) for _ in range(4)]
        host.wait_for_requests(1)
        release.set()
        paths = {one.result(SOON) for one in asked}
    assert len(paths) == 1 or not cache.has_preconditions
    assert all(cache.model(path) == MODEL for path in paths)
    assert len(host.requests) <= (1 if cache.has_preconditions else 4)


def test_a_download_that_fails_leaves_nothing(cache: Cache, host: Host) -> None:
    handle = host.publish("/gone/1", status(404))
    with pytest.raises(OSError, match="404"):
        hub.resolve(handle)
    assert of(cache, handle) == set()


def test_what_a_crashed_process_of_this_machine_left_is_replaced_at_once(
    cache: Cache, host: Host, handle: str, dead_owner: str
) -> None:
    cache.put(f"{key_of(handle)}.lock", dead_owner.encode())
    assert cache.model(hub.resolve(handle)) == MODEL
    assert f"{key_of(handle)}.lock" not in cache.names()


def test_a_machine_that_has_fallen_silent_is_replaced_after_the_lock_timeout(
    cache: Cache, host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", "0.3")
    cache.put(f"{key_of(handle)}.lock", b"elsewhere.77.cache-0")
    assert cache.model(hub.resolve(handle)) == MODEL
    assert f"{key_of(handle)}.lock" not in cache.names()


@pytest.fixture
def dead_owner() -> str:
    import socket

    from entries import dead_pid

    return f"{socket.gethostname()}.{dead_pid()}.cache-0"


# Looking after the cache.


def test_a_model_is_listed_with_its_handle_size_and_state(cache: Cache, handle: str) -> None:
    assert hub.cache.entries() == []
    path = resolve(handle)
    (entry,) = hub.cache.entries()
    assert (entry.handle, entry.state, entry.flaw) == (handle, "ok", None)
    assert (entry.size, entry.files) == (sum(map(len, MODEL.values())), len(MODEL))
    assert entry.path.rstrip("/") == path
    assert hub.cache.find(handle) == entry


def test_verify_finds_a_changed_byte_and_fix_downloads_the_model_again(
    cache: Cache, host: Host, handle: str
) -> None:
    path = resolve(handle)
    (verified,) = hub.cache.verify()
    assert verified.is_sound
    assert verified.compared
    cache.files.pipe_file(f"{path}/{SHARD}", bytes(len(MODEL[SHARD])))
    (verified,) = hub.cache.verify()
    assert SHARD in verified.problems[0]
    (verified,) = hub.cache.verify(fix=True)
    assert verified.fixed
    assert cache.model(resolve(handle)) == MODEL


def test_a_removed_model_leaves_nothing_and_others_stay(
    cache: Cache, host: Host, handle: str
) -> None:
    other = host.publish("/other/1", pack_files(OTHER))
    resolve(handle)
    resolve(other)
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None
    assert of(cache, handle) == set()
    cache.as_another_process()
    assert cache.model(resolve(other)) == OTHER
    assert len(host.requests) == 2


def test_prune_says_beforehand_what_it_then_removes(cache: Cache, host: Host, handle: str) -> None:
    other = host.publish("/other/1", pack_files(OTHER))
    resolve(handle)
    resolve(other)
    would = hub.cache.prune(max_size=0, dry_run=True)
    assert of(cache, handle)
    done = hub.cache.prune(max_size=0)
    assert {entry.handle for entry in done.removed} == {handle, other}
    assert (would.removed, would.freed, would.size) == (done.removed, done.freed, done.size)
    assert of(cache, handle) == of(cache, other) == set()
    assert hub.cache.entries() == []


def test_prune_removes_what_a_crashed_process_left(
    cache: Cache, host: Host, handle: str, dead_owner: str
) -> None:
    resolve(handle)
    lost = f"{host.url}/lost/1"
    cache.put(f"{key_of(lost)}.lock", dead_owner.encode())
    cache.put(f"{key_of(lost)}.cache-0.tmp/saved_model.pb", b"half")
    pruned = hub.cache.prune()
    assert pruned.leftovers
    assert of(cache, lost) == set()
    assert cache.model(resolve(handle)) == MODEL


def test_a_refreshed_model_is_the_new_one_and_if_that_fails_the_old_one(
    cache: Cache, host: Host
) -> None:
    handle = host.publish("/demo/latest", pack_files(MODEL))
    resolve(handle)
    host.publish("/demo/latest", status(404))
    with pytest.raises(OSError, match="404"):
        hub.cache.refresh(handle)
    cache.as_another_process()
    assert cache.model(resolve(handle)) == MODEL
    host.publish("/demo/latest", pack_files(OTHER))
    assert cache.model(hub.cache.refresh(handle)) == OTHER
    cache.as_another_process()
    assert cache.model(resolve(handle)) == OTHER


def test_a_cache_that_has_grown_too_large_makes_room(
    cache: Cache, host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(handle)
    other = host.publish("/other/1", pack_files(OTHER))
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "1kB")
    monkeypatch.setenv("TFHUB_CACHE_KEEP_USED", "0s")
    resolve(other)
    assert of(cache, handle) == set()
    assert cache.model(resolve(other)) == OTHER


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 1}', b"\xff", b"[" * 100_000],
    ids=["empty", "cut", "a list", "fields missing", "no text", "deep"],
)
def test_a_manifest_that_can_not_be_read_is_damage_of_that_model_only(
    cache: Cache, host: Host, handle: str, content: bytes
) -> None:
    other = host.publish("/other/1", pack_files(OTHER))
    resolve(other)
    resolve(handle)
    cache.put(f"{key_of(handle)}.manifest.json", content)
    cache.as_another_process()
    states = {entry.key: entry.state for entry in hub.cache.entries()}
    assert states == {key_of(handle): "incomplete", key_of(other): "ok"}
    assert cache.model(resolve(handle)) == MODEL
    assert len(host.requests) == 3
