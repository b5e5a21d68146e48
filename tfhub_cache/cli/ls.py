"""List what is in the cache.

Lists every model, or those that are named, with its state, size, number of
files, when it was downloaded and last used, and its handle; then the total,
and what is free on the disk. Last use is recorded at most once an hour. Of a
download that was interrupted, the size is what is kept of it. Where the handle
is unknown, the name of the folder is shown. The query of a handle, which may be
secret, is not shown.

Examples:
    tfhub-cache ls
    tfhub-cache ls spice 'https://tfhub.dev/google/*'
    tfhub-cache ls --sort size --limit 10
    tfhub-cache ls --sort used:asc -q | head -3 | xargs tfhub-cache rm
    tfhub-cache ls --json | jq -r '.entries[] | select(.state == "incomplete") | .handle'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.notation import format_size, parse_count

ALIASES = ("list",)
_HEADINGS = ("STATE", "SIZE", "FILES", "DOWNLOADED", "LAST USED", "HANDLE")
_ORDERS: dict[str, tuple[Callable[[cache.Entry], Any], str]] = {
    "name": (lambda entry: (entry.handle is None, entry.handle or entry.key), "asc"),
    "size": (lambda entry: entry.size, "desc"),
    "used": (lambda entry: entry.used.timestamp() if entry.used else 0, "desc"),
}


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_models(command, "models", nargs="*")
    text = (
        "name, size (the largest first) or used (the last used first), also with a direction, "
        "such as size:asc (default: name)"
    )
    orders = [name + direction for name in _ORDERS for direction in ("", ":asc", ":desc")]
    command.add_argument("--sort", metavar="ORDER", choices=orders, default="name", help=text)
    arguments.add_option(command, "--limit N", "list the first N only", parse_count)
    text = "only the handles, a line each; where one is unknown or secret, the folder's name"
    arguments.add_report(command, text)


def run(options: arguments.Options) -> arguments.Problems:
    """Lists the cache."""
    order, _, direction = options.sort.partition(":")
    key, usual = _ORDERS[order]
    is_descending = (direction or usual) == "desc"
    entries = sorted(cache.entries(options.models or None), key=key, reverse=is_descending)
    listed = entries[: options.limit]
    models = [entry for entry in entries if entry.is_there]
    size = sum(entry.size for entry in models)
    leftovers = sum(sum(entry.leftovers.values()) for entry in entries)
    free = cache.free_space()
    report = output.Report(options, key="entries")
    for entry in listed:
        report.add(word=output.word_of(entry), **output.entry_json(entry))
    if not (options.json or options.quiet):
        if listed:
            output.table(_HEADINGS, map(_row, listed), spare=("FILES", "DOWNLOADED"))
        if len(listed) < len(entries):
            more = output.count(len(entries) - len(listed), "more model")
            output.remark(f"Not listed: {more}.")
        there = "" if free is None else f"; {format_size(free)} are free there"
        total = f"{output.count(len(models), 'model')}, {format_size(size)}, in {output.root()}"
        output.remark(f"{total}{there}." if entries else output.no_models())
        if leftovers:
            output.remark(
                f"Crashed processes left {format_size(leftovers)}, which `tfhub-cache prune` "
                "removes. A download that was interrupted resumes when its model is resolved again."
            )
    root, exists = output.root(), cache.exists()
    report.end(cache=root, exists=exists, size=size, leftovers=leftovers, free=free)
    return ()


def _row(entry: cache.Entry) -> tuple[str, ...]:
    # Of a download that was interrupted there is what it had received.
    is_begun = not entry.is_there and entry.holder is None
    size = sum(entry.leftovers.values()) if is_begun else entry.size
    return (
        entry.state,
        format_size(size) if output.is_terminal() else str(size),
        str(entry.files),
        output.moment(entry.downloaded),
        output.moment(entry.used),
        entry.name,
        _note(entry),
    )


def _note(entry: cache.Entry) -> str:
    if entry.flaw and entry.is_there:
        return entry.flaw
    if entry.state == "downloading":
        return f"by {entry.holder}"
    if entry.received is not None and not entry.is_there:
        return f"interrupted at {output.received(entry)}"
    return "no version" if entry.is_versioned is False else ""
