"""Running a fuzz target: seeds that are made at each start, and limits that suit it."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris


def fuzz(test_one_input: Callable[[bytes], None], seeds: Iterable[bytes], **limits: int) -> None:
    """Fuzzes as the command line says, which has libFuzzer's options and folders or files.

    Args:
        test_one_input: the target.
        seeds: inputs to begin with.
        limits: libFuzzer's options, unless the command line has others.
    """
    arguments = sys.argv[1:]
    options = [argument for argument in arguments if argument.startswith("-")]
    places = [argument for argument in arguments if not argument.startswith("-")]
    again = bool(places) and all(os.path.isfile(place) for place in places)
    with tempfile.TemporaryDirectory() as folder:
        if not again:
            for number, seed in enumerate(seeds):
                Path(folder, f"seed-{number:03}").write_bytes(seed)
            for name, value in limits.items():
                if not any(option.startswith(f"-{name}=") for option in options):
                    options.append(f"-{name}={value}")
            places.append(folder)
        atheris.Setup([sys.argv[0], *options, *places], test_one_input)
        atheris.Fuzz()
