"""List what is in the cache.

Lists every model with its state, size, number of files, when it was
downloaded and last used, and its handle; then the total, and what is free on
the disk. Last use is recorded at most once an hour. Of a download that was
interrupted, the size is what is kept of it. Where the handle is unknown, the
name of the folder is shown. The query of a handle, which may be secret, is
not shown.

    tfhub-cache ls
    tfhub-cache ls --sort used
    tfhub-cache ls --json | jq -r '.entries[] | select(.state == "incomplete") | .handle'
"""

from __future__ import annotations

import datetime

from tfhub_cache import cache, settings
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Options, Parser, add_flag
from tfhub_cache.cli.output import Colored, Part, moment, name_of
from tfhub_cache.notation import format_size
from tfhub_cache.urls import without_secrets

_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
_HEADINGS = ("STATE", "SIZE", "FILES", "DOWNLOADED", "LAST USED", "HANDLE")


def add_arguments(command: Parser) -> None:
    """Adds the arguments."""
    command.add_argument(
        "--sort",
        choices=("name", "size", "used"),
        default="name",
        help="by name, the largest first, or the last used first (default: %(default)s)",
    )
    add_flag(command, "--json", "for programs")


def run(options: Options) -> int:
    """Lists the cache."""
    entries = cache.entries()
    if options.sort == "size":
        entries.sort(key=lambda entry: -entry.size)
    elif options.sort == "used":
        entries.sort(key=lambda entry: entry.used or _LONG_AGO, reverse=True)
    root = without_secrets(settings.cache_dir())
    models = [entry for entry in entries if entry.is_there]
    size = sum(entry.size for entry in models)
    leftovers = sum(sum(entry.leftovers.values()) for entry in entries)
    free = cache.free_space()
    if options.json:
        listed = [output.entry_json(entry) for entry in entries]
        output.write_json(cache=root, entries=listed, size=size, leftovers=leftovers, free=free)
        return 0
    if entries:
        output.table(_HEADINGS, [_row(entry) for entry in entries], right=(1, 2))
    there = "" if free is None else f"; {format_size(free)} are free there"
    output.remark(f"{output.count(len(models), 'model')}, {format_size(size)}, in {root}{there}.")
    if any(entry.leftovers for entry in entries):
        text = f"Crashed processes left {format_size(leftovers)}, which `tfhub-cache prune` removes"
        if any(entry.received is not None and not entry.holder for entry in entries):
            text += ", and resolving a model again resumes its download"
        output.remark(f"{text}.")
    return 0


def _row(entry: cache.Entry) -> list[tuple[Part, ...]]:
    # Of a download that was interrupted there is what it had received.
    is_begun = not entry.is_there and entry.holder is None
    size = sum(entry.leftovers.values()) if is_begun else entry.size
    note = _note(entry) if output.is_terminal() else ""
    return [
        (output.state(entry),),
        (format_size(size) if output.is_terminal() else str(size),),
        (str(entry.files),),
        (moment(entry.downloaded),),
        (moment(entry.used),),
        (name_of(entry), Colored(f"  ({note})", "dim")) if note else (name_of(entry),),
    ]


def _note(entry: cache.Entry) -> str:
    if entry.flaw and entry.is_there:
        return entry.flaw
    if entry.state == "downloading":
        return f"by {entry.holder}"
    if entry.received is not None and not entry.is_there:
        return f"interrupted at {output.received(entry)}"
    return "no version" if entry.is_versioned is False else ""
