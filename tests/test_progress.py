"""What people see while they wait."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest
from models import fake_model, pack_files
from servers import Host, archive, stall

from tfhub_cache.fetching.progress import Progress

ARCHIVE = pack_files(fake_model(size=6_000_000))
RESOLVE = "import sys, tfhub_cache; print(tfhub_cache.resolve(sys.argv[1]))"
pty = pytest.importorskip("pty", reason="terminals are imitated on Unix only")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


@pytest.fixture(autouse=True)
def _cache(cache_dir) -> None:
    pass


def on_a_terminal(handle: str, env: Mapping[str, str]) -> str:
    """What a process that resolves a handle writes to the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", RESOLVE, handle],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **env},
    ) as child:
        os.close(theirs)
        shown = b""
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:  # how Linux says that no process has the other end open
                break
            if not more:
                break
            shown += more
        assert child.wait(30) == 0
    os.close(ours)
    return shown.decode()


def slow(host: Host) -> str:
    """A handle that takes some two seconds, over one connection."""
    return host.publish("/slow/1", archive(ARCHIVE, rate=len(ARCHIVE) / 2, etag=False))


def test_a_long_download_draws_a_bar_on_a_terminal(host: Host) -> None:
    handle = slow(host)
    shown = on_a_terminal(handle, {})
    assert f"Downloading {handle}" in shown
    assert re.search(r"\d%.*\|.*5\.\d+M/5\.\d+M.*\d\d:\d\d<\d\d:\d\d.*B/s", shown)
    assert "100%" in shown


def test_a_short_download_draws_nothing(host: Host) -> None:
    assert on_a_terminal(host.publish("/quick/1", archive(ARCHIVE)), {}) == ""


def test_zero_silences_the_bar(host: Host) -> None:
    assert on_a_terminal(slow(host), {"TFHUB_DOWNLOAD_PROGRESS": "0"}) == ""


def test_nothing_is_drawn_into_a_pipe(host: Host, run_python) -> None:
    assert run_python(RESOLVE, args=[slow(host)]).check().stderr == ""


def test_one_forces_the_bar_into_a_pipe(host: Host, run_python) -> None:
    handle = slow(host)
    shown = run_python(RESOLVE, args=[handle], env={"TFHUB_DOWNLOAD_PROGRESS": "1"}).check()
    assert f"Downloading {handle}" in shown.stderr
    assert "100%" in shown.stderr


def test_whoever_waits_sees_how_far_the_other_process_is(host: Host) -> None:
    half, release = len(ARCHIVE) // 2, threading.Event()
    handle = host.publish("/m/1", stall(ARCHIVE, half, release))
    command = [sys.executable, "-c", RESOLVE, handle]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        host.wait_for_requests(1)
        env = {**os.environ, "TFHUB_DOWNLOAD_PROGRESS": "1"}
        waiting = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        with waiting:
            assert waiting.stderr is not None
            shown = b""
            while not re.search(rb"[1-9]\d%", shown):
                more = os.read(waiting.stderr.fileno(), 4096)
                assert more, shown
                shown += more
            assert f"Waiting for {handle}" in shown.decode()
            release.set()
            assert waiting.wait(30) == 0
        assert first.wait(30) == 0
    assert len(host.requests) == 1


def test_a_terminal_that_goes_away_does_not_stop_the_download(host: Host) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", RESOLVE, slow(host)]
    env = {**os.environ, "TFHUB_DOWNLOAD_PROGRESS": "1"}
    child = subprocess.run(command, stdout=subprocess.PIPE, stderr=writing, env=env, check=False)
    os.close(writing)
    assert os.path.isdir(child.stdout.decode().strip())


def test_a_notebook_is_a_place_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shell:
        config = {"IPKernelApp": {}}  # noqa: RUF012

    class IPython:
        get_ipython = staticmethod(lambda: Shell())

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    assert Progress("Downloading", show=None)._draws


def test_a_program_without_a_console_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert not Progress("Downloading", show=None)._draws
