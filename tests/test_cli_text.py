"""What the commands print of what comes from outside: letters only, on the line that is its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run_command
from entries import ours
from hypothesis import example, given, settings
from hypothesis import strategies as st
from models import fake_model, write_files
from processes import Finished

import tfhub_cache as hub
from tfhub_cache.errors import ResolveError
from tfhub_cache.manifest import File, Manifest, Origin
from tfhub_cache.urls import argument, key_of, printable, redact

MODEL = fake_model(size=100)
PLAIN = "x"
EVIL = (
    "\nok  https://example.com/",
    "\x1b]0;title\x07\x1b[2J",
    ";touch${IFS}X;`id`$(id)'\"",
    "a\rb\x85c\u2028d\u2029e\x0b\x0c\x1cf\x9b31m",
    "\u202e\u2066\u200e\u061c\ufeff\x7f",
    "\udc80\ud800",
    "  -x\t*?#~ \\n",
)
ANY = st.text(st.characters(exclude_categories=()), max_size=20) | st.text(
    st.sampled_from("".join(EVIL)), max_size=10
)
PROPERTY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
COMMANDS = (
    *(["ls"], ["ls", "--sort", "size"], ["info", "HANDLE"], ["info", "KEY"], ["verify"]),
    *(["verify", "HANDLE"], ["verify", "--fix", "HANDLE"], ["prune", "--dry-run"], ["prune"]),
    *(["resolve", "HANDLE"], ["resolve", "OTHER"], ["info", "OTHER"], ["rm", "--yes", "OTHER"]),
    *(["verify", "OTHER"], ["lock", "-o", "LOCKFILE", "OTHER"], ["rm", "--yes", "HANDLE"]),
)


@contextlib.contextmanager
def cache_of(text: str) -> Iterator[dict[str, str]]:
    """A cache in which a text stands wherever others can put one, and words for commands."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TFHUB_CACHE_DIR", folder)
        monkeypatch.setenv("TFHUB_OFFLINE", "1")
        handle = f"https://example.com/{text}/1"
        plant(Path(folder), handle, text)
        yield {
            "HANDLE": handle,
            "KEY": key_of(handle),
            "OTHER": f"https://example.com/other/{text}/1",
            "LOCKFILE": os.path.join(folder, "models.lock"),
        }


def file_name(text: str) -> str:
    """What of a text a file system takes."""
    return "".join(
        letter
        for letter in text
        if letter not in "/\0" and not (is_surrogate(letter) and not "\udc80" <= letter <= "\udcff")
    )


def is_surrogate(letter: str) -> bool:
    return "\ud800" <= letter <= "\udfff"


def plant(cache: Path, handle: str, text: str) -> None:
    name = file_name(text)
    entry = write_files({**MODEL, f"extra-{name}": b"?"}, cache / key_of(handle))
    missing = {**MODEL, f"missing-{name}": b"?"}
    manifest = Manifest(
        handle=handle,
        url=handle,
        archive_size=123,
        files=tuple(
            File(path, len(content), hashlib.sha256(content).hexdigest())
            for path, content in missing.items()
        ),
        downloaded=Origin("2026-01-02T03:04:05+00:00", f"host{text}", 4711, f"library{text}"),
        validators={f"validator{text}": text},
    )
    Path(f"{entry}.manifest.json").write_text(manifest.to_json())
    (cache / f"{entry.name}.{name}.tmp").write_bytes(b"left behind")
    other = cache / key_of(f"{handle}/busy")
    lock = f"elsewhere{text}.1.cache-0123".encode("utf-8", "replace")
    (cache / f"{other.name}.lock").write_bytes(lock)


def words(command: list[str], words: dict[str, str]) -> list[str]:
    return [words.get(word, word) for word in command]


def is_seen(letter: str) -> bool:
    """Whether a letter is one, and neither ends a line nor steers a terminal."""
    return unicodedata.category(letter)[0] != "C" and unicodedata.category(letter) not in (
        "Zl",
        "Zp",
    )


def lines(done: Finished) -> tuple[int, int, int]:
    """How it ended, and how many lines a person sees."""
    return done.returncode, len(done.stdout.splitlines()), len(done.stderr.splitlines())


def outcomes(text: str, *, is_terminal: bool) -> list[Finished]:
    done = []
    with cache_of(text) as known:
        for command in COMMANDS:
            done.append(run_command(*words(command, known), is_terminal=is_terminal))
    return done


@pytest.mark.parametrize("is_terminal", [False, True], ids=["pipe", "terminal"])
def test_no_text_makes_a_line_or_steers_a_terminal(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    plain = outcomes(PLAIN, is_terminal=is_terminal)

    @PROPERTY
    @given(ANY)
    def holds(text: str) -> None:
        for command, expected, found in zip(
            COMMANDS, plain, outcomes(text, is_terminal=is_terminal), strict=True
        ):
            shown = found.stdout + found.stderr
            assert not [letter for letter in shown if not (is_seen(letter) or letter in "\n\t")]
            assert lines(found) == lines(expected), (command, expected, found)

    for text in EVIL:
        holds = example(text)(holds)
    holds()


SUGGESTED = re.compile(
    r"`(tfhub-cache resolve .+?)` fetches|: (tfhub-cache (?:resolve|verify --fix) .+)$"
)


@PROPERTY
@given(ANY)
@example("\n")
@example(EVIL[2])
@example("a b")
@example("m?token=SECRET")
def test_a_suggested_command_means_the_handle_whatever_it_holds(text: str) -> None:
    with cache_of(text) as known:
        seen = 0
        meant = {
            "verify HANDLE": {known["HANDLE"].strip(), known["KEY"]},
            "verify OTHER": {known["OTHER"].strip()},
            "info OTHER": {known["OTHER"].strip()},
            "resolve OTHER": {known["OTHER"].strip()},
        }
        for command, right in meant.items():
            done = run_command(*words(command.split(), known))
            for line in (done.stdout + done.stderr).split("\n"):
                for match in SUGGESTED.finditer(line):
                    word = shlex.split(match[1] or match[2])[-1]
                    if word == "HANDLE":  # in place of one that can't be typed
                        assert not argument(known["OTHER"])
                    else:
                        assert word in right, (command, line)
                        seen += 1
        # Where a handle can't be typed, there is its key, or no command.
        assert seen == (len(meant) if argument(known["HANDLE"]) else 1)


@PROPERTY
@given(ANY)
@example(EVIL[0])
@example(EVIL[5])
def test_json_holds_every_text_as_it_is(text: str) -> None:
    with cache_of(text) as known:
        listed = json.loads(run_command("ls", "--json").stdout)["entries"]
        assert known["HANDLE"] in {entry["handle"] for entry in listed}
        shown = json.loads(run_command("info", "--json", known["KEY"]).stdout)
        assert shown["handle"] == known["HANDLE"]
        assert shown["manifest"]["downloaded"]["host"] == f"host{text}"
        assert shown["manifest"]["validators"] == {f"validator{text}": text}


@PROPERTY
@given(ANY)
@example(EVIL[0])
def test_errors_name_a_handle_on_one_line(text: str) -> None:
    with cache_of(text) as known:
        for handle in known["OTHER"], f"{tempfile.gettempdir()}/no/such/{text}", f"hdfs://h/{text}":
            with pytest.raises((ResolveError, RuntimeError)) as error:
                hub.resolve(handle)
            assert all(map(is_seen, str(error.value))), error.value


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_printable_stays_so(text: str) -> None:
    shown = printable(text)
    assert all(map(is_seen, shown))
    assert printable(shown) == shown
    assert (shown == text) == text.isprintable()
    assert redact(text) == printable(redact(text))


def test_a_path_is_written_to_a_program_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a\u202e b\x1b\n"
    folder.mkdir()
    assert run_command("resolve", str(folder)).stdout == f"{folder}\n"
    # With colors, the rest of a line is erased if an earlier test has imported tqdm.
    shown = run_command("resolve", str(folder), is_terminal=True, env={"NO_COLOR": "1"}).stdout
    assert shown == f"{tmp_path}/a\\u202e b\\x1b\\n\n"
    shutil.rmtree(folder)


def test_a_word_that_is_refused_moves_no_terminal() -> None:
    shown = run_command("ls", "\x1b[2J\nfalse line").stderr
    assert "\x1b" not in shown
    assert "\nfalse line" not in shown


def test_a_validator_with_a_long_name_widens_no_column(cache_dir: Path) -> None:
    entry = ours(cache_dir, "https://example.com/wide/1")
    file = Path(f"{entry}.manifest.json")
    manifest = json.loads(file.read_text())
    manifest["validators"] = {"x" * 60_000: "1", **{str(number): "1" for number in range(200)}}
    file.write_text(json.dumps(manifest))
    assert len(run_command("info", "https://example.com/wide/1").check().stdout) < 100_000
