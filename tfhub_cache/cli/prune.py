"""Make room.

Removes what crashed processes left behind, and then the least recently used
models, until both limits hold. A model that a process is downloading stays.
Sizes are bytes, or numbers with a unit: kB, MB, GB, TB are powers of 1000,
KiB, MiB, GiB, TiB are powers of 1024. Ages are seconds, or numbers with s,
min, h, d or w. On a terminal it asks before it removes models.

Examples:
    tfhub-cache prune
    tfhub-cache prune --max-size 20GB
    tfhub-cache prune --unused-for 30d --keep 'https://tfhub.dev/google/*' --dry-run
"""

from __future__ import annotations

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.notation import format_size, parse_duration, parse_size


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    size = "how large the models may be together, such as 20GB or 500MiB"
    arguments.add_option(command, "--max-size SIZE", size, parse_size)
    age = "remove what was not used for so long, such as 30d or 12h"
    arguments.add_option(command, "--unused-for AGE", age, parse_duration)
    text = "models that stay: a handle, a part of one or a pattern; may be repeated"
    arguments.add_option(command, "--keep MODEL", text, action="append", default=[])
    arguments.add_removal(command)


def run(options: arguments.Options) -> arguments.Problems:
    """Makes room."""
    pruned = cache.prune(
        options.max_size,
        options.unused_for,
        keep=options.keep,
        dry_run=options.dry_run,
        confirm=lambda plan: output.confirm(plan.removed, options),
    )
    report = output.Report(options)
    verb, done = ("Would remove", "Would free") if options.dry_run else ("Removed", "Freed")
    for name, size in sorted(pruned.leftovers.items()):
        report.note(f"{verb} what a crashed process left: {name} ({format_size(size)})")
    for entry in pruned.removed:
        report.add_removed(verb, entry)
    for entry in pruned.kept:
        output.complain(f"{entry.name} stays, as it is in use.")
    yield from pruned.errors
    freed, left = format_size(pruned.freed), format_size(pruned.size)
    report.end(
        f"{done} {freed}; the models that stay have {left}."
        if cache.exists()
        else output.no_models(),
        dry_run=options.dry_run,
        leftovers=pruned.leftovers,
        kept=[output.entry_json(entry) for entry in pruned.kept],
        errors=list(map(str, pruned.errors)),
        freed=pruned.freed,
        size=pruned.size,
    )
