"""The tests pass from wherever they are started: a script's background, a cron job, a pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SENSITIVE = (
    "test_cli.py::test_ctrl_c_stops_all_downloads_in_one_line_and_leaves_the_cache_clean",
    "test_cli.py::test_ls_shows_states_sizes_times_and_handles",
    "test_cli_terminal.py::test_ctrl_c_at_the_question_removes_nothing",
    "test_cli_terminal.py::test_ls_shows_a_table_with_headings_and_colours",
)
ODD = {
    "LC_ALL": "tr_TR.UTF-8",
    "TZ": "Pacific/Kiritimati",
    "COLUMNS": "20",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "CI": "1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "TFHUB_OFFLINE": "1",
    "PYTHONIOENCODING": "ascii",
}


def hostile() -> None:
    """What a program inherits from the process that starts it, at its worst."""
    import resource

    for number in signal.SIGINT, signal.SIGTERM, signal.SIGCHLD:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    os.umask(0o077)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, most))


@pytest.mark.once
@pytest.mark.skipif(os.name != "posix", reason="there are no such signals, and no terminal")
@pytest.mark.parametrize("is_bare", [False, True], ids=["odd", "bare"])
def test_the_tests_pass_from_wherever_they_are_started(tmp_path: Path, is_bare: bool) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-n", "0"),
            f"--basetemp={tmp_path / 'inner'}",
            *(str(HERE / test) for test in SENSITIVE),
        ],
        cwd=HERE.parent,
        env={"PATH": os.environ["PATH"]} if is_bare else {**os.environ, **ODD},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        preexec_fn=hostile,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SENSITIVE)} passed" in done.stdout
