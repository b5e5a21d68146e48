"""`tfhub-cache run`, which `main` starts at once if it is the first word."""

from __future__ import annotations

import argparse

from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "run",
        run,
        "run a program with this library as its tensorflow_hub",
        "Starts python with what follows, and with this library in place of tensorflow_hub: "
        "wherever the program, a package that it uses, or a Python program that it starts says "
        "`import tensorflow_hub`. Settings come from the environment, as `run` must be the first "
        "word.",
        "tfhub-cache run train.py --epochs 3",
        "tfhub-cache run -m package.train --epochs 3",
        "tfhub-cache run -c 'import tensorflow_hub as hub; print(hub)'",
    )
    command.usage = "tfhub-cache run SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]"
    command.add_argument(
        "program",
        metavar="PROGRAM",
        nargs=argparse.REMAINDER,
        help="the program, and its arguments",
    )


def run(options: argparse.Namespace) -> int:
    """Says where options for the program's cache belong."""
    output.complain(
        "`run` must be the first word, as in `tfhub-cache run train.py`. For the program's cache "
        "set TFHUB_CACHE_DIR and TFHUB_MODEL_LOAD_FORMAT in the environment."
    )
    return 2
