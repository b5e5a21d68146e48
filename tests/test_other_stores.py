"""Caches in S3, at Azure and on a host that is reached by SFTP: how users get there.

What they promise there is in `test_stores`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import models
import pytest
from entries import key_of
from fsspec.implementations.memory import MemoryFileSystem
from other_stores import azure_server, sftp_server
from servers import Host, Request, archive, s3_server
from waiting import SOON, in_background

import tfhub_cache as hub
from tfhub_cache.errors import CacheError

pytestmark = [pytest.mark.once, pytest.mark.timeout(120)]

FILES = models.fake_model(size=20_000)


@pytest.fixture
def handle(host: Host) -> str:
    return host.publish("/m/1", models.pack_files(FILES))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder behind the SFTP server."""
    return tmp_path_factory.mktemp("sftp")


@pytest.fixture(scope="module")
def sftp(served: Path) -> Iterator[tuple[str, str]]:
    with sftp_server(served) as started:
        yield started


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    with azure_server("models") as connection_string:
        yield connection_string


def test_a_host_of_sftp_that_is_known_holds_a_cache(
    host: Host,
    handle: str,
    sftp: tuple[str, str],
    served: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, known_host = sftp
    (home / ".ssh").mkdir()
    (home / ".ssh" / "known_hosts").write_text(known_host)
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{url}/team/models")
    assert hub.cache.entries() == []
    path = hub.resolve(handle)
    assert models.read_files(served / path.removeprefix(f"{url}/")) == FILES
    assert [entry.state for entry in hub.cache.entries()] == ["ok"]
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None
    assert [file for file in served.rglob("*") if file.is_file()] == []
    assert len(host.requests) == 1


def test_a_host_of_sftp_that_is_not_known_is_refused(
    host: Host, handle: str, sftp: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another spelling than in the test before: sshfs keeps its connections.
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{sftp[0].replace('127.0.0.1', 'localhost')}/models")
    with pytest.raises(CacheError, match=r"[Hh]ost key is not trusted") as error:
        hub.resolve(handle)
    assert "secret" not in str(error.value)
    assert host.requests == []


def test_a_container_at_azure_holds_a_cache(
    host: Host, handle: str, azure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "az://models/cache")
    assert hub.cache.entries() == []
    assert hub.resolve(handle).startswith("az://models/cache/")
    (entry,) = hub.cache.entries()
    assert (entry.state, entry.files) == ("ok", len(FILES))
    assert [verified.is_sound for verified in hub.cache.verify()] == [True]
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None
    assert hub.cache.entries() == []
    assert len(host.requests) == 1


def test_at_azure_the_machines_clock_does_not_matter(
    handle: str, azure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a living process is filling would otherwise be removed as garbage."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "az://models/clocks")
    files = fsspec.filesystem("az", connection_string=azure, use_listings_cache=False)
    filled = f"models/clocks/{key_of(handle)}.cache-0/saved_model.pb"
    files.pipe_file(filled, b"a part")
    files.pipe_file(f"models/clocks/{key_of(handle)}.lock", b"elsewhere.77.cache-0")
    ahead = time.time() + 3 * 3600
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert hub.cache.prune().leftovers == {}
    assert [entry.state for entry in hub.cache.entries()] == ["downloading"]
    assert files.exists(filled)


def test_at_azure_a_model_that_another_machine_repairs_first_stays(
    host: Host, handle: str, azure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "az://models/repaired")
    path = hub.resolve(handle)
    files = fsspec.filesystem("az", connection_string=azure, use_listings_cache=False)
    manifest = f"models/repaired/{key_of(handle)}.manifest.json"
    intact = files.cat_file(manifest)
    files.pipe_file(manifest, b"{}")

    def repair_it_meanwhile(request: Request) -> None:
        files.pipe_file(manifest, intact)
        archive(models.pack_files(FILES))(request)

    host.publish("/m/1", repair_it_meanwhile)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "az://models/repaired/")  # as another process
    assert hub.resolve(handle) == path
    assert files.cat_file(manifest) == intact
    assert len(host.requests) == 2


def test_a_container_at_azure_that_does_not_exist_is_an_error_that_says_so(
    host: Host, handle: str, azure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "az://no-such-container/cache")
    with pytest.raises(CacheError, match=r"az://no-such-container/cache.*container does not exist"):
        in_background(hub.resolve, handle).result(SOON)
    assert host.requests == []


def test_azure_without_an_account_is_an_error_that_names_what_is_missing(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    adlfs = pytest.importorskip("adlfs")
    adlfs.AzureBlobFileSystem.clear_instance_cache()
    monkeypatch.setenv("TFHUB_CACHE_DIR", "az://models/cache")
    with pytest.raises(CacheError, match=r"az://models/cache.*account_name"):
        hub.resolve(handle)
    assert host.requests == []


def test_a_bucket_of_s3_that_does_not_exist_is_named(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("TFHUB_CACHE_DIR", "s3://no-such-bucket/models")
    with s3_server("test-bucket") as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        with pytest.raises(CacheError, match=r"s3://no-such-bucket/models: The specified bucket"):
            hub.resolve(handle)
    s3fs.S3FileSystem.clear_instance_cache()
    assert host.requests == []


def test_an_upload_whose_place_is_gone_is_an_error_and_nothing_is_published(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(MemoryFileSystem):
        protocol = "failing"
        store: ClassVar[dict[str, Any]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("failing://").strip("/")

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kw: Any) -> None:
            if "/assets/" in path:
                raise FileNotFoundError(path)
            super().pipe_file(path, value, mode=mode, **kw)

    fsspec.register_implementation("failing", Failing, clobber=True)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "failing://shared/models")
    with pytest.raises(CacheError, match=r"failing://shared/models.*there is no .*/assets/"):
        hub.resolve(handle)
    assert Failing.store == {}
