"""`tfhub-cache lock`."""

from __future__ import annotations

import argparse

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import (
    Commands,
    add_command,
    add_flags,
    add_jobs,
    add_wanted,
    not_empty,
    value,
    wanted,
)
from tfhub_cache.notation import format_size


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "lock",
        run,
        "write a lock file, by which models are the same everywhere",
        "Writes the size and the SHA-256 of each model's files into a file. What is not in the "
        "cache is downloaded. The file is written only if all succeed. Paths are left out.",
        "tfhub-cache lock -r models.txt -o models.lock",
        "tfhub-cache resolve --locked models.lock",
    )
    add_wanted(command, "an http(s) handle, or a `gs://` archive")
    command.add_argument(
        "-o",
        dest="output",
        metavar="LOCKFILE",
        type=value(not_empty),
        default="models.lock",
        help="the file to write (default: %(default)s)",
    )
    add_jobs(command, "how many models are downloaded at a time")
    add_flags(
        command,
        refresh="download again what is in the cache, for handles without a version",
        quiet="no progress on stderr",
    )


def run(options: argparse.Namespace) -> int:
    """Writes a lock file."""
    handles = wanted(options)
    with output.progress(quiet=options.quiet):
        pins = cache.lock(handles, options.output, jobs=options.jobs, refresh=options.refresh)
    size = format_size(sum(pin.size for pin in pins.values()))
    output.line(f"{options.output}: {output.count(len(pins), 'model')}, {size}")
    return 0
