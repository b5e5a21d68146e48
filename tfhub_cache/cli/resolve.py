"""`tfhub-cache resolve`."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Iterator

from absl import logging as absl_logging

from tfhub_cache import cache, pins, settings
from tfhub_cache.cli import output


def resolve(options: argparse.Namespace) -> int:
    """Prints the paths of handles."""
    locked = settings.LOCKFILE.value() if options.locked else None
    if locked and not options.handles and not options.files:
        handles = list(pins.read(locked))
    else:
        handles = handles_of(options)
    failed = False
    with progress_shown(options):
        for resolved in cache.resolve_all(handles, jobs=options.jobs, refresh=options.refresh):
            if resolved.path is not None:
                output.path(resolved.path)
                continue
            failed = True
            assert resolved.error is not None
            if options.debug or not isinstance(resolved.error, output.EXPECTED):
                raise resolved.error
            output.complain(resolved.error)
    return int(failed)


def handles_of(options: argparse.Namespace) -> list[str]:
    """The handles of a command line, and of the files that it names."""
    handles = [*options.handles]
    for file in options.files:
        handles += _read_handles(file)
    if not handles and not options.files:
        options.command.error("no handles: give some, or a file of them with -r")
    return handles


def _read_handles(file: str) -> Iterator[str]:
    if file == "-":
        text = sys.stdin.read().removeprefix("\ufeff")
    else:
        with open(file, encoding="utf-8-sig") as opened:
            try:
                text = opened.read()
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is no text in UTF-8: {error.reason}.") from error
    for line in text.split("\n"):  # handles may have what splitlines() takes for ends, too
        # A # in the middle of a word belongs to it: URLs may have one.
        handle = re.sub(r"(^|\s)#.*", "", line).strip()
        if handle:
            yield handle


@contextlib.contextmanager
def progress_shown(options: argparse.Namespace) -> Iterator[None]:
    """Draws bars on a terminal, and writes log lines elsewhere; neither with `--quiet`."""
    shown = None
    if options.quiet:
        shown = "no"
    elif not sys.stderr.isatty():
        absl_logging.set_verbosity(max(absl_logging.get_verbosity(), absl_logging.INFO))
    elif settings.DOWNLOAD_PROGRESS.value() is None:
        shown = "yes"
    with settings.overridden({settings.DOWNLOAD_PROGRESS: shown}):
        yield
