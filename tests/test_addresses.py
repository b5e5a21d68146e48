"""What may be written as the address of a cache: which ones work, and which are refused at once."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import models
import pytest
from command import run_command
from processes import Finished
from servers import Host, bucket_server

import tfhub_cache as hub
from tfhub_cache.errors import CacheError, DownloadError

pytestmark = pytest.mark.once

FILES = models.fake_model(size=20_000)


@pytest.fixture
def handle(host: Host) -> str:
    return host.publish("/m/1", models.pack_files(FILES))


@pytest.mark.parametrize("scheme", ["gs", "gcs", "GS", "s3", "az", "sftp", "memory"])
@pytest.mark.parametrize("rest", ["", "/", "//"])
def test_an_address_without_a_name_is_refused(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch, scheme: str, rest: str
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{scheme}://{rest}")
    with pytest.raises(CacheError, match=f"{scheme.lower()}://.*a name is missing"):
        hub.resolve(handle)
    assert host.requests == []


@pytest.mark.parametrize("root", ["file://", "local://"])
def test_an_address_of_a_folder_without_a_name_is_not_the_current_folder(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFHUB_CACHE_DIR", root)
    with pytest.raises(CacheError, match=f"{root}.*a name is missing"):
        hub.resolve(handle)
    assert host.requests == []


@pytest.mark.parametrize("scheme", ["gs", "gcs", "s3", "az", "abfs", "sftp"])
def test_an_address_whose_bucket_is_an_empty_variable_is_refused(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{scheme}:///models")
    with pytest.raises(CacheError, match=f"{scheme}:///models.*a name is missing"):
        hub.resolve(handle)
    assert host.requests == []
    done = run_command("ls")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("handle", ["gs:///spice/2", "gs:///spice/2.tar.gz", "gs://"])
@pytest.mark.parametrize("load_format", ["COMPRESSED", "UNCOMPRESSED"])
def test_a_handle_whose_bucket_is_an_empty_variable_is_refused(
    handle: str, load_format: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", load_format)
    with pytest.raises(DownloadError, match=f"^{handle} does not exist: .* is missing"):
        hub.resolve(handle)


@pytest.mark.parametrize("folder", ["all*", "[models]", "models?"])
@pytest.mark.parametrize("place", ["gs://bucket", "s3://bucket", "memory://shared"])
def test_an_address_that_fsspec_takes_for_a_pattern_is_refused(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch, place: str, folder: str
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{place}/{folder}")
    with pytest.raises(CacheError, match="make a pattern of it"):
        hub.resolve(handle)
    assert host.requests == []


@pytest.mark.parametrize("prefix", ["", "file://", "local://"])
@pytest.mark.parametrize("folder", ["all*", "[models]", "plain"])
def test_a_folder_of_any_name_works_though_it_is_not_there_yet(
    host: Host,
    handle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    folder: str,
) -> None:
    root = tmp_path / "absent" / folder
    monkeypatch.setenv("TFHUB_CACHE_DIR", f"{prefix}{root}")
    assert hub.cache.entries() == []
    path = hub.resolve(handle)
    assert models.read_files(path.removeprefix("file://")) == FILES
    assert Path(path.removeprefix("file://")).parent == root
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    "root", ["webdav://host/models", "nonsense://host/models", "https://127.0.0.1:1/models"]
)
def test_an_address_for_which_there_is_no_file_system_is_refused_with_those_that_work(
    host: Host, handle: str, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", root)
    for ask in (lambda: hub.resolve(handle)), hub.cache.entries:
        with pytest.raises(CacheError, match=f"no file system for the cache {root}") as error:
            ask()
        for scheme in "gs://", "s3://", "az://", "sftp://", "memory://":
            assert scheme in str(error.value)
    assert host.requests == []


@pytest.mark.parametrize(
    ("root", "package"),
    [
        ("s3://bucket/models", "s3fs"),
        ("az://container/models", "adlfs"),
        ("abfs://container/models", "adlfs"),
        ("sftp://me:secret@127.0.0.1/models", "sshfs"),
    ],
)
def test_a_scheme_whose_package_is_not_installed_names_it(
    run_python: Callable[..., Finished], root: str, package: str
) -> None:
    code = f"""
        import sys
        sys.modules[{package!r}] = None  # to import it fails
        import tfhub_cache as hub
        hub.cache.entries()
    """
    done = run_python(textwrap.dedent(code), env={"TFHUB_CACHE_DIR": root})
    assert "CacheError: There is no file system for the cache" in done.stderr
    assert f"(pip install {package})" in done.stderr
    assert "secret" not in done.stderr


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


def test_gcs_is_another_name_of_gs(
    emulator: str, host: Host, handle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gcs://test-bucket/models")
    assert hub.resolve(handle).startswith("gs://test-bucket/models/")
