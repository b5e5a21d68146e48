"""What a test has around it, which is the same from wherever the tests are started.

A background job of a script ignores Ctrl-C, a shell may forbid others to read what it makes, and
environments hold settings of any program. All of that is inherited, by the programs that tests
start, too. A test that needs something of it sets it itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

KEPT = re.compile(
    # Where programs and libraries are.
    "PATH|PATHEXT|LD_LIBRARY_PATH|DYLD_.*|SYSTEMROOT|WINDIR|COMSPEC|PYENV_.*"
    "|PYTHONPATH|PYTHONHOME|PYTHONPYCACHEPREFIX|PYTHONFAULTHANDLER|CUDA_VISIBLE_DEVICES"
    # Where there is room.
    "|TMPDIR|TEMP|TMP"
    # What tests are run with.
    "|PYTEST_.*|COVERAGE_.*|HYPOTHESIS_.*|NO_GCE_CHECK|TF_CPP_MIN_LOG_LEVEL"
)
"""The variables that tests inherit. Without the others, there are no settings and no logins."""
_LEFT = {
    getattr(signal, name)
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ", "SIGHUP")
    if hasattr(signal, name)
}
"""Signals that Python ignores, and the one that nohup does."""
_LEAST_FILES = 4096
"""How many files a process may have open, where it is allowed."""


def settle_process() -> None:
    """Takes back what a process has inherited, but for its environment."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _LEFT:
            is_ctrl_c = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_ctrl_c else signal.SIG_DFL)
    os.umask(0o022)
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _lift_limits()


def _lift_limits() -> None:
    import resource

    for limit in resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE:
        _, most = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, most))
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = _LEAST_FILES if most == unlimited else min(_LEAST_FILES, most)
    if now not in (unlimited, wanted) and now < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS counts differently
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def settle_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Leaves what is needed, and an empty home folder: there is no ~/.netrc."""
    for name in list(os.environ):
        if not KEPT.fullmatch(name.upper()):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    if hasattr(time, "tzset"):
        time.tzset()
