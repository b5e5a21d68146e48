"""List what is in the cache.

Lists every model with its state, size, number of files, when it was
downloaded and last used, and its handle; then the total, and what is free on
the disk. Last use is recorded at most once an hour. Of a download that was
interrupted, the size is what is kept of it. Where the handle is unknown, the
name of the folder is shown. The query of a handle, which may be secret, is
not shown.

Examples:
    tfhub-cache ls
    tfhub-cache ls --sort used
    tfhub-cache ls --json | jq -r '.entries[] | select(.state == "incomplete") | .handle'
"""

from __future__ import annotations

from collections.abc import Callable

from tfhub_cache import cache, settings
from tfhub_cache.cli import arguments, output
from tfhub_cache.notation import format_size
from tfhub_cache.urls import without_secrets

_HEADINGS = ("STATE", "SIZE", "FILES", "DOWNLOADED", "LAST USED", "HANDLE")
_ORDERS: dict[str, Callable[[cache.Entry], float]] = {
    "name": lambda _: 0,  # the order that they have
    "size": lambda entry: -entry.size,
    "used": lambda entry: -entry.used.timestamp() if entry.used else 0,
}


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    text = "by name, the largest first, or the last used first (default: %(default)s)"
    command.add_argument("--sort", choices=_ORDERS, default="name", help=text)
    arguments.add_flag(command, "--json", "for programs")


def run(options: arguments.Options) -> arguments.Problems:
    """Lists the cache."""
    entries = sorted(cache.entries(), key=_ORDERS[options.sort])
    root = without_secrets(settings.cache_dir())
    models = [entry for entry in entries if entry.is_there]
    size = sum(entry.size for entry in models)
    leftovers = sum(sum(entry.leftovers.values()) for entry in entries)
    free = cache.free_space()
    if options.json:
        listed = [output.entry_json(entry) for entry in entries]
        output.write_json(cache=root, entries=listed, size=size, leftovers=leftovers, free=free)
        return ()
    if entries:
        output.table(_HEADINGS, map(_row, entries))
    there = "" if free is None else f"; {format_size(free)} are free there"
    output.remark(f"{output.count(len(models), 'model')}, {format_size(size)}, in {root}{there}.")
    if leftovers:
        output.remark(
            f"Crashed processes left {format_size(leftovers)}, which `tfhub-cache prune` removes. "
            "A download that was interrupted resumes when its model is resolved again."
        )
    return ()


def _row(entry: cache.Entry) -> tuple[str, ...]:
    # Of a download that was interrupted there is what it had received.
    is_begun = not entry.is_there and entry.holder is None
    size = sum(entry.leftovers.values()) if is_begun else entry.size
    note = _note(entry) if output.is_terminal() else ""
    return (
        entry.state,
        format_size(size) if output.is_terminal() else str(size),
        str(entry.files),
        output.moment(entry.downloaded),
        output.moment(entry.used),
        output.name_of(entry) + (f"  ({note})" if note else ""),
    )


def _note(entry: cache.Entry) -> str:
    if entry.flaw and entry.is_there:
        return entry.flaw
    if entry.state == "downloading":
        return f"by {entry.holder}"
    if entry.received is not None and not entry.is_there:
        return f"interrupted at {output.received(entry)}"
    return "no version" if entry.is_versioned is False else ""
