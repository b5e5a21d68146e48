"""The command on a terminal: tables, colours, questions, progress bars.

Where only the text counts, it runs in the process of the test, and what it takes for a terminal is
a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import run_command
from entries import DAY, HOUR, SHARD, foreign, key_of, left_behind, ours
from models import fake_model, pack_files
from servers import Host, archive, delayed, stall
from waiting import SOON

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")

A, B, C = (f"https://example.com/{name}/1" for name in "abc")


class Terminal:
    """A terminal in which the command runs."""

    def __init__(self, *arguments: str, columns: int, env: dict[str, str]) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.text = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfhub_cache", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **env},
            start_new_session=True,
        )
        os.close(theirs)

    def wait_for(self, text: str) -> None:
        """Reads until a text has been written."""
        deadline = time.monotonic() + SOON
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def interrupt(self) -> None:
        """Presses Ctrl-C until it ends: one that comes just before a read in C begins is lost."""
        for _ in range(4):
            os.kill(self.process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(SOON / 4)
                return

    def end(self) -> int:
        """Reads to the end, and returns the exit status."""
        while self._read():
            pass
        return self.process.wait(SOON)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], SOON)[0]:
            return False
        with contextlib.suppress(OSError):  # EIO: no process has the other end open
            data = os.read(self._ours, 1 << 16)
            self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
            return bool(data)
        return False


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, columns: int = 300, **env: str) -> Terminal:
        opened.append(Terminal(*arguments, columns=columns, env=env))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


def test_ls_shows_a_table_with_headings_and_colours(
    terminal: Callable[..., Terminal], cache_dir: Path
) -> None:
    ours(cache_dir, A, used=3 * DAY)
    foreign(cache_dir, "https://example.com/größe/犬", used=2.1 * HOUR)
    (ours(cache_dir, C) / SHARD).unlink()
    shown = terminal("ls")
    assert shown.end() == 0
    assert "\x1b[32mok\x1b[0m" in shown.text
    assert "\x1b[31mincomplete\x1b[0m" in shown.text
    lines = re.sub(r"\x1b\[\d+m", "", shown.text).splitlines()
    assert lines[0].split() == ["STATE", "SIZE", "FILES", "DOWNLOADED", "LAST", "USED", "HANDLE"]
    assert len(lines) == 5
    begins = lines[0].index("HANDLE")
    assert [line[begins:].split("  ")[0] for line in lines[1:4]] == [
        A,
        C,
        "https://example.com/größe/犬",
    ]
    assert "3 days ago" in lines[1]
    assert f"({cache_dir / key_of(C)}/{SHARD} is missing)" in lines[2]
    assert "2 h ago" in lines[3]
    assert lines[3].endswith("(no version)")
    assert lines[4].startswith("3 models, ")


LONG = "https://www.kaggle.com/models/google/universal-sentence-encoder/tensorFlow2/large/2"


def test_the_rows_of_ls_fit_into_80_columns_and_end_as_the_handles_do(
    terminal: Callable[..., Terminal], cache_dir: Path
) -> None:
    ours(cache_dir, LONG, used=328 * DAY)
    foreign(cache_dir, LONG.removesuffix("/2"))
    (ours(cache_dir, LONG.removesuffix("2") + "3") / SHARD).unlink()
    ours(cache_dir, A)
    shown = terminal("ls", columns=80)
    assert shown.end() == 0
    head, *lines, _ = re.sub(r"\x1b\[\d+m", "", shown.text).splitlines()
    assert head.split() == ["STATE", "SIZE", "LAST", "USED", "HANDLE"]
    assert max(map(len, lines)) <= 80
    names = [line[head.index("HANDLE") :] for line in lines]
    assert names[0] == A
    assert re.fullmatch(r"https://\S+…\S+/large  \(no version\)", names[1])
    assert re.fullmatch(r"https://\S+…\S+/large/2", names[2])
    assert re.fullmatch(r"https://\S+…\S*/3  \(.*….* is missing\)", names[3])
    piped = run_command("ls").check().stdout
    assert LONG in piped
    assert "…" not in piped


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_there_are_no_colours_where_they_are_not_wanted(
    cache_dir: Path, env: dict[str, str]
) -> None:
    ours(cache_dir, A)
    assert "\x1b[32mok" in run_command("ls", env={"TERM": "xterm"}, is_terminal=True).stdout
    shown = run_command("ls", env={"TERM": "xterm", **env}, is_terminal=True).check().stdout
    assert "\x1b" not in shown
    assert "HANDLE" in shown


def test_rm_asks_before_it_removes(terminal: Callable[..., Terminal], cache_dir: Path) -> None:
    ours(cache_dir, A)
    ours(cache_dir, B)
    shown = terminal("rm", A, B)
    shown.wait_for("Remove 2 models, 20 kB? [y/N] ")
    assert A in shown.text
    assert (cache_dir / key_of(A)).exists()
    shown.type("y\n")
    assert shown.end() == 0
    assert not (cache_dir / key_of(A)).exists()


@pytest.mark.parametrize(
    ("answer", "removed"),
    [("Y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("", False)],
)
def test_rm_removes_only_after_a_yes(cache_dir: Path, answer: str, removed: bool) -> None:
    ours(cache_dir, A)
    done = run_command("rm", A, is_terminal=True, stdin=answer)
    assert done.returncode == (0 if removed else 1)
    assert (cache_dir / key_of(A)).exists() is not removed
    assert ("nothing was removed" in done.stderr) is not removed


def test_ctrl_c_at_the_question_removes_nothing(
    terminal: Callable[..., Terminal], cache_dir: Path
) -> None:
    ours(cache_dir, A)
    shown = terminal("rm", "--all")
    shown.wait_for("Remove 1 model, 9.9 kB? [y/N] ")
    shown.interrupt()
    assert shown.end() == 130
    assert "interrupted." in shown.text
    assert (cache_dir / key_of(A)).exists()


def test_rm_does_not_ask_with_yes(cache_dir: Path) -> None:
    ours(cache_dir, A)
    done = run_command("rm", "--all", "--yes", is_terminal=True).check()
    assert "[y/N]" not in done.stderr
    assert not (cache_dir / key_of(A)).exists()


def test_many_models_are_named_in_part_before_the_question(cache_dir: Path) -> None:
    for number in range(12):
        ours(cache_dir, f"https://example.com/{number}/1")
    done = run_command("rm", "https://*", is_terminal=True, stdin="no\n")
    *named, question = done.stderr.splitlines()
    assert len(named) == 11
    assert named[-1] == "  and 2 more"
    assert question.startswith("Remove 12 models, 119 kB? [y/N] ")
    assert len(list(cache_dir.iterdir())) == 36


@pytest.mark.parametrize(("answer", "left"), [("y\n", {B}), ("n\n", {A, B}), ("", {A, B})])
def test_prune_asks_before_it_removes_models(cache_dir: Path, answer: str, left: set[str]) -> None:
    ours(cache_dir, A, used=9 * DAY)
    ours(cache_dir, B, used=1 * DAY)
    done = run_command("prune", "--unused-for", "2d", is_terminal=True, stdin=answer)
    assert f"  {A} (9.9 kB, used 9 days ago)\nRemove 1 model, 9.9 kB? [y/N] " in done.stderr
    assert ("nothing was removed." in done.stderr) is (A in left)
    assert done.returncode == (1 if A in left else 0)
    assert {handle for handle in (A, B) if (cache_dir / key_of(handle)).exists()} == left


def test_prune_does_not_ask_with_yes_or_where_no_model_goes(cache_dir: Path) -> None:
    ours(cache_dir, A)
    left_behind(cache_dir, B)
    for arguments in ["prune"], ["prune", "--max-size", "0", "--dry-run"]:
        assert "[y/N]" not in run_command(*arguments, is_terminal=True).check().stderr
        assert (cache_dir / key_of(A)).exists()
    done = run_command("prune", "--max-size", "0", "--yes", is_terminal=True).check()
    assert "[y/N]" not in done.stderr
    assert list(cache_dir.iterdir()) == []


@pytest.mark.parametrize("command", [["rm", "*"], ["prune", "--max-size", "0"]])
def test_more_than_50_removals_show_progress(
    terminal: Callable[..., Terminal], cache_dir: Path, command: list[str]
) -> None:
    for number in range(51):
        ours(cache_dir, f"https://example.com/{number}/1", {"saved_model.pb": b"x"})
    shown = terminal(*command, "--yes", columns=80)
    assert shown.end() == 0
    assert re.search(r"Removing models: 100%\|█+\| 51/51 \[00:00 left, .* models/s\]", shown.text)
    assert shown.text.count("Removed https://") == 51


def test_verify_shows_progress_of_large_models_only(
    terminal: Callable[..., Terminal], cache_dir: Path
) -> None:
    ours(cache_dir, A)
    shown = terminal("verify", columns=80)
    assert shown.end() == 0
    assert shown.text == "1 intact.\n"
    ours(cache_dir, B, {"saved_model.pb": b"", "large": bytes(100_000_001)})
    shown = terminal("verify", columns=80)
    assert shown.end() == 0
    assert re.search(r"Verifying models: 100%\|█+\| 95.4M/95.4M \[00:00 left, .*B/s\]", shown.text)
    assert "2 intact." in shown.text
    quiet = terminal("verify", "-q", columns=80)
    assert quiet.end() == 0
    assert quiet.text == ""


def test_many_downloads_show_how_many_are_done(
    terminal: Callable[..., Terminal], cache_dir: Path, tmp_path: Path
) -> None:
    shown = terminal("resolve", "--refresh", *[str(tmp_path)] * 51, columns=80)
    assert shown.end() == 0
    assert re.search(r"Resolving: 100%\|█+\| 51/51 \[", shown.text)


def test_resolve_shows_a_bar_for_each_download(
    terminal: Callable[..., Terminal], cache_dir: Path, host: Host
) -> None:
    release = threading.Event()
    packed = pack_files(fake_model(size=1_000_000))
    handles = [host.publish(f"/m/{n}", stall(packed, 500_000, release)) for n in (1, 2)]
    shown = terminal("resolve", *handles)
    host.wait_for_requests(2)
    for handle in handles:
        shown.wait_for(f"{handle}:")
    release.set()
    assert shown.end() == 0
    for handle in handles:
        assert str(cache_dir / key_of(handle)) in shown.text


@pytest.mark.parametrize("command", ["resolve", "lock"])
def test_quiet_draws_no_bar_however_long_it_takes(
    terminal: Callable[..., Terminal], cache_dir: Path, host: Host, tmp_path: Path, command: str
) -> None:
    packed = pack_files(fake_model(size=1_000_000))

    def begun(name: str, *options: str, **env: str) -> Terminal:
        handle = host.publish(f"/{name}/1", delayed(1.5, archive(packed)))
        if command == "lock":
            options += ("-o", str(tmp_path / f"{name}.lock"))
        return terminal(command, *options, handle, **env)

    quiet = begun("quiet", "-q")
    # Whatever the environment says: an option comes before it.
    wished = begun("wished", "-q", TFHUB_DOWNLOAD_PROGRESS="1")
    forbidden = begun("forbidden", TFHUB_DOWNLOAD_PROGRESS="no")
    drawn = begun("drawn")
    assert [one.end() for one in (quiet, wished, forbidden, drawn)] == [0, 0, 0, 0]
    assert len(quiet.text.splitlines()) == 1
    assert not [one.text for one in (quiet, wished, forbidden) if "\r" in one.text]
    assert f"{host.url}/drawn/1:" in drawn.text
