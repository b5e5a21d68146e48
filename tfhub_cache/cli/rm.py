"""Remove models.

Removes models from the cache. On a terminal it asks first. A model that a
process is downloading stays.

Examples:
    tfhub-cache rm https://tfhub.dev/google/nnlm-en-dim128/2
    tfhub-cache rm --all --yes
"""

from __future__ import annotations

import sys

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.errors import CacheError
from tfhub_cache.notation import format_size


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_cached(command, "handles", nargs="*")
    arguments.add_flag(command, "--all", "remove everything in the cache")
    arguments.add_flag(command, "-y --yes", "don't ask")


def run(options: arguments.Options) -> arguments.Problems:
    """Removes models."""
    if bool(options.handles) == options.all:
        options.command.error("give handles, or --all")
    found = {entry.key: entry for entry in cache.entries()} if options.all else {}
    for handle in options.handles:
        try:
            entry = cache.find(handle)
            found[entry.key] = entry
        except CacheError as error:
            yield error
    entries = [*found.values()]
    names = [f"{output.name_of(entry)} ({_size(entry)})" for entry in entries]
    if options.all and not entries:
        output.line("There is nothing to remove.")
    elif entries and not options.yes and not _is_agreed(options, entries, names):
        yield "nothing was removed."
        return
    for name, removed in zip(names, cache.remove(entries), strict=True):
        if removed.error is None:
            output.line(f"Removed {name}")
        else:
            yield removed.error


def _is_agreed(options: arguments.Options, entries: list[cache.Entry], names: list[str]) -> bool:
    """Asks on a terminal. Elsewhere handles are enough, but not `--all`."""
    if sys.stdin.isatty() and sys.stderr.isatty():
        size = format_size(sum(entry.size for entry in entries))
        return output.ask(names, f"Remove {output.count(len(entries), 'model')}, {size}?")
    if options.all:
        options.command.error("--all without a terminal needs --yes")
    return True


def _size(entry: cache.Entry) -> str:
    return format_size(entry.size + sum(entry.leftovers.values()))
