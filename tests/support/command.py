"""The command `tfhub-cache`, run in the process of the test, where only its output counts."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from absl import logging as absl_logging
from processes import Finished

from tfhub_cache.cli import main
from tfhub_cache.cli.main import build_parser

PARSER = functools.cache(build_parser)
"""Making the parser takes longer than most commands, and a process needs one."""


class Screen(io.TextIOWrapper):
    """What a process reads from or writes to: a terminal, or a pipe."""

    def __init__(self, *, is_terminal: bool, holds: str = "") -> None:
        super().__init__(tempfile.TemporaryFile(), encoding="utf-8", newline="")  # noqa: SIM115
        self._is_terminal = is_terminal
        self.write(holds)
        self.seek(0)

    def isatty(self) -> bool:
        return self._is_terminal

    def text(self) -> str:
        self.flush()
        self.buffer.seek(0)
        return self.buffer.read().decode("utf-8")


def run_command(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    is_terminal: bool = False,
) -> Finished:
    """`tfhub-cache ...`; what it sets for its process is as before when it has ended.

    Errors that would end the process with a traceback are raised.
    """
    absl, urllib3 = absl_logging.get_absl_logger(), logging.getLogger("urllib3")
    handlers = [(logger, logger.handlers[:]) for logger in (logging.getLogger(), absl)]
    verbosity, level = absl_logging.get_verbosity(), urllib3.level
    with pytest.MonkeyPatch.context() as monkeypatch, contextlib.ExitStack() as screens:
        out, err, read = (
            screens.enter_context(Screen(is_terminal=is_terminal, holds=holds))
            for holds in ("", "", stdin)
        )
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys.modules[build_parser.__module__], "build_parser", PARSER)
        for name, screen in ("stdout", out), ("stderr", err), ("stdin", read):
            monkeypatch.setattr(sys, name, screen)
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            for logger, those in handlers:
                logger.handlers[:] = those
            absl_logging.set_verbosity(verbosity)
            urllib3.setLevel(level)
        return Finished(out.text(), err.text(), status)
