"""No network: what is cached works, and what is not says what to do; at once, if that is set."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from entries import foreign, key_of, left_behind, names
from models import fake_model, pack_files, read_files
from servers import Host

import tfhub_cache as hub
from tfhub_cache import settings
from tfhub_cache.errors import DownloadError, OfflineError, ResolveError
from tfhub_cache.store.disk.lock import Lock

MODEL = fake_model()
ARCHIVE = pack_files(MODEL)

GUARD = """
import os, sys

def guard(event, arguments):
    # Sockets, names that are looked up, and processes that might do either.
    if event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "subprocess.Popen"):
        os.write(2, f"the network is used: {event} {arguments}".encode())
        os._exit(99)

sys.addaudithook(guard)
import tfhub_cache as hub

def outcome(handle):
    try:
        return hub.resolve(handle)
    except Exception as error:
        return type(error).__name__

for handle in sys.argv[1:]:
    print(outcome(handle))
"""
"""Resolves handles in a process that dies if it opens a socket."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_OFFLINE", "1")


@pytest.fixture
def cached(host: Host, cache_dir: Path) -> str:
    """A handle that is in the cache; its host is still there."""
    handle = host.publish("/m/1", ARCHIVE)
    hub.resolve(handle)
    return handle


# What is there works.


def test_with_no_network_and_no_setting_a_cached_handle_resolves(cached: str, host: Host) -> None:
    host.close()
    assert read_files(hub.resolve(cached)) == MODEL


def test_a_cached_handle_resolves_offline(cached: str, host: Host, cache_dir: Path, offline):
    assert hub.resolve(cached) == str(cache_dir / key_of(cached))
    assert len(host.requests) == 1


def test_what_tensorflow_hub_has_downloaded_resolves_offline(cache_dir: Path, offline) -> None:
    entry = foreign(cache_dir, "https://tfhub.dev/google/nnlm/2")
    assert hub.resolve("https://tfhub.dev/google/nnlm/2") == str(entry)


def test_local_paths_resolve_offline(tmp_path: Path, offline) -> None:
    assert hub.resolve(str(tmp_path)) == str(tmp_path)
    assert hub.resolve(f"file://{tmp_path}") == f"file://{tmp_path}"


@pytest.mark.parametrize("how", ["environment", "flag"])
def test_no_socket_is_opened_offline(
    cached: str, host: Host, run_python, tmp_path: Path, how: str
) -> None:
    handles = {
        cached: hub.resolve(cached),
        str(tmp_path): str(tmp_path),
        f"{host.url}/other/1": "OfflineError",
        "https://tfhub.dev/google/nnlm/2": "OfflineError",
        "gs://bucket/model": "OfflineError",
        "gs://bucket/model.tar.gz": "OfflineError",
        "s3://bucket/model": "OfflineError",
    }
    code = GUARD
    if how == "flag":
        parse = "from absl import flags; flags.FLAGS(['program', '--tfhub_offline'])"
        code = GUARD.replace("import tfhub_cache as hub", f"import tfhub_cache as hub\n{parse}")
    environment = {"TFHUB_OFFLINE": "1" if how == "environment" else None}
    done = run_python(code, args=list(handles), env=environment).check()
    assert done.stdout.splitlines() == list(handles.values())
    environment = {"TFHUB_OFFLINE": "yes", "TFHUB_MODEL_LOAD_FORMAT": "UNCOMPRESSED"}
    done = run_python(GUARD, args=[cached, "gs://bucket/model.tar.gz"], env=environment).check()
    assert done.stdout.splitlines() == ["OfflineError", "OfflineError"]
    assert len(host.requests) == 1


def test_the_guard_would_notice_a_socket(cached: str, host: Host, run_python, cache_dir: Path):
    done = run_python(GUARD, args=[host.publish("/other/1", ARCHIVE)])
    assert done.returncode == 99
    assert "the network is used: socket." in done.stderr


@pytest.mark.tensorflow
def test_a_cached_model_loads_offline(
    host: Host,
    cache_dir: Path,
    text_embedding: Path,
    archive_of,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = host.publish("/text/1", archive_of(text_embedding))
    hub.resolve(handle)
    host.close()
    monkeypatch.setenv("TFHUB_OFFLINE", "1")
    assert callable(hub.load(handle))


# What is not there is an error that says what to do.


def test_what_is_not_cached_is_an_error_that_names_it_and_the_command_that_fetches_it(
    host: Host, cache_dir: Path, offline
) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    with pytest.raises(OfflineError) as error:
        hub.resolve(handle)
    assert isinstance(error.value, OSError)
    assert str(error.value) == (
        f"{handle} would have to be downloaded into the cache {cache_dir}, but TFHUB_OFFLINE is "
        f"set. Fetch it beforehand, where there is a network: tfhub-cache resolve {handle}"
    )
    assert error.value.handle == handle
    assert host.requests == []
    assert not cache_dir.exists()


def test_a_secret_in_the_handle_is_not_shown(host: Host, cache_dir: Path, offline) -> None:
    handle = f"{host.url}/m/1?signature=5ec2e7".replace("http://", "http://me:5ec2e7@")
    with pytest.raises(OfflineError, match="tfhub-cache resolve HANDLE") as error:
        hub.resolve(handle)
    assert "5ec2e7" not in str(error.value)


def test_a_damaged_model_is_an_error_that_says_so_and_what_is_left_stays(
    cached: str, host: Host, offline
) -> None:
    path = Path(hub.resolve(cached))
    (path / "saved_model.pb").unlink()
    left = read_files(path)
    with pytest.raises(OfflineError, match=r"is damaged \(.*saved_model.pb is missing\)") as error:
        hub.resolve(cached)
    assert f"tfhub-cache resolve {cached}" in str(error.value)
    assert read_files(path) == left
    assert len(host.requests) == 1


def test_a_model_that_a_process_replaces_at_this_moment_is_waited_for(
    cached: str, cache_dir: Path, offline
) -> None:
    path = Path(hub.resolve(cached))
    aside = path.with_name("aside")
    lock = Lock(str(path), 60).attempt()
    assert lock is not None
    path.rename(aside)
    found: list[str | Exception] = []

    def resolve() -> None:
        try:
            found.append(hub.resolve(cached))
        except OfflineError as error:
            found.append(error)

    reader = threading.Thread(target=resolve)
    reader.start()
    reader.join(0.3)
    aside.rename(path)
    lock.release()
    reader.join(20)
    assert found == [str(path)]


def test_what_a_dead_process_left_is_not_waited_for(cache_dir: Path, offline) -> None:
    handle = "https://example.com/m/1"
    left_behind(cache_dir, handle)
    with pytest.raises(OfflineError):
        hub.resolve(handle)


def test_a_refresh_is_an_error_and_the_cached_model_stays(cached: str, host: Host, offline) -> None:
    with pytest.raises(OfflineError, match="TFHUB_OFFLINE is set"):
        hub.cache.refresh(cached)
    assert read_files(hub.resolve(cached)) == MODEL
    assert len(host.requests) == 1


def test_a_cache_that_cannot_be_written_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(OfflineError):
        hub.resolve("https://tfhub.dev/google/nnlm/2")


def test_an_uncompressed_model_is_an_error_that_names_the_other_mode(
    host: Host, monkeypatch: pytest.MonkeyPatch, offline
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    handle = host.publish("/m/1", ARCHIVE, gcs="gs://bucket/m/1")
    with pytest.raises(OfflineError, match="Set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED"):
        hub.resolve(handle)
    assert host.requests == []


@pytest.mark.parametrize("path", ["gs://bucket/model/1", "S3://bucket/model", "hdfs://host/model"])
def test_a_path_that_is_not_on_this_machine_is_an_error(path: str, offline) -> None:
    with pytest.raises(OfflineError, match="is not on this machine, and TFHUB_OFFLINE is set"):
        hub.resolve(path)


def test_a_cache_in_a_bucket_is_an_error_that_names_the_way_out(
    bucket: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://test-bucket/models")
    handle = host.publish("/m", ARCHIVE)  # without a version: looked at each time
    hub.resolve(handle)
    monkeypatch.setenv("TFHUB_OFFLINE", "true")
    with pytest.raises(OfflineError, match="set TFHUB_CACHE_DIR to a local folder"):
        hub.resolve(handle)
    with pytest.raises(OfflineError, match="TFHUB_OFFLINE"):
        hub.cache.entries()


def test_a_cache_in_memory_is_on_this_machine(
    host: Host, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "memory://offline")
    handle = host.publish("/m/1", ARCHIVE)
    path = hub.resolve(handle)
    monkeypatch.setenv("TFHUB_OFFLINE", "1")
    assert hub.resolve(handle) == path


def test_without_the_setting_no_network_is_an_error_of_its_own(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_OFFLINE", "0")
    host.close()
    with pytest.raises(DownloadError, match="no connection"):
        hub.resolve(f"{host.url}/m/1")
    assert names(cache_dir) == set()


# The setting.


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        *((value, True) for value in ("1", "true", "yes", "on", "True", "YES", " 1 ")),
        *((value, False) for value in ("", "0", "false", "no", "off", "False", "NO")),
    ],
)
def test_yes_and_no_can_be_written_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, value: str, meant: bool
) -> None:
    monkeypatch.setenv("TFHUB_OFFLINE", value)
    assert settings.OFFLINE.value() is meant


@pytest.mark.parametrize("value", ["2", "offline", " "])
def test_anything_else_is_an_error_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, cache_dir: Path, value: str
) -> None:
    monkeypatch.setenv("TFHUB_OFFLINE", value)
    with pytest.raises(
        ValueError, match=f"TFHUB_OFFLINE: invalid value {value!r}: write 1, true, yes or on"
    ):
        hub.resolve("https://tfhub.dev/google/nnlm/2")
    assert hub.cache.environment().problems


def test_the_environment_comes_before_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    from absl import flags

    monkeypatch.setattr(flags.FLAGS["tfhub_offline"], "value", True)
    assert settings.OFFLINE.value()
    assert settings.OFFLINE.read()[1] == "flag"
    assert "true" in str(hub.cache.environment().settings).lower()
    monkeypatch.setenv("TFHUB_OFFLINE", "no")
    assert not settings.OFFLINE.value()


def test_an_error_of_this_kind_is_of_the_documented_family() -> None:
    assert issubclass(OfflineError, ResolveError)
    assert not issubclass(OfflineError, DownloadError)
