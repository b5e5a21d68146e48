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
from entries import DAY, HOUR, SHARD, foreign, key_of, ours
from models import fake_model, pack_files
from servers import Host, archive, delayed, stall

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")

A, B, C = (f"https://example.com/{name}/1" for name in "abc")
SOON = 20.0


class Terminal:
    """A terminal in which the command runs."""

    def __init__(self, *arguments: str, env: dict[str, str]) -> None:
        import fcntl
        import pty
        import struct
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
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

    def open_terminal(*arguments: str, **env: str) -> Terminal:
        opened.append(Terminal(*arguments, env=env))
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
