"""Which models the words of a command mean, and what commands report of them to programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import run_command as run
from entries import DAY, foreign, key_of, left_behind, names, ours
from models import fake_model, pack_files, read_files
from processes import Finished
from servers import Host, status

import tfhub_cache as hub

MODEL = fake_model(size=1000)
OTHER = fake_model(size=2000, seed=1)
A, B, C = (f"https://example.com/{name}/1" for name in "abc")
SPICE, SPICE_12, NNLM, WIKI = (
    f"https://tfhub.dev/google/{name}"
    for name in ("spice/1", "spice/12", "nnlm-en-dim128/2", "Wiki40b-lm-en/1")
)
OURS = "https://models.example.com/mine/nnlm/3?token=SECRET"


@pytest.fixture
def several(cache_dir: Path) -> Path:
    for handle in SPICE, SPICE_12, NNLM, WIKI, OURS:
        ours(cache_dir, handle)
    return cache_dir


def data_of(done: Finished) -> dict[str, Any]:
    return json.loads(done.stdout)


# Words and patterns.


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["spice"], [SPICE, SPICE_12]),
        ([" spice "], [SPICE, SPICE_12]),
        (["SPICE/1"], [SPICE]),
        (["spice/12"], [SPICE_12]),
        (["dim128"], [NNLM]),
        (["wiki"], [WIKI]),
        (["nnlm", "wiki"], [key_of(OURS), WIKI, NNLM]),
        (["https://tfhub.dev/*"], [WIKI, NNLM, SPICE, SPICE_12]),
        (["*/1"], [WIKI, SPICE]),
        ([SPICE, "spice/1", key_of(SPICE)], [SPICE]),
        ([OURS], [key_of(OURS)]),
        (["mine"], [key_of(OURS)]),
        (["*"], [key_of(OURS), WIKI, NNLM, SPICE, SPICE_12]),
    ],
)
def test_ls_lists_the_models_that_words_and_patterns_mean(
    several: Path, words: list[str], meant: list[str]
) -> None:
    assert run("ls", "-q", *words).check().stdout.splitlines() == meant


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("spize", "Did you mean spice?"),
        ("spice/2", "Did you mean spice/1"),
        ("something-else", "`tfhub-cache ls` shows what is."),
        ("0" * 40, "`tfhub-cache ls` shows what is."),
        ("https://tfhub.dev/none/*", "`tfhub-cache ls` shows what is."),
        ("https://tfhub.dev/google/spice", "`tfhub-cache resolve https://tfhub.dev/google/spice`"),
    ],
)
@pytest.mark.parametrize("command", [["ls"], ["rm"], ["verify"], ["info"], ["prune", "--keep"]])
def test_a_word_that_means_no_model_is_an_error_that_helps(
    several: Path, command: list[str], word: str, said: str
) -> None:
    done = run(*command, word)
    assert done.returncode == 1
    assert f"{word} is not in the cache {several}." in done.stderr
    assert said in done.stderr
    assert said.startswith("`tfhub-cache resolve") or "resolve" not in done.stderr
    assert len(hub.cache.entries()) == 5


@pytest.mark.parametrize(
    "command", ["ls", "rm", "verify", "info", "prune --keep", "resolve", "lock"]
)
@pytest.mark.parametrize("word", ["", " "])
def test_an_empty_word_as_of_an_unset_variable_is_refused(command: str, word: str) -> None:
    done = run(*command.split(), word)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(": it is empty\n")


def test_rm_and_info_take_a_word_that_means_one_model_only(several: Path) -> None:
    for command in "rm", "info":
        done = run(command, "spice")
        assert done.returncode == 1
        assert "spice means 2 models. Write more of the handle" in done.stderr
        assert f"\n  {SPICE}\n  {SPICE_12}\n" in done.stderr
        assert done.stdout == ""
    assert run("info", "spice/12").check().stdout.startswith(f"handle         {SPICE_12}\n")
    first, second, summary = run("rm", "spice/12", "wiki").check().stdout.splitlines()
    assert first.startswith(f"Removed {SPICE_12} (9.9 kB, used 20")
    assert second.startswith(f"Removed {WIKI} (9.9 kB, used 20")
    assert summary == "Removed 2 models, 20 kB."
    assert run("rm", "-q", "*tfhub.dev*").check().stdout == f"{NNLM}\n{SPICE}\n"
    assert [entry.handle for entry in hub.cache.entries()] == [OURS]


def test_a_dry_run_of_rm_removes_nothing_and_says_what_a_run_says(several: Path) -> None:
    planned = run("rm", "*", "--dry-run").check().stdout
    assert run("rm", "--all", "--dry-run").check().stdout == planned
    assert planned.endswith("Would remove 5 models, 50 kB.\n")
    assert len(hub.cache.entries()) == 5
    assert run("rm", "*").check().stdout == planned.replace("Would remove", "Removed")
    assert hub.cache.entries() == []


def test_a_pattern_names_cached_models_for_resolve_and_lock(
    host: Host, cache_dir: Path, tmp_path: Path
) -> None:
    handles = [host.publish(f"/m/{name}", pack_files(MODEL)) for name in ("a", "b")]
    other = host.publish("/other/c", pack_files(MODEL))
    run("resolve", "-q", *handles, other).check()
    for path in "/m/a", "/m/b":
        host.publish(path, pack_files(OTHER))
    run("resolve", "-q", "--refresh", f"{host.url}/m/*").check()
    assert [read_files(cache_dir / key_of(handle)) for handle in handles] == [OTHER, OTHER]
    assert read_files(cache_dir / key_of(other)) == MODEL
    run("lock", "-q", f"{host.url}/m/*", "-o", tmp_path / "models.lock").check()
    assert list(json.loads((tmp_path / "models.lock").read_text())["models"]) == handles
    # What means no cached model is a handle like any other.
    assert "Could not download" in run("resolve", f"{host.url}/none/*").stderr


# What a command is called.


@pytest.mark.parametrize(
    ("word", "meant"),
    [("lst", "list"), ("resolv", "resolve"), ("verif", "verify"), ("removes", "remove")],
)
def test_an_unknown_command_gets_the_one_that_was_meant(word: str, meant: str) -> None:
    done = run(word)
    assert done.returncode == 2
    assert done.stderr.endswith(f". Did you mean {meant}?\n")
    assert "Did you mean" not in run("my-machine").stderr


def test_without_a_command_the_help_says_which_there_are() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run("--help").check().stdout
    assert run("--cache-dir", "elsewhere").stderr == done.stderr


def test_an_unknown_option_gets_the_one_of_the_command_that_was_meant() -> None:
    done = run("prune", "--dryrun", "--maximum=0")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: tfhub-cache prune ")
    assert done.stderr.endswith("--dryrun --maximum=0. Did you mean --dry-run?\n")
    assert "Did you mean" not in run("ls", "--colourful").stderr
    assert run("--versoin").stderr.endswith("--versoin. Did you mean --version?\n")


def test_an_unknown_order_gets_the_one_that_was_meant() -> None:
    done = run("ls", "--sort", "sizes:asc")
    assert done.returncode == 2
    assert done.stderr.endswith(" Did you mean size:asc?\n")


def test_list_and_remove_are_other_names_of_commands(cache_dir: Path) -> None:
    ours(cache_dir, A)
    assert run("list").check().stdout == run("ls").check().stdout
    run("remove", A).check()
    assert run("list", "-q").check().stdout == ""


# What is listed.


def test_ls_lists_as_many_as_are_wanted_and_adds_up_all(cache_dir: Path) -> None:
    for handle in A, B, C:
        ours(cache_dir, handle)
    done = run("ls", "--limit", "2")
    assert [line.split("\t")[5] for line in done.stdout.splitlines()] == [A, B]
    assert done.stderr.startswith("Not listed: 1 more model.\n3 models, 30 kB, in ")
    data = data_of(run("ls", "--limit", "1", "--json"))
    assert [entry["handle"] for entry in data["entries"]] == [A]
    assert data["size"] == 3 * data["entries"][0]["size"]
    assert run("ls", "--limit", "2", "-q").check() == Finished(f"{A}\n{B}\n", "", 0)


def test_ls_sorts_in_either_direction(cache_dir: Path) -> None:
    for handle, size, days in (A, 2000, 1), (B, 3000, 2), (C, 1000, 0):
        ours(cache_dir, handle, fake_model(size=size), used=days * DAY)
    for order, sorted_by_it in {
        "name:desc": [C, B, A],
        "size:asc": [C, A, B],
        "size:desc": [B, A, C],
        "used:asc": [B, A, C],
    }.items():
        assert run("ls", "-q", "--sort", order).check().stdout.splitlines() == sorted_by_it


def test_ls_quiet_gives_words_that_rm_takes_from_xargs(cache_dir: Path) -> None:
    odd = "https://example.com/it's odd/1", f"{A}?token=SECRET", "https://example.com/\u202e/1"
    for handle in (A, *odd):
        ours(cache_dir, handle)
    foreign(cache_dir, B, descriptor=False)
    shown = run("ls", "-q").check().stdout.splitlines()
    assert set(shown) == {A, key_of(B), *map(key_of, odd)}
    run("rm", "-q", *shown).check()
    assert names(cache_dir) == set()


def test_prune_keeps_the_models_that_are_named(cache_dir: Path) -> None:
    for handle in A, B, C:
        ours(cache_dir, handle, used=40 * DAY)
    done = run("prune", "--unused-for", "30d", "--keep", A, "--keep", "*/c/*", "-q").check()
    assert done.stdout == f"{B}\n"
    assert {entry.handle for entry in hub.cache.entries()} == {A, C}


LISTINGS = """
import os, sys
import tfhub_cache as hub

seen = []
sys.addaudithook(lambda event, of: event == "os.listdir" and seen.append(of[0]))
hub.cache.prune(unused_for="30d", keep=sys.argv[2:])
print(seen.count(sys.argv[1]))
"""


def test_prune_lists_the_cache_once_whatever_is_kept(cache_dir: Path, run_python) -> None:
    ours(cache_dir, A)
    without = run_python(LISTINGS, args=[cache_dir]).check().stdout
    assert run_python(LISTINGS, args=[cache_dir, "*/a/*"]).check().stdout == without


# JSON: the fields that the page of the command line documents.


def test_dir_prints_the_cache_folder(cache_dir: Path, tmp_path: Path) -> None:
    assert run("dir").check().stdout == f"{cache_dir}\n"
    assert run("dir", "--cache-dir", tmp_path).check().stdout == f"{tmp_path}\n"
    data = data_of(run("dir", "--json"))
    assert data == {"format": 1, "cache": str(cache_dir), "exists": False}
    secret = "memory://user:SECRET@host/cache?key=SECRET"
    assert run("dir", env={"TFHUB_CACHE_DIR": secret}).check().stdout == "memory://host/cache\n"


def test_resolve_and_lock_report_in_json(host: Host, cache_dir: Path, tmp_path: Path) -> None:
    handle, missing = host.publish("/m/1", pack_files(MODEL)), host.publish("/x/1", status(404))
    done = run("resolve", "--json", handle, missing)
    assert done.returncode == 1
    first, second = data_of(done)["models"]
    assert first == {"handle": handle, "path": f"{cache_dir / key_of(handle)}", "error": None}
    assert (second["handle"], second["path"]) == (missing, None)
    assert "404" in second["error"]
    assert "404" in done.stderr

    lockfile = str(tmp_path / "models.lock")
    data = data_of(run("lock", "--json", "-o", lockfile, handle))
    size = sum(map(len, MODEL.values()))
    assert (data["file"], data["size"]) == (lockfile, size)
    (locked,) = data["models"]
    assert (locked["handle"], locked["size"], len(locked["sha256"])) == (handle, size, 64)


def test_prune_reports_in_json(cache_dir: Path) -> None:
    ours(cache_dir, A, used=9 * DAY)
    ours(cache_dir, B)
    left = left_behind(cache_dir, C)
    data = data_of(run("prune", "--unused-for", "1d", "--dry-run", "--json"))
    (model,) = data["models"]
    assert (model["handle"], model["state"], model["key"]) == (A, "ok", key_of(A))
    assert (data["dry_run"], data["leftovers"]) == (True, left)
    assert (data["kept"], data["errors"]) == ([], [])
    assert data["freed"] == model["size"] + sum(left.values())
    assert data["size"] == model["size"]


def test_rm_reports_in_json(cache_dir: Path) -> None:
    ours(cache_dir, A)
    size = hub.cache.find(A).size
    done = run("rm", "--json", A, B)
    assert done.returncode == 1
    data = data_of(done)
    assert (data["dry_run"], data["freed"]) == (False, size)
    failed, removed = data["models"]
    assert failed["handle"] == B
    assert f"{B} is not in the cache" in failed["error"]
    assert (removed["handle"], removed["key"], removed["error"]) == (A, key_of(A), None)
