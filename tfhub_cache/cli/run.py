"""Run a program with this library as its tensorflow_hub.

Starts python with what follows, and with this library in place of
tensorflow_hub: wherever the program, a package that it uses, or a Python
program that it starts says `import tensorflow_hub`. Options of python may
come first, such as -u. Settings come from the environment, as `run` must be
the first word.

Examples:
    tfhub-cache run train.py --epochs 3
    tfhub-cache run -m package.train --epochs 3
    tfhub-cache run -m pytest tests
    tfhub-cache run "$(command -v some-command)" --option
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from tfhub_cache import settings
from tfhub_cache.cli import arguments, output
from tfhub_cache.stand_in import FOLDER


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    command.usage = "tfhub-cache run SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]"
    text = "the program, and its arguments"
    command.add_argument("program", metavar="PROGRAM", nargs=argparse.REMAINDER, help=text)


def run(options: arguments.Options) -> None:
    """Says how it is called; where that is right, `main` calls `start`."""
    options.command.error(
        "`run` must be the first word, and a program the next. For the program's cache set "
        "TFHUB_CACHE_DIR and TFHUB_MODEL_LOAD_FORMAT in the environment."
    )


def start(arguments: Sequence[str]) -> int:
    """Replaces this process with Python, which runs a program with the stand-in.

    The stand-in's folder is first in `PYTHONPATH`, so Python itself runs the program, and Python
    programs that it starts also find the stand-in.

    Args:
        arguments: what would follow `python` on the command line.

    Returns:
        The exit status if no program is started: 2 if Python ignores `PYTHONPATH`. On Windows,
        where a process can't be replaced, the program's exit status.
    """
    if sys.flags.ignore_environment:
        output.complain(
            "python -I and python -E ignore PYTHONPATH, which `run` needs. Leave the option out, "
            "or call tfhub_cache.install_as_tensorflow_hub() at the top of the program."
        )
        return 2
    # The options of the interpreter that runs this process, such as -u. For `-m tfhub_cache`,
    # sys.argv has one word and sys.orig_argv two.
    interpreter = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    if interpreter[-1:] == ["-m"]:
        del interpreter[-1]
    command = [sys.executable, *interpreter, *arguments]
    environment = settings.environment_with_path(FOLDER)
    if os.name != "nt":
        os.execve(sys.executable, command, environment)  # noqa: S606 - to run it is the point
    return subprocess.call(command, env=environment)  # noqa: S603
