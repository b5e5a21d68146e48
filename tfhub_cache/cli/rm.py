"""`tfhub-cache rm`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_cached, add_command, add_flags
from tfhub_cache.cli.output import name_of
from tfhub_cache.notation import format_size

if TYPE_CHECKING:
    from tfhub_cache.cache import Entry


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "rm",
        run,
        "remove models",
        "Removes models from the cache. On a terminal it asks first. A model that a process is "
        "downloading stays.",
        "tfhub-cache rm https://tfhub.dev/google/nnlm-en-dim128/2",
        "tfhub-cache rm --all --yes",
    )
    add_cached(command, "handles", "*")
    add_flags(command, all="remove everything in the cache", yes="don't ask")


def run(options: argparse.Namespace) -> int:
    """Removes models."""
    if bool(options.handles) == options.all:
        options.command.error("give handles, or --all")
    if options.all:
        entries = cache.entries()
        subjects: list[str | Entry] = [*entries]
        if not entries:
            output.line("There is nothing to remove.")
            return 0
    else:
        from tfhub_cache.cache.listing import key_for

        distinct: dict[str, str] = {}
        for handle in options.handles:
            distinct.setdefault(key_for(handle), handle)
        subjects = [_found(handle) or handle for handle in distinct.values()]
        entries = [subject for subject in subjects if isinstance(subject, cache.Entry)]
    if not options.yes and entries and not _is_agreed(options, entries):
        output.complain("nothing was removed.")
        return 1
    failed = False
    for removed in cache.remove(subjects):
        if removed.error is not None:
            failed = True
            output.complain(removed.error)
        elif removed.entry is not None:
            output.line(f"Removed {name_of(removed.entry)} ({_size(removed.entry)})")
    return int(failed)


def _found(handle: str) -> Entry | None:
    from tfhub_cache.errors import CacheError

    try:
        return cache.find(handle)
    except CacheError:
        return None  # reported when it is to be removed


def _is_agreed(options: argparse.Namespace, entries: list[Entry]) -> bool:
    """Asks on a terminal. Elsewhere handles are enough, but not `--all`."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        if options.all:
            options.command.error("--all without a terminal needs --yes")
        return True
    subjects = [f"{name_of(entry)} ({_size(entry)})" for entry in entries]
    size = format_size(sum(entry.size for entry in entries))
    what = "it" if len(entries) == 1 else f"these {len(entries)}, {size}"
    return output.ask(subjects, f"Remove {what}? [y/N]").lower() in ("y", "yes")


def _size(entry: Entry) -> str:
    return format_size(entry.size + sum(entry.leftovers.values()))
