"""`tfhub-cache verify`, `rm` and `prune`: looking after what is there."""

from __future__ import annotations

import argparse
import sys

from tfhub_cache import cache
from tfhub_cache.cache import Entry, Verified
from tfhub_cache.cache.listing import key_for
from tfhub_cache.cli import output
from tfhub_cache.cli.output import Colored, moment, name_of
from tfhub_cache.units import format_size


def verify(options: argparse.Namespace) -> int:
    """Verifies models."""
    sound = True
    for verified in cache.verify(options.handles or None, fix=options.fix, jobs=options.jobs):
        sound &= verified.is_sound
        _tell(verified)
    return int(not sound)


def rm(options: argparse.Namespace) -> int:
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
        distinct: dict[str, str] = {}
        for handle in options.handles:
            distinct.setdefault(key_for(handle), handle)
        subjects = [_found(handle) or handle for handle in distinct.values()]
        entries = [subject for subject in subjects if isinstance(subject, Entry)]
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


def prune(options: argparse.Namespace) -> int:
    """Makes room."""
    pruned = cache.prune(options.max_size, options.unused_for, dry_run=options.dry_run)
    verb = "Would remove" if options.dry_run else "Removed"
    for name, size in sorted(pruned.leftovers.items()):
        output.line(f"{verb} what a dead process left: {name} ({format_size(size)})")
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


def _tell(verified: Verified) -> None:
    entry = verified.entry
    name = verified.handle if entry is None else name_of(entry)
    if verified.error is not None and not verified.problems:
        output.complain(verified.error)
    elif entry is not None and verified.problems:
        output.line(Colored("differs", "red"), f"  {name}")
        for problem in verified.problems:
            output.line(f"    {problem}")
        if verified.fixed:
            output.line("    It was fetched again.")
        elif verified.error is not None:
            output.complain(verified.error)
        else:
            output.line(
                f"    To fetch it again: tfhub-cache verify --fix {output.argument_of(entry)}"
            )
    elif verified.compared:
        output.line(Colored("ok", "green"), f"  {name}")
    else:
        output.line(
            Colored("not verifiable", "cyan"),
            f"  {name}: there are no digests, as tensorflow_hub downloaded it. The files that a "
            "SavedModel needs are there",
        )


def _found(handle: str) -> Entry | None:
    from tfhub_cache.errors import CacheError

    try:
        return cache.find(handle)
    except CacheError:
        return None  # told when it is to be removed


def _is_agreed(options: argparse.Namespace, entries: list[Entry]) -> bool:
    """Asks on a terminal. Where nobody can be asked, handles are enough, but not `--all`."""
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
