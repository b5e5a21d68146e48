"""`tfhub-cache resolve`."""

from __future__ import annotations

import argparse

from tfhub_cache import cache, pins, settings
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


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "resolve",
        run,
        "download models, and print their folders",
        "Resolves handles as `hub.resolve` does, and prints one path a line, in the order of the "
        "handles. What is not in the cache is downloaded, with progress bars on a terminal. One "
        "that fails does not stop the others.",
        "tfhub-cache resolve https://tfhub.dev/google/nnlm-en-dim128/2",
        "tfhub-cache resolve --jobs 8 -r models.txt",
        "tfhub-cache resolve --refresh https://tfhub.dev/google/spice",
    )
    add_wanted(command, "what `hub.resolve` takes")
    add_jobs(command, "how many handles are resolved at a time")
    add_flags(
        command,
        refresh="download again what is in the cache, and replace it when the new one is complete. "
        "For handles without a version, which mean the latest",
        quiet="no progress on stderr",
    )
    command.add_argument(
        "--locked",
        metavar="LOCKFILE",
        type=value(not_empty),
        help="use only what LOCKFILE names (default: TFHUB_LOCKFILE). Without any HANDLE, those in "
        "it are resolved",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the paths of handles."""
    locked = settings.LOCKFILE.value() if options.locked else None
    if locked and not options.handles and not options.files:
        handles = list(pins.read(locked))
    else:
        handles = wanted(options)
    failed = False
    with output.progress(quiet=options.quiet):
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
