"""The command `tfhub-cache`, as people and scripts run it.

Most tests run it in their own process, which is faster; those of streams, signals, encodings and
of several processes start it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import run_command as run
from entries import DAY, HOUR, SHARD, foreign, key_of, left_behind, names, ours
from models import fake_model, pack_files, read_files
from processes import Finished
from servers import Host, stall, status
from waiting import SOON

import tfhub_cache as hub
from tfhub_cache.errors import CacheError
from tfhub_cache.manifest import Manifest

MODEL = fake_model(size=1000)
OTHER = fake_model(size=2000, seed=1)
A, B, C = (f"https://example.com/{name}/1" for name in "abc")
COMMAND = (sys.executable, "-m", "tfhub_cache")


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begins to run the command, and ends it with the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **env: str) -> subprocess.Popen[str]:
        begun.append(
            subprocess.Popen(
                [*COMMAND, *arguments],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def rows(done: Finished) -> dict[str, Sequence[str]]:
    """What `ls` shows, by handles: state, size, files, downloaded, used."""
    found = [line.split("\t") for line in done.check().stdout.splitlines()]
    return {row[5]: row[:5] for row in found}


def listed(done: Finished) -> dict[str, Any]:
    return listed_anyway(done.check())


def listed_anyway(done: Finished) -> dict[str, Any]:
    return json.loads(done.stdout)


# The command itself.


def test_it_is_installed_as_tfhub_cache(tmp_path: Path) -> None:
    command = shutil.which("tfhub-cache", path=Path(sys.executable).parent)
    assert command is not None
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"tfhub-cache {hub.__version__}\n"


@pytest.mark.parametrize(
    "command", ["", "resolve", "lock", "ls", "info", "verify", "rm", "prune", "env"]
)
def test_help_has_examples(command: str) -> None:
    done = run(*command.split(), "--help").check()
    assert "\n\nExamples:\n    tfhub-cache " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["tidy"],
        ["ls", "--sort", "colour"],
        ["resolve"],
        ["resolve", "--jobs", "0", A],
        ["resolve", "-r", ""],
        ["info"],
        ["rm"],
        ["rm", "--all", A],
        ["rm", "--all"],
        ["prune", "--max-size", "20 models"],
        ["prune", "--max-size", "1.5"],
        ["prune", "--max-size", "9" * 400 + ".5GB"],
        ["prune", "--unused-for", "30 fortnights"],
        ["ls", "--load-format", "ZIP"],
        ["ls", "--load-format", ""],
        ["rm", "--all", "--yes", "--cache-dir", ""],
        ["--cache-dir=", "prune", "--max-size", "0B"],
        ["resolve", "--locked", "", A],
        ["lock", "-o", "", A],
    ],
)
def test_an_invalid_command_line_is_refused_with_status_2(
    cache_dir: Path, arguments: list[str]
) -> None:
    ours(cache_dir, A)
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "usage: tfhub-cache" in done.stderr
    assert (cache_dir / key_of(A)).exists()


def test_an_invalid_setting_is_an_error_with_status_1(cache_dir: Path) -> None:
    done = run("ls", env={"TFHUB_LOCK_TIMEOUT": "soon"})
    assert done.returncode == 1
    assert done.stderr.startswith("tfhub-cache: TFHUB_LOCK_TIMEOUT: invalid duration 'soon': write")


def test_a_cache_that_cannot_be_used_is_an_error_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--cache-dir", tmp_path / "file", "ls")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "s3gibberish" in run("--cache-dir", "s3gibberish://x/y", "ls").stderr


def test_debug_shows_where_an_error_comes_from(cache_dir: Path) -> None:
    for arguments in ["--debug", "info", A], ["resolve", "--debug", f"{cache_dir}/missing"]:
        with pytest.raises(OSError, match=r"is not in the cache|does not exist"):
            run(*arguments)


def test_nothing_slow_is_imported_unless_it_is_needed(cache_dir: Path, run_python) -> None:
    ours(cache_dir, A)
    code = (
        "import sys\n"
        "from tfhub_cache.cli import main\n"
        f"for arguments in (['ls'], ['ls', '--json'], ['verify'], ['env'], ['info', {A!r}],"
        f" ['prune'], ['rm', {A!r}]):\n"
        "    assert main(arguments) == 0, arguments\n"
        "slow = {'tensorflow', 'gcsfs', 'fsspec', 'requests', 'aiohttp', 'tqdm', 'isal'}\n"
        "print(slow & set(sys.modules), file=sys.stderr)"
    )
    assert run_python(code).check().stderr.endswith("set()\n")


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_what_is_written_to_a_closed_stream_is_discarded(cache_dir: Path, tmp_path: Path) -> None:
    entry = ours(cache_dir, A)

    def run_closed(arguments: str, closed: str) -> Finished:
        done = subprocess.run(
            ["sh", "-c", f'exec "$0" -m tfhub_cache {arguments} {closed}', sys.executable],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Finished(done.stdout, done.stderr, done.returncode)

    missing = tmp_path / "missing"
    assert run_closed(f"resolve {missing} {tmp_path}", "2>&-") == Finished(f"{tmp_path}\n", "", 1)
    assert run_closed("rm", "2>&-") == Finished("", "", 2)
    assert run_closed("ls", ">&-").returncode == 0
    assert run_closed(f"resolve -q {tmp_path}", ">&-") == Finished("", "", 0)
    assert run_closed("ls", ">&- 2>&-") == Finished("", "", 0)
    assert run_closed(f"rm {A}", "<&-").returncode == 0
    assert not entry.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs paths that are no text")
@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_programs_get_paths_byte_by_byte(host: Host, tmp_path: Path, env: dict[str, str]) -> None:
    folder = os.fsencode(tmp_path) + "/größe".encode() + b"\xff"
    handle = host.publish("/m/1", pack_files(MODEL))
    done = subprocess.run(
        [*COMMAND, "resolve", "-q", handle],
        env={**os.environb, b"TFHUB_CACHE_DIR": folder, **_bytes(env)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == folder + b"/" + key_of(handle).encode() + b"\n"
    done = subprocess.run(
        [*COMMAND, "ls"],
        env={**os.environb, b"TFHUB_CACHE_DIR": folder, **_bytes(env)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert handle.encode() in done.stdout


def _bytes(env: dict[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in env.items()}


@pytest.mark.once
def test_the_password_of_a_cache_is_not_shown(host: Host, tmp_path: Path) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    refuses = "ftp://user:SECRET@127.0.0.1:1/cache"
    for cache in refuses, f"memory://user:SECRET@{tmp_path.name}/cache":
        env = {"TFHUB_CACHE_DIR": cache}
        for arguments in (
            ["ls", "--json"],
            ["ls", "--cache-dir", "ftp://other:SECRET@127.0.0.1/x"],
            ["info", A],
            ["rm", A],
            ["env"],
            ["resolve", handle],
        ):
            if (cache, arguments[0]) == (refuses, "resolve"):
                continue
            done = run(*arguments, env=env)
            shown = done.stderr if arguments[0] == "resolve" else done.stdout + done.stderr
            assert "SECRET" not in shown
            assert shown


def test_the_password_of_a_cache_is_in_no_error(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    monkeypatch.setenv("TFHUB_CACHE_DIR", "ftp://user:SECRET@127.0.0.1:1/cache")
    with pytest.raises(CacheError, match=r"ftp://127\.0\.0\.1:1/cache") as error:
        hub.resolve(handle)
    assert "SECRET" not in str(error.value)


def test_a_model_that_is_named_twice_is_removed_once(cache_dir: Path) -> None:
    ours(cache_dir, A)
    ours(cache_dir, B)
    done = run("rm", A, B, key_of(A), A).check()
    assert [line.split()[1] for line in done.stdout.splitlines()] == [A, B, "2"]
    assert done.stderr == ""
    done = run("rm", key_of(A))
    assert done.returncode == 1
    assert done.stderr.endswith("`tfhub-cache ls` shows what is.\n")


# Which cache.


def test_the_option_comes_before_the_environment(cache_dir: Path, tmp_path: Path) -> None:
    ours(cache_dir, A)
    ours(tmp_path / "other", B)
    assert set(rows(run("ls"))) == {A}
    # It is good before and after the command, where it comes last.
    for arguments in (
        ["ls", "--cache-dir", tmp_path / "other"],
        ["--cache-dir", tmp_path / "other", "ls"],
        ["--cache-dir", cache_dir, "ls", "--cache-dir", tmp_path / "other"],
    ):
        done = run(*arguments)
        assert set(rows(done)) == {B}
        assert "CACHE_DIR" not in done.stderr


def test_models_are_removed_from_the_cache_of_the_option_and_from_no_other(
    cache_dir: Path, tmp_path: Path
) -> None:
    ours(cache_dir, A)
    before = read_files(cache_dir)
    for arguments in ["rm", "--yes", "--all"], ["prune", "--max-size", "0"]:
        model = ours(tmp_path / "other", A)
        done = run(*arguments, "--cache-dir", tmp_path / "other").check()
        assert done.stderr == ""
        assert not model.exists()
    assert read_files(cache_dir) == before


def test_the_load_format_of_the_option_comes_before_the_environments(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    done = run(
        *("resolve", "--load-format", "COMPRESSED", handle),
        env={"TFHUB_MODEL_LOAD_FORMAT": "UNCOMPRESSED"},
    )
    assert done.check().stdout == f"{cache_dir / key_of(handle)}\n"
    done = run(
        *("resolve", "--load-format", "UNCOMPRESSED", handle),
        env={"TFHUB_MODEL_LOAD_FORMAT": "COMPRESSED"},
    )
    assert "Expected 303" in done.stderr


# resolve


def test_resolve_prints_a_path_for_each_handle_in_their_order(
    host: Host, cache_dir: Path, tmp_path: Path
) -> None:
    handles = [host.publish(f"/m/{number}", pack_files(MODEL)) for number in (1, 2, 3)]
    done = run("resolve", *handles, tmp_path, handles[0]).check()
    paths = [str(cache_dir / key_of(handle)) for handle in handles]
    assert done.stdout.splitlines() == [*paths, str(tmp_path), paths[0]]
    assert all(read_files(path) == MODEL for path in paths)
    assert f"Downloading TF-Hub Module '{handles[0]}'" in done.stderr
    assert run("resolve", "--quiet", *handles).check() == Finished(
        "".join(f"{path}\n" for path in paths), "", 0
    )
    assert len(host.requests) == 3


def test_resolve_reads_handles_from_files_with_comments_and_from_stdin(
    host: Host, cache_dir: Path, tmp_path: Path
) -> None:
    one, two, three = (host.publish(f"/m/{n}", pack_files(MODEL)) for n in (1, 2, 3))
    (tmp_path / "models.txt").write_text(
        f"# what the service needs\n\n  {one}  \n{two}  # the small one\n#{three}\n"
    )
    done = run("resolve", "-q", "-r", tmp_path / "models.txt", "-r", "-", stdin=f"\ufeff{three}\n")
    assert [Path(line).name for line in done.stdout.splitlines()[:2]] == [key_of(one), key_of(two)]
    assert Path(done.stdout.splitlines()[2]).name == key_of(three)
    odd = f"{host.url}/m/1\u2028\x0c2"
    done = run("resolve", "-q", "-r", "-", stdin=f"{odd}\r\n{one}\r\n")
    assert len(done.stderr.splitlines()) == len(done.stdout.splitlines()) == 1
    assert run("resolve", "-r", "-", stdin="# nothing\n").check().stdout == ""
    (tmp_path / "latin.txt").write_bytes("größe".encode("latin-1"))
    for name in "missing.txt", "latin.txt":
        done = run("resolve", "-r", tmp_path / name)
        assert done.returncode == 1
        assert name in done.stderr


def test_a_handle_that_fails_does_not_stop_the_others(host: Host, cache_dir: Path) -> None:
    missing = host.publish("/missing/1", status(404))
    handle = host.publish("/m/1", pack_files(MODEL))
    done = run("resolve", "-q", missing, handle, "tfhub.dev/google/spice/2")
    assert done.returncode == 1
    assert done.stdout == f"{cache_dir / key_of(handle)}\n"
    first, second = done.stderr.splitlines()
    assert missing in first
    assert "404" in first
    assert "write https://tfhub.dev/google/spice/2" in second


def test_refresh_fetches_what_an_unversioned_handle_means_now(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m", pack_files(MODEL))
    (path,) = run("resolve", "-q", handle).check().stdout.splitlines()
    host.publish("/m", pack_files(OTHER))
    assert run("resolve", "-q", handle).check().stdout == f"{path}\n"
    assert read_files(path) == MODEL
    assert run("resolve", "-q", "--refresh", handle).check().stdout == f"{path}\n"
    assert read_files(path) == OTHER
    host.publish("/m", status(503))
    host.publish("/m", status(404))
    done = run("resolve", "--refresh", handle)
    assert done.returncode == 1
    assert read_files(path) == OTHER


@pytest.mark.skipif(os.name != "posix", reason="sends a SIGINT")
def test_ctrl_c_stops_all_downloads_in_one_line_and_leaves_the_cache_clean(
    begin: Callable[..., subprocess.Popen[str]], host: Host, cache_dir: Path
) -> None:
    release = threading.Event()
    packed = pack_files(fake_model(size=3_000_000))
    handles = [
        host.publish(f"/slow/{number}", stall(packed, 2_000_000, release)) for number in (1, 2, 3)
    ]
    process = begin("resolve", "--quiet", *handles)
    host.wait_for_requests(3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=SOON)
    assert (process.returncode, stdout, stderr) == (130, "", "tfhub-cache: interrupted.\n")
    assert names(cache_dir) == set()


# ls


def test_ls_shows_states_sizes_times_and_handles(
    begin: Callable[..., Any], host: Host, cache_dir: Path
) -> None:
    ours(cache_dir, A, used=3 * DAY)
    foreign(cache_dir, B)
    (ours(cache_dir, C) / SHARD).unlink()
    left_behind(cache_dir, "https://example.com/dead/1")
    foreign(cache_dir, "https://example.com/unknown/1", descriptor=False)
    release = threading.Event()
    slow = host.publish("/slow/1", stall(pack_files(MODEL), 100, release))
    begin("resolve", slow)
    host.wait_for_requests(1)
    done = run("ls")
    shown = rows(done)
    size = sum(map(len, MODEL.values()))
    assert {handle: row[0] for handle, row in shown.items()} == {
        A: "ok",
        B: "foreign",
        C: "incomplete",
        key_of("https://example.com/dead/1"): "incomplete",
        key_of("https://example.com/unknown/1"): "foreign",
        key_of(slow): "downloading",
    }
    assert shown[A][1:3] == [str(size), "4"]
    assert shown[A][3].startswith("2026-01-02T")
    assert shown[key_of(slow)][3:5] == ["-", "-"]
    summary, left = done.stderr.splitlines()
    assert re.fullmatch(
        rf"4 models, 3\d kB, in {re.escape(str(cache_dir))}; [\d.]+ .B are free there\.", summary
    )
    assert "which `tfhub-cache prune` removes" in left
    assert "\x1b" not in done.stdout + done.stderr

    data = listed(run("ls", "--json"))
    assert data["format"] == 1
    assert data["cache"] == str(cache_dir)
    assert data["size"] == 4 * size - 1000
    assert data["free"] > 0
    entries = {entry["key"]: entry for entry in data["entries"]}
    assert {key: entries[key]["state"] for key in entries} == {
        key_of(name) if "/" in name else name: row[0] for name, row in shown.items()
    }
    whole = entries[key_of(A)]
    assert set(whole) == {
        *("handle", "versioned", "key", "path", "state", "flaw", "size", "files"),
        *("downloaded", "used", "holder", "leftovers", "received", "expected"),
    }
    assert (whole["handle"], whole["size"], whole["files"]) == (A, size, 4)
    assert (whole["flaw"], whole["holder"], whole["leftovers"]) == (None, None, {})
    assert entries[key_of("https://example.com/dead/1")]["leftovers"]
    assert "is missing" in entries[key_of(C)]["flaw"]


@pytest.mark.tensorflow
def test_ls_knows_the_models_of_tensorflow_hub(host: Host, cache_dir: Path) -> None:
    tensorflow_hub = pytest.importorskip("tensorflow_hub")
    handle = host.publish("/m/1", pack_files(MODEL))
    tensorflow_hub.resolve(handle)
    row = rows(run("ls"))[handle]
    assert row[0] == "foreign"
    written = time.mktime(time.strptime(row[3][:19], "%Y-%m-%dT%H:%M:%S"))
    assert abs(time.time() - written) < 600
    assert run("verify").check().stdout == "1 without digests.\n"
    run("rm", handle).check()
    assert names(cache_dir) == set()


def test_ls_sorts_by_name_size_or_last_use(cache_dir: Path) -> None:
    ours(cache_dir, A, fake_model(size=2000), used=DAY)
    ours(cache_dir, B, fake_model(size=3000), used=2 * DAY)
    ours(cache_dir, C, fake_model(size=1000), used=HOUR)
    assert list(rows(run("ls"))) == [A, B, C]
    assert list(rows(run("ls", "--sort", "size"))) == [B, A, C]
    assert list(rows(run("ls", "--sort", "used"))) == [C, A, B]


def test_ls_shows_how_much_an_interrupted_download_has_received(cache_dir: Path) -> None:
    cache_dir.mkdir()
    archive = {"format": 4, "handle": A, "size": 6000000, "version": "v"}
    notes = "".join(f"{json.dumps(line)}\n" for line in (archive, [5, 1], [0, 1]))
    (cache_dir / f"{key_of(A)}.part").write_bytes(bytes(6000000))  # with a hole
    (cache_dir / f"{key_of(A)}.part.json").write_text(notes)
    (cache_dir / f"{key_of(B)}.part").write_bytes(bytes(5000))
    (cache_dir / f"{key_of(B)}.part.json").write_bytes(b"{}")
    shown = rows(run("ls"))
    assert shown[A][:2] == ["incomplete", str(1805696 + len(notes))]
    assert shown[key_of(B)][:2] == ["incomplete", "5002"]
    assert "resumes" in run("ls").stderr
    entries = {entry["key"]: entry for entry in listed(run("ls", "--json"))["entries"]}
    assert [entries[key_of(A)][name] for name in ("received", "expected")] == [1805696, 6000000]
    assert [entries[key_of(B)][name] for name in ("received", "expected")] == [None, None]


def test_info_of_an_interrupted_download_says_how_far_it_is_and_that_it_resumes(
    cache_dir: Path,
) -> None:
    cache_dir.mkdir()
    archive = {"format": 4, "handle": A, "size": 6000000, "version": "v"}
    (cache_dir / f"{key_of(A)}.part").write_bytes(bytes(1500000))
    (cache_dir / f"{key_of(A)}.part.json").write_text(f"{json.dumps(archive)}\n[0, 1]\n")
    shown = run("info", A).check().stdout.splitlines()
    fields = dict(line.split(maxsplit=1) for line in shown)
    assert fields["state"] == "incomplete"
    assert fields["received"] == "1.0 MB of 6.0 MB, which the next download resumes"
    assert fields["signatures"] == "unknown: the model is not there"
    assert "size" not in fields


def test_a_cache_that_is_empty_or_not_there_is_said_to_be(cache_dir: Path) -> None:
    for arguments in ["ls"], ["verify"], ["rm", "--all", "--yes"], ["prune"]:
        done = run(*arguments).check()
        there = f"There is no cache at {cache_dir} yet: the first download makes it.\n"
        assert done.stdout + done.stderr == there
    assert listed(run("ls", "--json"))["entries"] == []
    assert listed(run("ls", "--json"))["exists"] is False
    assert f"is not in the cache {cache_dir}, which does not exist." in run("rm", "spice").stderr
    cache_dir.mkdir()
    for arguments in ["ls"], ["verify"], ["rm", "--all", "--yes"]:
        done = run(*arguments).check()
        assert done.stdout + done.stderr == f"There are no models in {cache_dir}.\n"
    assert listed(run("ls", "--json"))["exists"] is True


def test_ls_shows_neither_secrets_nor_escape_sequences(cache_dir: Path) -> None:
    ours(cache_dir, "https://user:secret@example.com/m/1?token=secret")
    ours(cache_dir, "https://example.com/\x1b]0;evil\x07\u202e\t\n/1")
    done = run("ls")
    assert "secret" not in done.stdout
    assert "https://example.com/m/1?..." in rows(done)
    assert not re.search("[\x1b\x07\u202e]", done.stdout)
    assert len(done.stdout.splitlines()) == 2
    handles = {entry["handle"] for entry in listed(run("ls", "--json"))["entries"]}
    assert "https://user:secret@example.com/m/1?token=secret" in handles


def test_info_shows_no_escape_sequences(cache_dir: Path) -> None:
    evil = "a\x1b]0;evil\x07"
    entry = ours(cache_dir, A, {**MODEL, evil: b"x"})
    (entry / evil).unlink()
    done = run("info", A).check()
    assert r"a\x1b]0;evil\x07 is missing" in done.stdout
    assert not re.search("[\x1b\x07]", done.stdout)


def test_ls_shows_a_handle_that_the_terminal_has_no_letters_for(
    begin: Callable[..., subprocess.Popen[str]], cache_dir: Path
) -> None:
    ours(cache_dir, "https://example.com/größe/犬/1")
    stdout, _ = begin("ls", PYTHONIOENCODING="ascii").communicate(timeout=SOON)
    assert r"gr\xf6\xdfe/\u72ac/1" in stdout


@pytest.mark.skipif(os.name != "posix", reason="closes a pipe")
def test_a_reader_that_stops_reading_gets_status_141_and_no_message(
    begin: Callable[..., subprocess.Popen[str]], cache_dir: Path
) -> None:
    for number in range(250):  # more than a pipe holds
        foreign(cache_dir, f"https://example.com/{number:0400}/1")
    process = begin("ls")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(SOON) == 141


@pytest.mark.once
def test_a_large_cache_is_listed_without_looking_into_the_folders(
    cache_dir: Path, run_python
) -> None:
    """Of 500 models each manifest is read twice at the most, and no folder is walked."""
    for number in range(500):
        ours(cache_dir, f"https://example.com/{number}/1", {"saved_model.pb": b"x"})
    code = (
        "import collections, sys\n"
        "from tfhub_cache.cli import main\n"
        "seen = collections.Counter()\n"
        "sys.addaudithook(lambda event, args: seen.update([event] if args and args[0].__class__ is"
        " str else ()))\n"
        "assert main(['ls']) == 0\n"
        "print(seen['open'], seen['os.listdir'], seen['os.scandir'], file=sys.stderr)"
    )
    done = run_python(code, env={"TFHUB_CACHE_DIR": cache_dir}).check()
    assert len(done.stdout.splitlines()) == 500
    opened, *looked = map(int, done.stderr.split()[-3:])
    assert opened < 2 * 500 + 500
    assert sum(looked) < 50


# info


def test_info_shows_where_a_model_is_and_where_it_came_from(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    hub.resolve(handle)
    done = run("info", handle).check()
    assert str(cache_dir / key_of(handle)) in done.stdout
    assert f"tfhub-cache {hub.__version__} on " in done.stdout
    manifest = Manifest.from_json((cache_dir / f"{key_of(handle)}.manifest.json").read_text())
    assert re.search(rf"^sha256 +{manifest.digest}$", done.stdout, re.MULTILINE)
    assert "saved_model.pb is damaged" in done.stdout  # it is none
    data = listed(run("info", "--json", key_of(handle)))
    assert data["manifest"]["handle"] == handle
    assert data["sha256"] == manifest.digest
    assert data["signatures"] is None
    assert "damaged" in data["signatures_error"]


@pytest.mark.tensorflow
def test_info_shows_signatures(
    host: Host, cache_dir: Path, text_embedding: Path, archive_of
) -> None:
    handle = host.publish("/m/1", archive_of(text_embedding))
    hub.resolve(handle)
    assert (
        run("info", handle)
        .check()
        .stdout.endswith(
            "\nsignature serving_default (serve)\n"
            "  in   sentences: string (?,)\n"
            "  out  embeddings: float32 (?, 4)\n"
        )
    )
    assert listed(run("info", "--json", handle))["signatures"] == [
        {
            "name": "serving_default",
            "inputs": [{"name": "sentences", "dtype": "string", "shape": [-1]}],
            "outputs": [{"name": "embeddings", "dtype": "float32", "shape": [-1, 4]}],
            "tags": ["serve"],
        }
    ]


def test_info_of_what_is_not_there_says_how_to_get_it(cache_dir: Path) -> None:
    done = run("info", A)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"tfhub-cache: {A} is not in the cache {cache_dir}" in done.stderr
    assert f"`tfhub-cache resolve {A}` fetches it" in done.stderr


def test_info_of_what_is_only_left_behind_says_that_there_is_no_model(cache_dir: Path) -> None:
    left_behind(cache_dir, A)
    shown = run("info", A).check().stdout.splitlines()
    assert [line.split(maxsplit=1) for line in shown[1:]] == [
        ["state", "incomplete"],
        ["path", str(cache_dir / key_of(A))],
        ["signatures", "unknown: the model is not there"],
    ]
    ours(cache_dir, B, {"model.txt": b""})
    assert "there is no saved_model.pb" in run("info", B).stdout


# verify


def test_verify_shows_what_differs_and_fetches_it_again(host: Host, cache_dir: Path) -> None:
    ours(cache_dir, A)
    foreign(cache_dir, B)
    handle = host.publish("/m/1", pack_files(MODEL))
    path = Path(hub.resolve(handle))
    assert run("verify").check().stdout == "2 intact, 1 without digests.\n"
    assert run("verify", "-v").check().stdout.splitlines() == [
        f"ok  {handle}",
        f"ok  {A}",
        f"unverifiable  {B}",
        "2 intact, 1 without digests.",
    ]
    (path / SHARD).write_bytes(bytes(1000))
    done = run("verify", "--jobs", "2")
    assert done.returncode == 1
    assert f"differs  {handle}\n    {SHARD} has other contents: sha256 " in done.stdout
    assert done.stderr.endswith(f"To download it again: tfhub-cache verify --fix {handle}\n")
    assert [done.stdout.count(handle), done.stderr.count(handle)] == [1, 1]
    assert done.stdout.endswith("\n1 intact, 1 differ, 1 without digests.\n")
    assert A not in done.stdout
    assert run("verify", "-q").stdout == f"{handle}\n"
    found = listed_anyway(run("verify", "--json"))
    assert found["results"] == {"ok": 1, "differs": 1, "unverifiable": 1}
    assert [(one["handle"], one["result"]) for one in found["models"]] == [
        (handle, "differs"),
        (A, "ok"),
        (B, "unverifiable"),
    ]
    assert "other contents" in found["models"][0]["problems"][0]
    assert found["models"][0]["error"] is None
    done = run("verify", "--fix").check()
    assert done.stdout.endswith("\n1 intact, 1 downloaded again, 1 without digests.\n")
    assert f"fixed  {handle}\n    {SHARD} has other contents" in done.stdout
    assert read_files(path) == MODEL
    run("verify").check()


def test_verify_says_what_cannot_be_fetched_again_and_what_is_not_there(
    host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", status(404))
    (ours(cache_dir, handle) / SHARD).write_bytes(bytes(1000))
    left_behind(cache_dir, B)
    done = run("verify", "--fix", handle, A)
    assert done.returncode == 1
    assert f"Could not download {handle}" in done.stderr
    assert f"{A} is not in the cache" in done.stderr
    done = run("verify", B)
    assert done.returncode == 1
    assert "there is no entry" in done.stdout


# rm


def test_rm_removes_what_is_named(cache_dir: Path) -> None:
    ours(cache_dir, A)
    ours(cache_dir, B)
    done = run("rm", A, key_of(C))
    assert done.returncode == 1
    assert re.fullmatch(rf"Removed {A} \([\d.]+ kB, used .*\)\n", done.stdout)
    assert f"{key_of(C)} is not in the cache" in done.stderr
    assert set(rows(run("ls"))) == {B}
    run("rm", "--all", "--yes").check()
    assert names(cache_dir) == set()
    assert run("rm", "--all", "--yes").check().stdout == f"There are no models in {cache_dir}.\n"


def test_rm_leaves_what_another_process_downloads(
    begin: Callable[..., Any], host: Host, cache_dir: Path
) -> None:
    release = threading.Event()
    handle = host.publish("/slow/1", stall(pack_files(MODEL), 100, release))
    process = begin("resolve", "-q", handle)
    host.wait_for_requests(1)
    done = run("rm", handle)
    assert done.returncode == 1
    assert "another process is downloading it" in done.stderr
    release.set()
    assert process.communicate(timeout=SOON) == (f"{cache_dir / key_of(handle)}\n", "")
    assert read_files(cache_dir / key_of(handle)) == MODEL


# prune


def test_prune_says_what_and_how_much(cache_dir: Path) -> None:
    ours(cache_dir, A, used=40 * DAY)
    ours(cache_dir, B, used=1 * DAY)
    left = left_behind(cache_dir, C)
    before = names(cache_dir)
    done = run("prune", "--unused-for", "30d", "--dry-run").check()
    assert names(cache_dir) == before
    assert f"Would remove {A} (9.9 kB, used " in done.stdout
    assert done.stdout.count("Would remove what a crashed process left: ") == len(left)
    assert done.stdout.endswith("Would free 12 kB; the models that stay have 9.9 kB.\n")
    done = run("prune", "--unused-for", "30d").check()
    assert done.stdout.endswith("Freed 12 kB; the models that stay have 9.9 kB.\n")
    assert set(rows(run("ls"))) == {B}
    assert run("prune").check().stdout == "Freed 0 B; the models that stay have 9.9 kB.\n"


def test_two_prunes_at_once_both_succeed(
    begin: Callable[..., subprocess.Popen[str]], cache_dir: Path
) -> None:
    for number in range(60):
        ours(cache_dir, f"https://example.com/{number}/1", used=(100 - number) * DAY)
    both = [begin("prune", "--max-size", "100kB") for _ in range(2)]
    outputs = [process.communicate(timeout=SOON) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert [stderr for _, stderr in outputs] == ["", ""]
    removed = sum(stdout.count("Removed http") for stdout, _ in outputs)
    assert removed == 60 - len(hub.cache.entries())
    assert 50 <= removed <= 51


@pytest.mark.tensorflow
def test_a_prune_while_a_model_is_loaded_does_not_break_the_load(
    begin: Callable[..., subprocess.Popen[str]],
    host: Host,
    cache_dir: Path,
    text_embedding: Path,
    archive_of,
) -> None:
    """A load gives the whole model, or an error that names what is gone."""
    import tensorflow as tf

    handle = host.publish("/m/1", archive_of(text_embedding))
    loaded = rounds = 0
    pruning = begin("prune", "--max-size", "0")
    while rounds < 5 or not loaded:
        missing = None
        try:
            assert hub.load(handle)(["a cat"]).shape == (1, 4)
            loaded += 1
        except (OSError, ValueError, tf.errors.NotFoundError) as error:
            missing = error
        assert missing is None or key_of(handle) in str(missing)
        if pruning.poll() is not None:
            assert pruning.returncode == 0
            rounds += 1
            pruning = begin("prune", "--max-size", "0")


# env


def test_env_shows_versions_and_settings_and_no_secrets(tmp_path: Path) -> None:
    secrets = {
        "HTTPS_PROXY": "http://user:secret@proxy:3128",
        "TFHUB_CACHE_DIR": "gs://bucket/models?key=secret",
    }
    done = run("env", "--load-format", "COMPRESSED", env=secrets).check()
    assert re.search(rf"^tfhub-cache +{re.escape(hub.__version__)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^TFHUB_CACHE_DIR +gs://bucket/models +\[environment\]$", done.stdout, re.M)
    assert re.search(r"^TFHUB_MODEL_LOAD_FORMAT +COMPRESSED +\[option\]$", done.stdout, re.M)
    assert re.search(r"^TFHUB_HTTP_TIMEOUT +60s +\[default\]$", done.stdout, re.M)
    assert re.search(r"^HTTPS_PROXY +http://proxy:3128 +\[environment\]$", done.stdout, re.M)
    assert "secret" not in done.stdout + done.stderr
    data = listed(run("env", "--json", env=secrets))
    assert data["versions"]["tfhub-cache"] == hub.__version__
    assert "secret" not in json.dumps(data)


# A bucket.


@pytest.mark.once
def test_all_of_it_works_on_a_cache_in_a_bucket(bucket: str, host: Host) -> None:
    """resolve, ls, info, verify, fix, refresh, prune and rm."""
    from gcsfs.core import GCSFileSystem

    client = GCSFileSystem(
        endpoint_url=bucket, token="anon", skip_instance_cache=True, use_listings_cache=False
    )
    env = {"STORAGE_EMULATOR_HOST": bucket, "TFHUB_CACHE_DIR": "gs://test-bucket/models"}
    handle = host.publish("/m/1", pack_files(MODEL))
    latest = host.publish("/latest", pack_files(MODEL))
    paths = run("resolve", "-q", handle, latest, env=env).check().stdout.splitlines()
    root = "gs://test-bucket/models"
    keys = [key_of(handle), key_of(latest)]
    assert [path.partition(".")[0] for path in paths] == [f"{root}/{key}" for key in keys]

    dead = "0" * 40
    client.pipe_file(f"{root}/{dead}/saved_model.pb", b"half")
    client.pipe_file(f"{root}/{dead}.unfinished", b"being filled\n")
    client.pipe_file(f"{root}/{key_of(A)}/saved_model.pb", b"by tensorflow_hub")
    client.pipe_file(f"{root}/{key_of(A)}.descriptor.txt", f"Module: {A}\n".encode())
    client.pipe_file(f"{paths[0]}/{SHARD}", bytes(1000))
    shown = rows(run("ls", env=env))
    assert {name: row[0] for name, row in shown.items()} == {
        handle: "ok",
        latest: "ok",
        A: "foreign",
        dead: "incomplete",
    }
    assert shown[handle][1:3] == [str(sum(map(len, MODEL.values()))), "4"]

    done = run("verify", env=env)
    assert done.returncode == 1
    assert f"differs  {handle}\n    {SHARD} has other contents" in done.stdout
    host.publish("/latest", pack_files(OTHER))
    run("verify", "--fix", handle, env=env).check()
    mended = run("resolve", "-q", handle, env=env).check().stdout.strip()
    assert client.cat_file(f"{mended}/{SHARD}") == MODEL[SHARD]
    newer = run("resolve", "-q", "--refresh", latest, env=env).check().stdout.strip()
    assert client.cat_file(f"{newer}/{SHARD}") == OTHER[SHARD]
    assert client.cat_file(f"{paths[1]}/{SHARD}") == MODEL[SHARD]  # for programs that have the path
    assert "saved_model.pb is damaged" in run("info", latest, env=env).check().stdout

    assert run("ls", "-q", "latest", "*/m/1", env=env).check().stdout == f"{latest}\n{handle}\n"
    assert "Did you mean latest?" in run("rm", "lates7", env=env).stderr
    assert run("dir", env=env).check().stdout == f"{root}\n"
    assert listed(run("verify", "latest", "--json", env=env))["results"] == {"ok": 1}
    planned = listed(run("rm", "*", "--dry-run", "--json", env=env))
    assert {model["key"] for model in planned["models"]} == {*keys, key_of(A), dead}
    elsewhere = run("ls", "--cache-dir", f"{root}/none", env=env).check()
    assert elsewhere.stderr == f"There are no models in {root}/none.\n"

    done = run("prune", env=env).check()
    assert f"left: {dead} (4 B)" in done.stdout
    assert set(rows(run("ls", env=env))) == {handle, latest, A}
    run("rm", handle, A, env=env).check()
    at_once = {"TFHUB_BUCKET_GRACE": "0"}
    run("prune", "--max-size", "0", env={**env, **at_once}).check()
    assert client.find(root) == []


def test_white_space_around_a_handle_is_left_out(cache_dir: Path, host: Host) -> None:
    handle = host.publish("/m/1", pack_files(MODEL))
    written = f" {handle}\n"
    path = run("resolve", "-q", written).check().stdout
    assert path == f"{cache_dir / key_of(handle)}\n"
    assert run("info", written).check().stdout.startswith(f"handle         {handle}\n")
    assert run("verify", "-q", "--fix", written).check().stdout == ""
    assert f"ok  {handle}\n" in run("verify", "-v", written).check().stdout
    assert run("rm", written).check().stdout.startswith(f"Removed {handle} ")


# Completion.


def test_a_shell_completes_commands_options_and_handles(cache_dir: Path, tmp_path: Path) -> None:
    ours(cache_dir, A)
    foreign(cache_dir, B)

    def completions(line: str) -> set[str]:
        out = tmp_path / "completions"
        asked = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_COMP_WORDBREAKS": " ",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        command = [sys.executable, "-m", "tfhub_cache"]
        subprocess.run(command, env={**os.environ, **asked}, timeout=60, check=False)
        return set(out.read_text().split("\n"))

    assert completions("tfhub-cache pr") == {"prune"}
    assert completions("tfhub-cache prune --max") == {"--max-size"}
    assert completions("tfhub-cache rm https://example.com/") == {A, B}
    signed = ours(cache_dir, f"{C}?signature=SECRET").name
    assert completions("tfhub-cache rm ") >= {A, B, signed}
    assert completions("tfhub-cache rm https://example.com/") == {A, B}
