"""Run a program with this library as its tensorflow_hub.

Starts python with what follows, and with this library in place of tensorflow_hub: wherever the
program, a package that it uses, or a Python program that it starts says `import tensorflow_hub`.
Settings come from the environment, as `run` must be the first word.

    tfhub-cache run train.py --epochs 3
    tfhub-cache run -m package.train --epochs 3
    tfhub-cache run -c 'import tensorflow_hub as hub; print(hub)'
"""

from __future__ import annotations

import argparse

from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Options, Parser


def add_arguments(command: Parser) -> None:
    """Adds the arguments."""
    command.usage = "tfhub-cache run SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]"
    text = "the program, and its arguments"
    command.add_argument("program", metavar="PROGRAM", nargs=argparse.REMAINDER, help=text)


def run(options: Options) -> int:
    """Says where options for the program's cache belong; `main` runs it if it is the first word."""
    output.complain(
        "`run` must be the first word, as in `tfhub-cache run train.py`. For the program's cache "
        "set TFHUB_CACHE_DIR and TFHUB_MODEL_LOAD_FORMAT in the environment."
    )
    return 2
