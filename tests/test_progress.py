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

ARCHIVE = pack_files(fake_model(size=6_000_000))
RESOLVE = "import sys, tfhub_cache; print(tfhub_cache.resolve(sys.argv[1]))"
pty = pytest.importorskip("pty", reason="terminals are imitated on Unix only")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


@pytest.fixture(autouse=True)
def _cache(cache_dir) -> None:
    pass


def on_a_terminal(
    code: str, *arguments: str, columns: int = 100, env: Mapping[str, str] | None = None
) -> str:
    """What a program writes to the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", **(env or {})},
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


def slow(host: Host, path: str = "/slow/1") -> str:
    """A handle that takes some two seconds, over one connection."""
    return host.publish(path, archive(ARCHIVE, rate=len(ARCHIVE) / 2, etag=False))


def test_a_long_download_draws_a_bar_on_a_terminal(host: Host) -> None:
    handle = slow(host)
    shown = on_a_terminal(RESOLVE, handle)
    assert f"Downloading {handle}" in shown
    assert re.search(r"\d%.*\|.*5\.\d+M/5\.\d+M.*\d\d:\d\d left, .*B/s", shown)
    assert "100%" in shown


LONG = (
    "/google/universal-sentence-encoder/4",
    "/models/google/universal-sentence-encoder/tensorFlow2/multilingual-large/2",
)
ENDS = "…/universal-sentence-encoder/4:", "…/multilingual-large/2:"


def frames(shown: str) -> list[str]:
    """What stands on a line at one moment or another."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown)
    return [frame for frame in re.split("[\r\n]+", plain) if frame.strip()]


@pytest.mark.parametrize("paths", [LONG[:1], LONG[1:], LONG], ids=["long", "kaggle", "two"])
def test_bar_percent_rate_and_time_left_fit_into_80_columns(
    host: Host, paths: tuple[str, ...]
) -> None:
    rate = len(ARCHIVE) / 2
    handles = [host.publish(path, archive(ARCHIVE, rate=rate, etag=False)) for path in paths]
    code = "import sys, tfhub_cache as hub; list(hub.cache.resolve_all(sys.argv[1:]))"
    shown = on_a_terminal(code, *handles, columns=80)
    found = frames(shown)
    assert max(map(len, found)) <= 80
    for path, end in zip(LONG, ENDS, strict=True):
        of_it = [frame for frame in found if end in frame]
        assert bool(of_it) is (path in paths), found
        for frame in of_it:
            assert re.search(r"\d%\|.{5,}\| +[\d.]+M/5\.\d+M \[(\d+:\d\d|\?) left, .*B/s\]", frame)


def test_a_name_is_shown_where_the_terminal_has_no_such_letters(host: Host) -> None:
    handle = slow(host, "/größe/" + "x" * 80)
    shown = on_a_terminal(RESOLVE, handle, columns=80, env={"PYTHONIOENCODING": "ascii"})
    assert re.search(r"\?x{20,}: +\d+%\|", shown)


def test_a_short_download_draws_nothing(host: Host) -> None:
    assert on_a_terminal(RESOLVE, host.publish("/quick/1", archive(ARCHIVE))) == ""


def test_zero_silences_the_bar(host: Host) -> None:
    assert on_a_terminal(RESOLVE, slow(host), env={"TFHUB_DOWNLOAD_PROGRESS": "0"}) == ""


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


NOTEBOOK = """
import sys, types
class Shell:
    config = {"IPKernelApp": {}}
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=Shell)
sys.modules["ipykernel.zmqshell"] = sys
"""
"""What a program finds in its process where it runs in a notebook."""


def test_a_notebook_without_widgets_gets_a_bar_and_no_warning(host: Host, run_python) -> None:
    handle = slow(host, LONG[1])
    done = run_python(NOTEBOOK + RESOLVE, args=[handle], env={"PYTHONWARNINGS": "error"}).check()
    assert "Warning" not in done.stderr
    assert "100%" in done.stderr
    assert max(map(len, frames(done.stderr))) <= 80


def test_a_program_without_a_console_draws_nothing(host: Host, run_python) -> None:
    code = f"import sys; sys.stderr = None; {RESOLVE}; print(sys.modules.get('tqdm'))"
    assert run_python(code, args=[slow(host)]).check().stdout.endswith("\nNone\n")
