"""`tfhub-cache prune`."""

from __future__ import annotations

import argparse

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_command, add_flags, value
from tfhub_cache.cli.output import moment, name_of
from tfhub_cache.notation import format_size, parse_duration, parse_size


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "prune",
        run,
        "make room",
        "Removes what crashed processes left behind, and then the least recently used models, "
        "until both limits hold. A model that a process is downloading stays. Sizes are "
        "bytes, or numbers with a unit: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB are "
        "powers of 1024. Ages are seconds, or numbers with s, min, h, d or w.",
        "tfhub-cache prune",
        "tfhub-cache prune --max-size 20GB",
        "tfhub-cache prune --unused-for 30d --dry-run",
    )
    command.add_argument(
        "--max-size",
        metavar="SIZE",
        type=value(parse_size),
        help="how large the models may be together, such as 20GB or 500MiB",
    )
    command.add_argument(
        "--unused-for",
        metavar="AGE",
        type=value(parse_duration),
        help="remove what was not used for so long, such as 30d or 12h",
    )
    add_flags(command, dry_run="only show what would be removed")


def run(options: argparse.Namespace) -> int:
    """Makes room."""
    pruned = cache.prune(options.max_size, options.unused_for, dry_run=options.dry_run)
    verb = "Would remove" if options.dry_run else "Removed"
    for name, size in sorted(pruned.leftovers.items()):
        output.line(f"{verb} what a crashed process left: {name} ({format_size(size)})")
    for entry in pruned.removed:
        output.line(
            f"{verb} {name_of(entry)} ({format_size(entry.size)}, used {moment(entry.used)})"
        )
    for entry in pruned.kept:
        output.complain(f"{name_of(entry)} stays, as it is in use.")
    for error in pruned.errors:
        output.complain(error)
    done = "Would free" if options.dry_run else "Freed"
    output.line(
        f"{done} {format_size(pruned.freed)}; the models that stay have {format_size(pruned.size)}."
    )
    return int(bool(pruned.errors))
