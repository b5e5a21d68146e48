"""Remove models.

Removes models from the cache. On a terminal it asks first. A model that a
process is downloading stays.

    tfhub-cache rm https://tfhub.dev/google/nnlm-en-dim128/2
    tfhub-cache rm --all --yes
"""

from __future__ import annotations

import sys

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Options, Parser, add_cached, add_flag
from tfhub_cache.cli.output import name_of
from tfhub_cache.errors import CacheError
from tfhub_cache.notation import format_size


def add_arguments(command: Parser) -> None:
    """Adds the arguments."""
    add_cached(command, "handles", nargs="*")
    add_flag(command, "--all", "remove everything in the cache")
    add_flag(command, "-y --yes", "don't ask")


def run(options: Options) -> int:
    """Removes models."""
    if bool(options.handles) == options.all:
        options.command.error("give handles, or --all")
    failed = False
    if options.all:
        entries = cache.entries()
        if not entries:
            output.line("There is nothing to remove.")
    else:
        found: dict[str, cache.Entry] = {}
        for handle in options.handles:
            try:
                entry = cache.find(handle)
            except CacheError as error:
                failed = True
                output.complain(error)
            else:
                found.setdefault(entry.key, entry)
        entries = [*found.values()]
    if entries and not options.yes and not _is_agreed(options, entries):
        output.complain("nothing was removed.")
        return 1
    for removed in cache.remove(entries):
        if removed.error is not None:
            failed = True
            output.complain(removed.error)
        elif removed.entry is not None:
            output.line(f"Removed {name_of(removed.entry)} ({_size(removed.entry)})")
    return int(failed)


def _is_agreed(options: Options, entries: list[cache.Entry]) -> bool:
    """Asks on a terminal. Elsewhere handles are enough, but not `--all`."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if options.all:
            options.command.error("--all without a terminal needs --yes")
        return True
    subjects = [f"{name_of(entry)} ({_size(entry)})" for entry in entries]
    size = format_size(sum(entry.size for entry in entries))
    what = "it" if len(entries) == 1 else f"these {len(entries)}, {size}"
    return output.ask(subjects, f"Remove {what}? [y/N]").lower() in ("y", "yes")


def _size(entry: cache.Entry) -> str:
    return format_size(entry.size + sum(entry.leftovers.values()))
