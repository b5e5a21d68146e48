"""`run`: run a program with tfhub_cache in place of tensorflow_hub.

This process is replaced by `python <arguments>` with the stand-in's folder first in `PYTHONPATH`.
So Python itself runs the program, and Python programs that it starts also find the stand-in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tfhub_cache import settings
from tfhub_cache.stand_in.installing import FOLDER

HELP = """\
usage: python -m tfhub_cache run script.py [argument ...]
       python -m tfhub_cache run -m module [argument ...]
       python -m tfhub_cache run -c code [argument ...]

Runs a program as python does, with tfhub_cache in place of tensorflow_hub: if the program, a
package that it uses, or a Python program that it starts imports tensorflow_hub, it gets this
library. Nothing has to be changed, and tensorflow_hub need not be installed.

examples:
  python -m tfhub_cache run train.py --epochs 3
  python -m tfhub_cache run -m package.train --epochs 3
  python -m tfhub_cache run -m pytest tests
  python -m tfhub_cache run "$(command -v some-command)" --option

What follows `run` is what would follow `python`, options of python included:
  python -m tfhub_cache run -u -W error train.py
"""


def run(arguments: Sequence[str]) -> int:
    """Replaces this process with Python, which runs a program with the stand-in.

    Args:
        arguments: what would follow `python` on the command line.

    Returns:
        The exit status if no program is started: 0 after `--help`, 2 if the arguments name no
        program or Python ignores `PYTHONPATH`. On Windows, where a process can't be replaced, the
        program's exit status.
    """
    if arguments and arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if not arguments:
        return _refuse(f"name a program.\n{HELP}")
    if sys.flags.ignore_environment:
        return _refuse(
            "python -I and python -E ignore PYTHONPATH, which `run` needs. Leave the option out, "
            "or call tfhub_cache.install_as_tensorflow_hub() at the top of the program.\n"
        )
    command = [sys.executable, *_interpreter_options(), *arguments]
    environment = settings.environment_with_path(FOLDER)
    if os.name != "nt":
        os.execve(sys.executable, command, environment)  # noqa: S606 - to run it is the point
    return subprocess.call(command, env=environment)  # noqa: S603


def _interpreter_options() -> list[str]:
    """The options of the Python interpreter that runs this process, such as `-u`."""
    options = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv)]
    # For `-m tfhub_cache`, `sys.argv` has one word and `sys.orig_argv` two.
    return options[:-1] if options[-1:] == ["-m"] else options


def _refuse(why: str) -> int:
    print(f"tfhub_cache run: {why}", end="", file=sys.stderr)
    return 2
