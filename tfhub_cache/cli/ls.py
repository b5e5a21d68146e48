"""`tfhub-cache ls`."""

from __future__ import annotations

import argparse
import datetime
from typing import TYPE_CHECKING

from tfhub_cache import cache, settings
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_command, add_flags
from tfhub_cache.cli.output import Colored, Part, moment, name_of
from tfhub_cache.notation import format_size
from tfhub_cache.urls import without_secrets

if TYPE_CHECKING:
    from tfhub_cache.cache import Entry

_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
_HEADINGS = ("STATE", "SIZE", "FILES", "DOWNLOADED", "LAST USED", "HANDLE")


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "ls",
        run,
        "list what is in the cache",
        "Lists every model with its state, size, number of files, when it was downloaded and last "
        "used, and its handle; then the total, and what is free on the disk. Last use is recorded "
        "at most once an hour. Of a download that was interrupted, the size is what is kept of it. "
        "Where the handle is unknown, the name of the folder is shown. "
        "The query of a handle, which may be secret, is not shown.",
        "tfhub-cache ls",
        "tfhub-cache ls --sort used",
        "tfhub-cache ls --json | jq -r '.entries[] | select(.state == \"incomplete\") | .handle'",
    )
    command.add_argument(
        "--sort",
        choices=("name", "size", "used"),
        default="name",
        help="by name, the largest first, or the last used first (default: %(default)s)",
    )
    add_flags(command, json="for programs")


def run(options: argparse.Namespace) -> int:
    """Lists the cache."""
    entries = cache.entries()
    if options.sort == "size":
        entries.sort(key=lambda entry: -entry.size)
    elif options.sort == "used":
        entries.sort(key=lambda entry: entry.used or _LONG_AGO, reverse=True)
    if options.json:
        output.write_json(
            {
                "format": 1,
                "cache": without_secrets(settings.cache_dir()),
                "entries": [output.entry_json(entry) for entry in entries],
                "size": sum(entry.size for entry in entries if entry.is_there),
                "leftovers": _leftovers(entries),
                "free": cache.free_space(),
            }
        )
        return 0
    if entries:
        output.table(_HEADINGS, [_row(entry) for entry in entries], right=(1, 2))
    _summarize(entries)
    return 0


def _row(entry: Entry) -> tuple[tuple[Part, ...], ...]:
    note = ""
    if output.is_terminal():
        if entry.flaw and entry.is_there:
            note = f"  ({entry.flaw})"
        elif entry.state == "downloading":
            note = f"  (by {entry.holder})"
        elif entry.received is not None and not entry.is_there:
            note = f"  (interrupted at {output.received(entry)})"
        elif entry.is_versioned is False:
            note = "  (no version)"
    # Of a download that was interrupted there is what it had received.
    is_begun = not entry.is_there and entry.holder is None
    taken = sum(entry.leftovers.values()) if is_begun else entry.size
    size = format_size(taken) if output.is_terminal() else str(taken)
    return (
        (Colored(entry.state, output.STATE_COLORS[entry.state]),),
        (size,),
        (str(entry.files),),
        (moment(entry.downloaded),),
        (moment(entry.used),),
        (name_of(entry), Colored(note, "dim")) if note else (name_of(entry),),
    )


def _summarize(entries: list[Entry]) -> None:
    models = [entry for entry in entries if entry.is_there]
    root = without_secrets(settings.cache_dir())
    free = cache.free_space()
    size = format_size(sum(entry.size for entry in models))
    text = f"{output.count(len(models), 'model')}, {size}, in {root}"
    if free is not None:
        text += f"; {format_size(free)} are free there"
    output.remark(f"{text}.")
    left = _leftovers(entries)
    if any(entry.leftovers for entry in entries):
        text = f"Crashed processes left {format_size(left)} behind: `tfhub-cache prune` removes it"
        if any(entry.received is not None and not entry.holder for entry in entries):
            text += ", and resolving a model again resumes its download"
        output.remark(f"{text}.")


def _leftovers(entries: list[Entry]) -> int:
    return sum(sum(entry.leftovers.values()) for entry in entries)
