"""Lock files: the same bytes on every machine, and nothing that is not in them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from entries import SHARD, foreign, key_of, names
from models import fake_model, pack_files, read_files
from processes import Finished
from servers import Host, Proxy, Request, archive, in_turn, stall, status

import tfhub_cache as hub
from tfhub_cache.clients import gcs
from tfhub_cache.errors import DownloadError, LockfileError, OfflineError, ResolveError
from tfhub_cache.manifest import Archive, Manifest

MODEL = fake_model()
ARCHIVE = pack_files(MODEL)
OTHER = fake_model(seed=1)
OTHER_ARCHIVE = pack_files(OTHER)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
HANDLE = "https://tfhub.dev/google/nnlm/2"


@pytest.fixture
def file(tmp_path: Path, cache_dir: Path) -> Path:
    """Where the lock file is to be."""
    return tmp_path / "models.lock"


@pytest.fixture
def handle(host: Host) -> str:
    return host.publish("/m/1", ARCHIVE)


@pytest.fixture
def use(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes a lock file, by hand, and sets TFHUB_LOCKFILE."""

    def use(archives: dict[str, Any]) -> None:
        write(file, archives)
        monkeypatch.setenv("TFHUB_LOCKFILE", str(file))

    return use


def write(file: Path, archives: dict[str, bytes]) -> None:
    entries = {
        handle: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for handle, data in archives.items()
    }
    file.write_text(json.dumps({"format": 1, "archives": entries}))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "absl"
    ]


# Writing one.


def test_it_has_each_archives_size_and_digest_in_the_order_of_the_handles(
    host: Host, file: Path
) -> None:
    first, second = host.publish("/a/1", OTHER_ARCHIVE), host.publish("/b/1", ARCHIVE)
    archives = hub.cache.lock([second, first, second], file)
    assert archives == {
        first: Archive(len(OTHER_ARCHIVE), OTHER_SHA256),
        second: Archive(len(ARCHIVE), SHA256),
    }
    assert file.read_text() == (
        "{\n"
        '  "format": 1,\n'
        '  "archives": {\n'
        f'    "{first}": {{\n'
        f'      "size": {len(OTHER_ARCHIVE)},\n'
        f'      "sha256": "{OTHER_SHA256}"\n'
        "    },\n"
        f'    "{second}": {{\n'
        f'      "size": {len(ARCHIVE)},\n'
        f'      "sha256": "{SHA256}"\n'
        "    }\n"
        "  }\n"
        "}\n"
    )


def test_what_is_cached_is_locked_as_it_is_and_not_downloaded(
    host: Host, handle: str, file: Path
) -> None:
    hub.resolve(handle)
    host.close()
    assert hub.cache.lock([handle], file) == {handle: Archive(len(ARCHIVE), SHA256)}


def test_what_tensorflow_hub_has_downloaded_is_downloaded_for_its_digest(
    host: Host, handle: str, file: Path, cache_dir: Path
) -> None:
    entry = foreign(cache_dir, handle)
    assert hub.cache.lock([handle], file) == {handle: Archive(len(ARCHIVE), SHA256)}
    assert read_files(entry) == MODEL


def test_a_refresh_locks_what_a_handle_means_now(host: Host, file: Path) -> None:
    handle = host.publish("/m", in_turn(archive(ARCHIVE), archive(OTHER_ARCHIVE)))
    assert hub.cache.lock([handle], file)[handle].sha256 == SHA256
    assert hub.cache.lock([handle], file)[handle].sha256 == SHA256
    assert hub.cache.lock([handle], file, refresh=True)[handle].sha256 == OTHER_SHA256
    assert read_files(hub.resolve(handle)) == OTHER


def test_if_one_fails_nothing_is_written_and_all_that_failed_are_named(
    host: Host, handle: str, file: Path
) -> None:
    file.write_text("the old one")
    missing = f"{host.url}/missing/1"
    with pytest.raises(LockfileError, match="is not written, as 2 of 3 models") as error:
        hub.cache.lock([missing, handle, f"{missing}0"], file)
    assert missing in str(error.value)
    assert f"{missing}0" in str(error.value)
    assert "404" in str(error.value)
    assert file.read_text() == "the old one"


def test_it_is_written_in_one_step_with_the_usual_rights_and_through_a_link(
    handle: str, file: Path, tmp_path: Path
) -> None:
    real = tmp_path / "elsewhere" / "models.lock"
    real.parent.mkdir()
    file.symlink_to(real)
    hub.cache.lock([handle], file)
    assert file.is_symlink()
    assert names(real.parent) == {"models.lock"}
    (tmp_path / "usual").touch()
    assert real.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_that_cannot_be_written_is_told_before_anything_is_downloaded(
    host: Host, handle: str, tmp_path: Path, cache_dir: Path
) -> None:
    with pytest.raises(LockfileError, match=r"can't be written: There is no such folder"):
        hub.cache.lock([handle], tmp_path / "missing" / "models.lock")
    with pytest.raises(LockfileError, match=r"can't be written: It is a folder"):
        hub.cache.lock([handle], tmp_path)
    assert not host.requests


def test_a_tilde_in_the_name_of_the_file_is_expanded(
    handle: str, cache_dir: Path, home: Path
) -> None:
    hub.cache.lock([handle], "~/models.lock")
    assert (home / "models.lock").exists()


def test_a_path_that_is_not_there_is_a_failure_with_a_hint(handle: str, file: Path) -> None:
    with pytest.raises(LockfileError, match="1 of 2 models") as error:
        hub.cache.lock([handle, "tfhub.dev/google/spice/2"], file)
    assert "write https://tfhub.dev/google/spice/2" in str(error.value)
    assert not file.exists()


def test_a_password_in_a_handle_is_kept_as_it_is_and_not_shown(
    host: Host, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = host.publish("/m/1", ARCHIVE).replace("//", "//user:5ec2e7@")
    hub.cache.lock([secret], file)
    assert list(json.loads(file.read_text())["archives"]) == [secret]
    assert "has a user name, which goes into the lock file as it is" in caplog.text
    assert "5ec2e7" not in caplog.text


def test_paths_are_left_out_with_a_warning(
    handle: str, file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(hub.cache.lock([str(tmp_path), handle], file)) == {handle}
    assert warnings(caplog) == [f"{tmp_path} is a path, which is used where it is and not locked."]


def test_a_handle_with_a_query_is_kept_as_it_is_and_not_shown(
    host: Host, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = f"{host.publish('/m/1', ARCHIVE)}?signature=5ec2e7"
    hub.cache.lock([secret], file)
    assert list(json.loads(file.read_text())["archives"]) == [secret]
    assert "has a query, which goes into the lock file as it is" in caplog.text
    assert "5ec2e7" not in caplog.text


def test_a_lock_file_in_force_is_no_obstacle_to_writing_it_anew(
    handle: str, file: Path, use
) -> None:
    use({handle: OTHER_ARCHIVE})
    hub.cache.lock([handle], file)
    assert read_files(hub.resolve(handle)) == MODEL


# Using one.


def test_what_is_locked_is_downloaded_once_and_then_cached(host: Host, handle: str, use) -> None:
    use({handle: ARCHIVE})
    path = hub.resolve(handle)
    assert read_files(path) == MODEL
    host.close()
    assert hub.resolve(handle) == path


@pytest.mark.parametrize("is_cached", [False, True])
def test_what_is_not_in_it_is_refused_and_nobody_is_asked(
    host: Host, handle: str, file: Path, use, is_cached: bool
) -> None:
    if is_cached:
        hub.resolve(handle)
    use({HANDLE: ARCHIVE})
    with pytest.raises(LockfileError) as error:
        hub.resolve(handle)
    assert isinstance(error.value, ResolveError)
    assert str(error.value) == (
        f"{handle} is not in the lock file {file}, so it is not used. To use it, add it to the "
        "list that the lock file is made of, and write it anew: tfhub-cache lock -r LIST "
        f"-o {file}"
    )
    assert error.value.handle == handle
    assert len(host.requests) == is_cached


def test_the_handle_has_to_be_written_as_it_is_in_the_file(handle: str, use) -> None:
    use({handle: ARCHIVE})
    with pytest.raises(LockfileError, match="is not in the lock file"):
        hub.resolve(f"{handle}/")


def test_other_bytes_are_refused_with_what_was_expected_and_found(
    host: Host, file: Path, use, cache_dir: Path
) -> None:
    data = bytearray(pack_files(MODEL, compression=None))
    original = bytes(data)
    data[data.index(MODEL["saved_model.pb"][:64])] ^= 1
    handle = host.publish("/m/1", bytes(data))
    use({handle: original})
    with pytest.raises(LockfileError) as error:
        hub.resolve(handle)
    for digest in hashlib.sha256(original).hexdigest(), hashlib.sha256(data).hexdigest():
        assert digest in str(error.value)
    assert f"as {file} has it" in str(error.value)
    assert names(cache_dir) == set()
    assert len(host.requests) == 1


def test_an_archive_of_another_size_is_refused_before_it_is_downloaded(
    host: Host, use, cache_dir: Path
) -> None:
    release = threading.Event()
    handle = host.publish("/m/1", stall(ARCHIVE, 100, release))
    use({handle: OTHER_ARCHIVE + b"longer"})
    with pytest.raises(LockfileError, match=f"and got {len(ARCHIVE)} bytes\\. Nothing of it"):
        hub.resolve(handle)
    assert names(cache_dir) == set()


def test_a_cached_model_of_another_archive_is_replaced_by_the_locked_one(
    host: Host, use, caplog: pytest.LogCaptureFixture
) -> None:
    handle = host.publish("/m", in_turn(archive(OTHER_ARCHIVE), archive(ARCHIVE)))
    path = hub.resolve(handle)
    assert read_files(path) == OTHER
    use({handle: ARCHIVE})
    assert hub.resolve(handle) == path
    assert read_files(path) == MODEL
    (line,) = warnings(caplog)
    assert line == (
        f"The cached '{handle}' is not as locked: it was made of an archive with sha256 "
        f"{OTHER_SHA256}. Fetching it again."
    )
    assert len(host.requests) == 2


def test_if_the_locked_one_cannot_be_had_the_cached_one_stays_and_is_not_used(
    host: Host, use, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/m", in_turn(archive(OTHER_ARCHIVE), archive(OTHER_ARCHIVE)))
    path = hub.resolve(handle)
    use({handle: ARCHIVE})
    with pytest.raises(LockfileError, match=r"is not as locked \(it was made of .* got ") as error:
        hub.resolve(handle)
    assert SHA256 in str(error.value)
    monkeypatch.setenv("TFHUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"is not as locked .*TFHUB_OFFLINE is set"):
        hub.resolve(handle)
    assert read_files(path) == OTHER
    monkeypatch.delenv("TFHUB_LOCKFILE")
    assert hub.resolve(handle) == path


def test_what_tensorflow_hub_has_downloaded_is_fetched_anew_as_nothing_tells_its_digest(
    host: Host, handle: str, use, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = foreign(cache_dir, handle)
    use({handle: ARCHIVE})
    assert read_files(hub.resolve(handle)) == MODEL
    assert read_files(entry) == MODEL
    assert "is not as locked: it is not known of which archive it was made" in warnings(caplog)[0]


def test_a_damaged_model_is_healed_with_the_locked_archive_only(host: Host, use) -> None:
    answers = in_turn(*map(archive, (ARCHIVE, OTHER_ARCHIVE, ARCHIVE)))
    handle = host.publish("/m/1", answers)
    use({handle: ARCHIVE})
    path = Path(hub.resolve(handle))
    (path / SHARD).unlink()
    with pytest.raises(LockfileError, match=r"is damaged .*and fetching it again failed.*expected"):
        hub.resolve(handle)
    assert read_files(hub.resolve(handle)) == MODEL


def test_whoever_makes_the_entry_without_the_lock_file_meanwhile_does_not_count(
    host: Host, use, run_python, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process downloads other bytes of the same handle while this one waits for it."""
    release = threading.Event()
    handle = host.publish("/m", in_turn(stall(OTHER_ARCHIVE, 1000, release), archive(ARCHIVE)))
    others: list[Finished] = []
    code = f"import tfhub_cache as hub; hub.resolve({handle!r})"
    other = threading.Thread(target=lambda: others.append(run_python(code)))
    other.start()
    host.wait_for_requests(1)
    use({handle: ARCHIVE})
    paths: list[str] = []
    ours = threading.Thread(target=lambda: paths.append(hub.resolve(handle)))
    ours.start()
    release.set()
    other.join(30)
    ours.join(30)
    others[0].check()
    assert read_files(paths[0]) == MODEL


def test_a_tampered_mirror_is_passed_over(
    host: Host, ca, ca_pem: Path, use, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    host.publish("/google/nnlm/2", OTHER_ARCHIVE)
    use({HANDLE: ARCHIVE})
    monkeypatch.setenv("TFHUB_MIRROR", f"{host.url},direct")
    with (
        Host(tls=ca, names=["tfhub.dev"]) as origin,
        Proxy({"tfhub.dev:443": f"127.0.0.1:{origin.port}"}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
        origin.publish("/google/nnlm/2", ARCHIVE)
        path = hub.resolve(HANDLE)
        assert read_files(path) == MODEL
        assert (len(host.requests), len(origin.requests)) == (1, 1)
        (line,) = warnings(caplog)
        assert line.startswith(f"Passing over {host.url}/google/nnlm/2: The archive of {HANDLE} at")
        monkeypatch.setenv("TFHUB_MIRROR", host.url)
        (Path(path) / SHARD).unlink()
        with pytest.raises(LockfileError, match="from where TFHUB_MIRROR says") as error:
            hub.resolve(HANDLE)
        assert len(host.requests) == 2
    assert SHA256 in str(error.value)


def test_a_mirror_that_sends_more_than_is_locked_is_cut_off_and_passed_over(
    host: Host, ca, ca_pem: Path, use, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """It does not tell the size, and goes on for longer than it should."""
    header = tarfile.TarInfo("saved_model.pb")
    header.size = 1 << 30
    much = 256
    sent: list[int] = []

    def pour(request: Request) -> None:
        request.start(200, {"Content-Type": "application/octet-stream"})
        request.send(header.tobuf())
        for number in range(much):
            request.send(bytes(1 << 20))
            sent.append(number)
        request.cut()

    host.route("/google/nnlm/2", pour)
    use({HANDLE: ARCHIVE})
    monkeypatch.setenv("TFHUB_MIRROR", f"{host.url},direct")
    with (
        Host(tls=ca, names=["tfhub.dev"]) as origin,
        Proxy({"tfhub.dev:443": f"127.0.0.1:{origin.port}"}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
        origin.publish("/google/nnlm/2", ARCHIVE)
        assert read_files(hub.resolve(HANDLE)) == MODEL
    assert len(sent) < much
    (line,) = warnings(caplog)
    assert f"The archive of {HANDLE} at {host.url}" in line
    assert "and got more. Nothing of it is used" in line


def test_what_a_tampered_mirror_began_is_not_gone_on_with_to_the_end(
    host: Host, ca, ca_pem: Path, use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the size and the ETag of the locked archive, and breaks off before its end."""
    monkeypatch.setattr("tfhub_cache.transfer.connection._FIRST_PAUSE", 0.01)
    files = fake_model(size=6_000_000)
    good = pack_files(files, compression=None)
    position = good.index(files["saved_model.pb"][:64])
    evil = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 : 5_000_000]
    honest = archive(good, hashes=False)

    def begin(request: Request) -> None:
        request.start(
            200,
            {"ETag": honest.tag, "Accept-Ranges": "bytes", "Content-Length": str(len(good))},
        )
        request.send(evil)
        request.cut()

    host.route("/google/nnlm/2", in_turn(begin, status(404)))
    use({HANDLE: good})
    monkeypatch.setenv("TFHUB_MIRROR", f"{host.url},direct")
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    with (
        Host(tls=ca, names=["tfhub.dev"]) as origin,
        Proxy({"tfhub.dev:443": f"127.0.0.1:{origin.port}"}) as proxy,
    ):
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca_pem))
        origin.publish("/google/nnlm/2", honest)
        assert read_files(hub.resolve(HANDLE)) == files
        assert [request.headers["Range"] is None for request in origin.requests] == [False, True]


def test_paths_are_the_users_own_and_let_through(use, tmp_path: Path) -> None:
    use({})
    assert hub.resolve(str(tmp_path)) == str(tmp_path)


def test_a_model_that_stays_in_its_bucket_is_refused(
    host: Host, use, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/m/1", ARCHIVE, gcs="gs://bucket/m/1")
    use({handle: ARCHIVE})
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    with pytest.raises(LockfileError, match="Set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED"):
        hub.resolve(handle)
    assert host.requests == []


def test_gs_archives_and_a_cache_in_a_bucket_are_locked_too(
    bucket: str, file: Path, use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://test-bucket/cache")
    gcs._file_system.cache_clear()
    storage = gcs.file_system(bucket, 60)
    storage.pipe_file("test-bucket/m/1.tar.gz", ARCHIVE)
    handle = "gs://test-bucket/m/1.tar.gz"
    assert hub.cache.lock([handle], file) == {handle: Archive(len(ARCHIVE), SHA256)}
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    path = hub.resolve(handle)
    assert storage.cat_file(f"{path}/saved_model.pb") == MODEL["saved_model.pb"]
    storage.pipe_file("test-bucket/m/1.tar.gz", OTHER_ARCHIVE)
    use({handle: OTHER_ARCHIVE})
    assert hub.resolve(handle) == path
    assert storage.cat_file(f"{path}/saved_model.pb") == OTHER["saved_model.pb"]
    use({handle: ARCHIVE})
    with pytest.raises(LockfileError, match="is not as locked"):
        hub.resolve(handle)
    assert storage.cat_file(f"{path}/saved_model.pb") == OTHER["saved_model.pb"]
    gcs._file_system.cache_clear()


# The file.


def test_a_change_of_the_file_counts_at_the_next_call(handle: str, use, file: Path) -> None:
    use({})
    with pytest.raises(LockfileError):
        hub.resolve(handle)
    write(file, {handle: ARCHIVE})
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_byte_order_mark_is_no_part_of_it(handle: str, use, file: Path) -> None:
    use({handle: ARCHIVE})
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_tilde_in_its_path_is_expanded(
    handle: str, home: Path, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    write(home / "models.lock", {handle: ARCHIVE})
    monkeypatch.setenv("TFHUB_LOCKFILE", os.path.join("~", "models.lock"))
    assert read_files(hub.resolve(handle)) == MODEL


def test_the_flag_sets_it(handle: str, file: Path, run_python) -> None:
    write(file, {})
    code = (
        "import sys; from absl import flags; import tfhub_cache as hub\n"
        "flags.FLAGS(['program', f'--tfhub_lockfile={sys.argv[1]}'])\n"
        "hub.resolve(sys.argv[2])"
    )
    done = run_python(code, args=[file, handle])
    assert f"LockfileError: {handle} is not in the lock file {file}" in done.stderr


GOOD = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "can't be read: No such file or directory"),
        ("", "is no lock file: Expecting value"),
        ("[]", "is no lock file: a part of it is missing"),
        ("{}", "is no lock file: a part of it is missing"),
        ('{"format": 2}', "is no lock file: its format is 2, and this version knows 1"),
        ('{"format": 1}', "is no lock file: a part of it is missing"),
        ('{"format": 1, "archives": []}', "is no lock file: a part of it is missing"),
        ({"a": {**GOOD, "size": "1"}}, "is no lock file: the size of a is '1'"),
        ({"a": {**GOOD, "size": True}}, "is no lock file: the size of a is True"),
        ({"a": {**GOOD, "sha256": "0"}}, "is no lock file: the sha256 of a is '0'"),
        ({"a": {"size": 1}}, "is no lock file: a part of it is missing"),
        ('{"format": 1, "archives": {"a": 1, "a": 2}}', "is no lock file: a is in it twice"),
        ("[" * 100_000, "is no lock file"),
    ],
)
def test_a_file_that_is_none_is_an_error_that_says_how_to_write_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, handle: str, text: Any, told: str
) -> None:
    if text is not None:
        file.write_text(
            text if isinstance(text, str) else json.dumps({"format": 1, "archives": text})
        )
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    with pytest.raises(LockfileError) as error:
        hub.resolve(handle)
    assert f"{file} {told}" in str(error.value)
    assert f"tfhub-cache lock -r LIST -o {file}" in str(error.value)


# The command.


@pytest.fixture
def run() -> Callable[..., Finished]:
    """Runs the command."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "tfhub_cache", *map(str, arguments)],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return Finished(done.stdout, done.stderr, done.returncode)

    return run


def test_the_commands_lock_and_resolve_the_same_models(
    host: Host, file: Path, tmp_path: Path, cache_dir: Path, run
) -> None:
    handles = [host.publish("/b/1", ARCHIVE), host.publish("/a/1", OTHER_ARCHIVE)]
    (tmp_path / "models.txt").write_text("# ours\n" + "\n\n".join(handles))
    done = run("lock", "-r", tmp_path / "models.txt", "-o", file, "--quiet").check()
    size = f"{(len(ARCHIVE) + len(OTHER_ARCHIVE)) / 1000:.0f} kB"
    assert done.stdout == f"{file}: 2 models, {size} of archives\n"
    assert done.stderr == ""
    assert set(json.loads(file.read_text())["archives"]) == set(handles)

    # Another machine: all that is locked, in the order of the file; or the handles given.
    other = {"TFHUB_CACHE_DIR": str(tmp_path / "other")}
    done = run("resolve", "--quiet", "--locked", file, env=other).check()
    assert done.stdout.split() == [str(tmp_path / "other" / key_of(h)) for h in handles[::-1]]
    assert read_files(tmp_path / "other" / key_of(handles[0])) == MODEL
    done = run("resolve", "--quiet", "--locked", file, handles[0], HANDLE, env=other)
    assert done.returncode == 1
    assert done.stdout == f"{tmp_path / 'other' / key_of(handles[0])}\n"
    assert f"tfhub-cache: {HANDLE} is not in the lock file {file}" in done.stderr


def test_the_commands_tell_what_failed_with_status_1(
    host: Host, file: Path, cache_dir: Path, run
) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    done = run("lock", "-q", f"{host.url}/missing/1", handle, "-o", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tfhub-cache: {file} is not written, as 1 of 2 models can't")
    assert not file.exists()
    write(file, {handle: OTHER_ARCHIVE[:-1]})
    done = run("resolve", "-q", "--locked", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not the one that is locked: expected" in done.stderr
    done = run("resolve", "-q", "--locked", file.with_name("missing"))
    assert done.returncode == 1
    assert "can't be read: No such file or directory" in done.stderr


def test_the_lock_file_of_the_option_comes_before_the_environments(
    handle: str, file: Path, tmp_path: Path, cache_dir: Path, run
) -> None:
    write(file, {handle: ARCHIVE})
    env = {"TFHUB_LOCKFILE": str(tmp_path / "is-not-there.lock")}
    done = run("resolve", "-q", "--locked", file, env=env).check()
    assert done.stdout == f"{cache_dir / key_of(handle)}\n"
    assert "is-not-there.lock can't be read" in run("resolve", handle, env=env).stderr


def test_a_lock_without_handles_is_told_with_status_2(run, cache_dir: Path) -> None:
    assert run("lock").returncode == 2


def test_a_manifest_keeps_what_a_lock_file_asks_for(handle: str, cache_dir: Path) -> None:
    hub.resolve(handle)
    text = (cache_dir / f"{key_of(handle)}.manifest.json").read_text()
    assert Manifest.from_json(text).archive == Archive(len(ARCHIVE), SHA256)


def test_an_error_of_this_kind_is_of_the_documented_family(host: Host, use) -> None:
    handle = host.publish("/m/1", status(404))
    use({handle: ARCHIVE})
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert issubclass(LockfileError, ResolveError)
