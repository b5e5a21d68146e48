"""Lock files: the same files on every machine, and no model that is not in them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import run_command
from entries import SHARD, foreign, key_of, names
from logs import warnings
from models import fake_model, member, pack_files, read_files, write_files
from processes import Finished
from servers import Host, Proxy, Request, archive, in_turn, stall, status

import tfhub_cache as hub
from tfhub_cache.clients import gcs
from tfhub_cache.errors import DownloadError, LockfileError, OfflineError, ResolveError
from tfhub_cache.manifest import Manifest
from tfhub_cache.pins import Pin

MODEL = fake_model()
ARCHIVE = pack_files(MODEL)
OTHER = fake_model(seed=1)
OTHER_ARCHIVE = pack_files(OTHER)
HANDLE = "https://tfhub.dev/google/nnlm/2"


def pin(files: dict[str, bytes]) -> Pin:
    """What a lock file says of a model with these files."""
    sums = sorted(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    size = sum(map(len, files.values()))
    return Pin(size, hashlib.sha256("".join(sums).encode()).hexdigest())


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

    def use(models: dict[str, dict[str, bytes]]) -> None:
        write(file, models)
        monkeypatch.setenv("TFHUB_LOCKFILE", str(file))

    return use


def write(file: Path, models: dict[str, dict[str, bytes]]) -> None:
    pins = {handle: vars(pin(files)) for handle, files in models.items()}
    file.write_text(json.dumps({"format": 2, "models": pins}))


# Writing one.


def test_it_has_size_and_digest_of_each_models_files_in_the_order_of_the_handles(
    host: Host, file: Path
) -> None:
    first, second = host.publish("/a/1", OTHER_ARCHIVE), host.publish("/b/1", ARCHIVE)
    pins = hub.cache.lock([second, first, second], file)
    assert pins == {first: pin(OTHER), second: pin(MODEL)}
    assert file.read_text() == (
        "{\n"
        '  "format": 2,\n'
        '  "models": {\n'
        f'    "{first}": {{\n'
        f'      "size": {pin(OTHER).size},\n'
        f'      "sha256": "{pin(OTHER).sha256}"\n'
        "    },\n"
        f'    "{second}": {{\n'
        f'      "size": {pin(MODEL).size},\n'
        f'      "sha256": "{pin(MODEL).sha256}"\n'
        "    }\n"
        "  }\n"
        "}\n"
    )


@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "of tensorflow_hub"])
def test_a_shell_computes_the_same_digest(
    host: Host, file: Path, cache_dir: Path, is_ours: bool
) -> None:
    files = {
        "saved_model.pb": b"graph",
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": bytes(3_000_000),
        "assets/gr\xf6\xdfe and more.txt": b"",
        "assets/Z": b"1",
        "assets/back\\slash": b"2",
        "assets/new\nline": b"3",
        "assets.extra/\udcff": b"4",
    }
    handle = host.publish("/m/1", pack_files(files))
    path = Path(hub.resolve(handle)) if is_ours else cache_dir / key_of(handle)
    if not is_ours:
        write_files(files, path)
    pipeline = "find . -type f -printf '%P\\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"
    done = subprocess.run(pipeline, shell=True, cwd=path, capture_output=True, check=True)
    digest = done.stdout.decode().split()[0]
    assert hub.cache.lock([handle], file)[handle].sha256 == digest
    if is_ours:
        manifest = cache_dir / f"{key_of(handle)}.manifest.json"
        assert Manifest.from_json(manifest.read_text()).digest == digest


def test_what_is_cached_is_locked_as_it_is_and_not_downloaded(
    host: Host, handle: str, file: Path
) -> None:
    hub.resolve(handle)
    host.close()
    assert hub.cache.lock([handle], file) == {handle: pin(MODEL)}


def test_what_tensorflow_hub_has_downloaded_is_read_and_not_downloaded(
    host: Host, handle: str, file: Path, cache_dir: Path
) -> None:
    entry = foreign(cache_dir, handle)
    assert hub.cache.lock([handle], file) == {handle: pin(read_files(entry))}
    assert not host.requests


def test_a_model_with_a_file_that_cannot_be_read_is_not_locked(
    host: Host, handle: str, file: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (foreign(cache_dir, handle) / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LockfileError, match=r"The cached .*/m/1 can't be read: "):
        hub.cache.lock([handle], file)
    assert not host.requests


def test_a_refresh_locks_what_a_handle_means_now(host: Host, file: Path) -> None:
    handle = host.publish("/m", in_turn(archive(ARCHIVE), archive(OTHER_ARCHIVE)))
    assert hub.cache.lock([handle], file)[handle] == pin(MODEL)
    assert hub.cache.lock([handle], file)[handle] == pin(MODEL)
    assert hub.cache.lock([handle], file, refresh=True)[handle] == pin(OTHER)
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


def test_a_file_that_cannot_be_written_is_reported_before_anything_is_downloaded(
    host: Host, handle: str, tmp_path: Path, cache_dir: Path
) -> None:
    for unsuitable in tmp_path / "missing" / "models.lock", tmp_path:
        with pytest.raises(LockfileError, match=r"can't be written: it is a folder, or") as error:
            hub.cache.lock([handle], unsuitable)
        assert str(unsuitable) in str(error.value)
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
    assert list(json.loads(file.read_text())["models"]) == [secret]
    assert "has a query or a login, which goes into the lock file as it is" in caplog.text
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
    assert list(json.loads(file.read_text())["models"]) == [secret]
    assert "has a query or a login, which goes into the lock file as it is" in caplog.text
    assert "5ec2e7" not in caplog.text


def test_a_lock_file_in_force_is_no_obstacle_to_writing_it_again(
    handle: str, file: Path, use
) -> None:
    use({handle: OTHER})
    hub.cache.lock([handle], file)
    assert read_files(hub.resolve(handle)) == MODEL


# Using one.


def test_what_is_locked_is_downloaded_once_and_then_cached(host: Host, handle: str, use) -> None:
    use({handle: MODEL})
    path = hub.resolve(handle)
    assert read_files(path) == MODEL
    host.close()
    assert hub.resolve(handle) == path


@pytest.mark.parametrize("is_cached", [False, True])
def test_what_is_not_in_it_is_refused_without_a_request(
    host: Host, handle: str, file: Path, use, is_cached: bool
) -> None:
    if is_cached:
        hub.resolve(handle)
    use({HANDLE: MODEL})
    with pytest.raises(LockfileError) as error:
        hub.resolve(handle)
    assert isinstance(error.value, ResolveError)
    assert str(error.value) == (
        f"{handle} is not in the lock file {file}, so it is not used. To use it, add it to the "
        "list that the lock file is made of, and write it again: tfhub-cache lock -r LIST "
        f"-o {file}"
    )
    assert error.value.handle == handle
    assert len(host.requests) == is_cached


def test_the_handle_has_to_be_written_as_it_is_in_the_file(handle: str, use) -> None:
    use({handle: MODEL})
    with pytest.raises(LockfileError, match="is not in the lock file"):
        hub.resolve(f"{handle}/")


def test_other_files_are_refused_with_what_was_expected_and_found(
    host: Host, file: Path, use, cache_dir: Path
) -> None:
    data = bytearray(MODEL["saved_model.pb"])
    data[0] ^= 1
    changed = {**MODEL, "saved_model.pb": bytes(data)}
    handle = host.publish("/m/1", pack_files(changed))
    use({handle: MODEL})
    with pytest.raises(LockfileError) as error:
        hub.resolve(handle)
    for files in MODEL, changed:
        assert f"{pin(files).size} bytes with sha256 {pin(files).sha256}" in str(error.value)
    assert f"as {file} has it" in str(error.value)
    assert names(cache_dir) == set()
    assert len(host.requests) == 1


def test_the_names_of_the_files_count(host: Host, use) -> None:
    renamed = {name.replace("variables.index", "variables.Index"): MODEL[name] for name in MODEL}
    handle = host.publish("/m/1", pack_files(renamed))
    use({handle: MODEL})
    with pytest.raises(LockfileError, match="is not the one that is locked"):
        hub.resolve(handle)


def test_a_model_with_more_bytes_is_refused_before_they_are_unpacked(
    host: Host, use, cache_dir: Path
) -> None:
    """The server sends the headers of the file that is too large, and nothing of its content."""
    release = threading.Event()
    data = pack_files({**MODEL, "variables/more": bytes(200_000)}, compression=None)
    handle = host.publish("/m/1", stall(data, data.index(b"variables/more") + 512, release))
    use({handle: MODEL})
    with pytest.raises(LockfileError, match=r"and got more\. Nothing of it is used"):
        hub.resolve(handle)
    assert not release.is_set()
    assert names(cache_dir) == set()


def test_a_file_that_an_archive_has_twice_is_counted_once(host: Host, use) -> None:
    first = {**MODEL, "saved_model.pb": b"1"}
    last = member("saved_model.pb", data=MODEL["saved_model.pb"])
    handle = host.publish("/m/1", pack_files(first, extra_members=[last]))
    use({handle: MODEL})
    assert read_files(hub.resolve(handle)) == MODEL


def test_another_model_that_is_cached_is_replaced_by_the_locked_one(
    host: Host, use, caplog: pytest.LogCaptureFixture
) -> None:
    handle = host.publish("/m", in_turn(archive(OTHER_ARCHIVE), archive(ARCHIVE)))
    path = hub.resolve(handle)
    assert read_files(path) == OTHER
    use({handle: MODEL})
    assert hub.resolve(handle) == path
    assert read_files(path) == MODEL
    (line,) = warnings(caplog)
    assert line == (
        f"The cached '{handle}' is not as locked: it has {pin(OTHER).size} bytes with sha256 "
        f"{pin(OTHER).sha256}. Fetching it again."
    )
    assert len(host.requests) == 2


def test_if_the_locked_one_is_unavailable_the_cached_one_stays_and_is_not_used(
    host: Host, use, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/m", in_turn(archive(OTHER_ARCHIVE), archive(OTHER_ARCHIVE)))
    path = hub.resolve(handle)
    use({handle: MODEL})
    with pytest.raises(LockfileError, match=r"is not as locked \(it has .* got ") as error:
        hub.resolve(handle)
    assert pin(MODEL).sha256 in str(error.value)
    monkeypatch.setenv("TFHUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"is not as locked .*TFHUB_OFFLINE is set"):
        hub.resolve(handle)
    assert read_files(path) == OTHER
    monkeypatch.delenv("TFHUB_LOCKFILE")
    assert hub.resolve(handle) == path


@pytest.mark.parametrize("offline", ["0", "1"])
def test_what_tensorflow_hub_has_downloaded_is_used_if_it_is_as_locked(
    host: Host, handle: str, use, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    monkeypatch.setenv("TFHUB_OFFLINE", offline)
    entry = foreign(cache_dir, handle)
    use({handle: read_files(entry)})
    assert hub.resolve(handle) == str(entry)
    assert not host.requests


def test_the_files_of_tensorflow_hub_are_read_once_and_again_when_one_changes(
    handle: str, use, cache_dir: Path, run_python
) -> None:
    entry = foreign(cache_dir, handle)
    use({handle: read_files(entry)})
    code = """
    import os, sys
    from pathlib import Path
    import tfhub_cache as hub
    handle, file, opened = sys.argv[1], Path(sys.argv[2]), []
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
    def resolve_again():
        opened.clear()
        hub.resolve(handle)
        names = [os.path.basename(str(path)) for path in opened]
        print([name for name in names if name == file.name])
    resolve_again()
    resolve_again()
    later = file.stat().st_mtime + 10
    os.utime(file, (later, later))
    resolve_again()
    file.write_bytes(file.read_bytes()[::-1])
    try:
        resolve_again()
    except OSError as error:
        print(type(error).__name__)
    """
    env = {"TFHUB_OFFLINE": "1"}
    done = run_python(textwrap.dedent(code), args=[handle, entry / SHARD], env=env).check()
    name = os.path.basename(SHARD)
    assert done.stdout.splitlines() == [f"['{name}']", "[]", f"['{name}']", "OfflineError"]


def test_what_tensorflow_hub_has_downloaded_is_replaced_if_it_is_not_as_locked(
    host: Host, handle: str, use, cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = foreign(cache_dir, handle)
    found = pin(read_files(entry))
    use({handle: MODEL})
    assert read_files(hub.resolve(handle)) == MODEL
    assert read_files(entry) == MODEL
    assert (
        f"is not as locked: it has {found.size} bytes with sha256 {found.sha256}"
        in (warnings(caplog)[0])
    )


def test_what_tensorflow_hub_has_downloaded_is_replaced_if_it_cannot_be_read(
    handle: str, use, cache_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = foreign(cache_dir, handle)
    (tmp_path / "elsewhere").write_bytes((entry / SHARD).read_bytes())
    (entry / SHARD).unlink()
    (entry / SHARD).symlink_to(tmp_path / "elsewhere")
    use({handle: MODEL})
    assert read_files(hub.resolve(handle)) == MODEL
    assert f"The cached '{handle}' is unreadable: " in warnings(caplog)[0]


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_cached_model_as_locked_needs_no_download_however_its_archive_was_packed(
    host: Host, handle: str, use, monkeypatch: pytest.MonkeyPatch, offline: str
) -> None:
    path = hub.resolve(handle)
    host.publish("/m/1", pack_files(MODEL, compression="xz"))
    use({handle: MODEL})
    monkeypatch.setenv("TFHUB_OFFLINE", offline)
    assert hub.resolve(handle) == path
    assert len(host.requests) == 1


def test_the_same_files_packed_in_another_way_are_what_is_locked(
    host: Host, use, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    hub.cache.lock([handle], file)
    again = pack_files(dict(reversed(MODEL.items())), compression="bz2")
    assert again != ARCHIVE
    host.publish("/m/1", again)
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "of another machine"))
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_damaged_model_is_replaced_by_the_locked_one_only(host: Host, use) -> None:
    answers = in_turn(*map(archive, (ARCHIVE, OTHER_ARCHIVE, ARCHIVE)))
    handle = host.publish("/m/1", answers)
    use({handle: MODEL})
    path = Path(hub.resolve(handle))
    (path / SHARD).unlink()
    with pytest.raises(LockfileError, match=r"is damaged .*and fetching it again failed.*expected"):
        hub.resolve(handle)
    assert read_files(hub.resolve(handle)) == MODEL


def test_an_entry_that_a_process_without_the_lock_file_makes_meanwhile_does_not_count(
    host: Host, use, run_python, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process downloads other files of the same handle while this one waits for it."""
    release = threading.Event()
    handle = host.publish("/m", in_turn(stall(OTHER_ARCHIVE, 1000, release), archive(ARCHIVE)))
    others: list[Finished] = []
    code = f"import tfhub_cache as hub; hub.resolve({handle!r})"
    other = threading.Thread(target=lambda: others.append(run_python(code)))
    other.start()
    host.wait_for_requests(1)
    use({handle: MODEL})
    paths: list[str] = []
    ours = threading.Thread(target=lambda: paths.append(hub.resolve(handle)))
    ours.start()
    release.set()
    other.join(30)
    ours.join(30)
    others[0].check()
    assert read_files(paths[0]) == MODEL


def test_a_tampered_mirror_is_skipped(
    host: Host, ca, ca_pem: Path, use, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    host.publish("/google/nnlm/2", OTHER_ARCHIVE)
    use({HANDLE: MODEL})
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
        assert line.startswith(f"Skipping {host.url}/google/nnlm/2: The model of {HANDLE} at")
        monkeypatch.setenv("TFHUB_MIRROR", host.url)
        (Path(path) / SHARD).unlink()
        with pytest.raises(LockfileError, match="from where TFHUB_MIRROR says") as error:
            hub.resolve(HANDLE)
        assert len(host.requests) == 2
    assert pin(MODEL).sha256 in str(error.value)


def test_a_mirror_that_sends_more_than_is_locked_is_cut_off_and_skipped(
    host: Host, ca, ca_pem: Path, use, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """It does not send the size of the archive, and sends without end."""
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
    use({HANDLE: MODEL})
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
    assert f"The model of {HANDLE} at {host.url}" in line
    assert "and got more. Nothing of it is used" in line


def test_what_a_tampered_mirror_began_is_discarded_in_the_end(
    host: Host, ca, ca_pem: Path, use, impatient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the size and the ETag of the locked archive, and breaks off before its end."""
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
    use({HANDLE: files})
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
        # The whole, of which the rest is asked for; and once more from the start.
        wanted = [request.headers["Range"] is None for request in origin.requests]
        assert wanted == [True, False, True]


def test_paths_are_the_users_own_and_let_through(use, tmp_path: Path) -> None:
    use({})
    assert hub.resolve(str(tmp_path)) == str(tmp_path)


def test_a_model_that_stays_in_its_bucket_is_refused(
    host: Host, use, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/m/1", ARCHIVE, gcs="gs://bucket/m/1")
    use({handle: MODEL})
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    with pytest.raises(LockfileError, match="Set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED"):
        hub.resolve(handle)
    assert host.requests == []


def test_gs_archives_and_a_cache_in_a_bucket_are_locked_too(
    bucket: str, file: Path, use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket)
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://test-bucket/cache")
    storage = gcs.file_system(bucket, 60)
    storage.pipe_file("test-bucket/m/1.tar.gz", ARCHIVE)
    handle = "gs://test-bucket/m/1.tar.gz"
    assert hub.cache.lock([handle], file) == {handle: pin(MODEL)}
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    path = hub.resolve(handle)
    assert storage.cat_file(f"{path}/saved_model.pb") == MODEL["saved_model.pb"]
    storage.pipe_file("test-bucket/m/1.tar.gz", OTHER_ARCHIVE)
    use({handle: OTHER})
    path = hub.resolve(handle)
    assert storage.cat_file(f"{path}/saved_model.pb") == OTHER["saved_model.pb"]
    use({handle: MODEL})
    with pytest.raises(LockfileError, match="is not as locked"):
        hub.resolve(handle)
    assert storage.cat_file(f"{path}/saved_model.pb") == OTHER["saved_model.pb"]


def test_what_tensorflow_hub_has_put_into_a_bucket_is_read_once_and_not_downloaded(
    host: Host, handle: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "memory://locked")
    storage = gcs.file_system_of("memory://locked", (None, 60, None))
    for name, data in MODEL.items():
        storage.pipe_file(f"/locked/{key_of(handle)}/{name}", data)
    assert hub.cache.lock([handle], file) == {handle: pin(MODEL)}
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    assert hub.resolve(handle) == f"memory://locked/{key_of(handle)}"
    storage.pipe_file(f"/locked/{key_of(handle)}/saved_model.pb", OTHER["saved_model.pb"][::-1])
    monkeypatch.setenv("TFHUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="is not as locked"):
        hub.resolve(handle)
    assert not host.requests


# The file.


def test_a_change_of_the_file_counts_at_the_next_call(handle: str, use, file: Path) -> None:
    use({})
    with pytest.raises(LockfileError):
        hub.resolve(handle)
    write(file, {handle: MODEL})
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_byte_order_mark_is_no_part_of_it(handle: str, use, file: Path) -> None:
    use({handle: MODEL})
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_files(hub.resolve(handle)) == MODEL


def test_a_tilde_in_its_path_is_expanded(
    handle: str, home: Path, monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> None:
    write(home / "models.lock", {handle: MODEL})
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
    ("text", "cause"),
    [
        (None, "can't be used: No such file or directory"),
        ("", "can't be used: Expecting value"),
        ("[]", "can't be used: a part of it is missing"),
        ("{}", "can't be used: a part of it is missing"),
        (
            json.dumps({"format": 1, "archives": {"a": GOOD}}),
            "can't be used: its format is 1, and this version reads 2. Check",
        ),
        ('{"format": 2}', "can't be used: a part of it is missing"),
        ('{"format": 2, "models": []}', "can't be used: a part of it is missing"),
        ({"a": {**GOOD, "size": "1"}}, "can't be used: '1' is not a number"),
        ({"a": {**GOOD, "size": True}}, "can't be used: True is not a number"),
        ({"a": {**GOOD, "sha256": "0"}}, "can't be used: '0' is not a SHA-256"),
        ({"a": {"size": 1}}, "can't be used: a part of it is missing"),
        (
            '{"format": 2, "models": {"a": 1, "a": 2}}',
            "can't be used: a is in it twice",
        ),
        ("[" * 100_000, "can't be used"),
    ],
)
def test_a_file_that_is_not_valid_is_an_error_that_says_how_to_write_it(
    file: Path, monkeypatch: pytest.MonkeyPatch, handle: str, text: Any, cause: str
) -> None:
    if text is not None:
        file.write_text(
            text if isinstance(text, str) else json.dumps({"format": 2, "models": text})
        )
    monkeypatch.setenv("TFHUB_LOCKFILE", str(file))
    with pytest.raises(LockfileError) as error:
        hub.resolve(handle)
    assert f"{file} {cause}" in str(error.value)
    assert f"tfhub-cache lock -r LIST -o {file}" in str(error.value)


# The command.


def test_the_commands_lock_and_resolve_the_same_models(
    host: Host, file: Path, tmp_path: Path, cache_dir: Path
) -> None:
    handles = [host.publish("/b/1", ARCHIVE), host.publish("/a/1", OTHER_ARCHIVE)]
    (tmp_path / "models.txt").write_text("# ours\n" + "\n\n".join(handles))
    done = run_command("lock", "-r", tmp_path / "models.txt", "-o", file, "--quiet").check()
    size = f"{(pin(MODEL).size + pin(OTHER).size) / 1000:.0f} kB"
    assert done.stdout == f"{file}: 2 models, {size}\n"
    assert done.stderr == ""
    assert set(json.loads(file.read_text())["models"]) == set(handles)

    # Another machine: all that is locked, in the order of the file; or the handles given.
    other = {"TFHUB_CACHE_DIR": str(tmp_path / "other")}
    done = run_command("resolve", "--quiet", "--locked", file, env=other).check()
    assert done.stdout.split() == [str(tmp_path / "other" / key_of(h)) for h in handles[::-1]]
    assert read_files(tmp_path / "other" / key_of(handles[0])) == MODEL
    done = run_command("resolve", "--quiet", "--locked", file, handles[0], HANDLE, env=other)
    assert done.returncode == 1
    assert done.stdout == f"{tmp_path / 'other' / key_of(handles[0])}\n"
    assert f"tfhub-cache: {HANDLE} is not in the lock file {file}" in done.stderr


def test_the_commands_report_what_failed_with_status_1(
    host: Host, file: Path, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", ARCHIVE)
    done = run_command("lock", "-q", f"{host.url}/missing/1", handle, "-o", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"tfhub-cache: {file} is not written, as 1 of 2 models are un")
    assert not file.exists()
    write(file, {handle: OTHER})
    done = run_command("resolve", "-q", "--locked", file)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not the one that is locked: expected" in done.stderr
    done = run_command("resolve", "-q", "--locked", file.with_name("missing"))
    assert done.returncode == 1
    assert "can't be used: No such file or directory" in done.stderr


def test_the_lock_file_of_the_option_comes_before_the_environments(
    handle: str, file: Path, tmp_path: Path, cache_dir: Path
) -> None:
    write(file, {handle: MODEL})
    env = {"TFHUB_LOCKFILE": str(tmp_path / "is-not-there.lock")}
    done = run_command("resolve", "-q", "--locked", file, env=env).check()
    assert done.stdout == f"{cache_dir / key_of(handle)}\n"
    assert "is-not-there.lock can't be used" in run_command("resolve", handle, env=env).stderr


def test_a_lock_without_handles_is_an_error_with_status_2(cache_dir: Path) -> None:
    assert run_command("lock").returncode == 2


def test_an_error_of_this_kind_is_of_the_documented_family(host: Host, use) -> None:
    handle = host.publish("/m/1", status(404))
    use({handle: MODEL})
    with pytest.raises(DownloadError):
        hub.resolve(handle)
    assert issubclass(LockfileError, ResolveError)
