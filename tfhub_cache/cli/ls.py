"""`tfhub-cache ls`, `info` and `env`: what is there."""

from __future__ import annotations

import argparse
import dataclasses
import datetime

from tfhub_cache import cache, settings
from tfhub_cache.cache import Entry
from tfhub_cache.cli import output
from tfhub_cache.cli.output import Colored, Part, moment, name_of
from tfhub_cache.signatures import Tensor
from tfhub_cache.units import format_size
from tfhub_cache.urls import without_secrets

_STATE_COLORS = {"ok": "green", "foreign": "cyan", "downloading": "yellow", "incomplete": "red"}
_LONG_AGO = datetime.datetime.fromtimestamp(0, datetime.timezone.utc)
_HEADINGS = ("STATE", "SIZE", "FILES", "DOWNLOADED", "LAST USED", "HANDLE")


def ls(options: argparse.Namespace) -> int:
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


def info(options: argparse.Namespace) -> int:
    """Shows one model."""
    known = cache.info(options.handle)
    entry = known.entry
    manifest = entry.manifest
    if options.json:
        output.write_json(
            {
                "format": 1,
                **output.entry_json(entry),
                "manifest": manifest and dataclasses.asdict(manifest),
                "sha256": manifest and manifest.digest,
                "signatures": known.signatures
                and [dataclasses.asdict(signature) for signature in known.signatures],
                "signatures_error": known.signatures_error,
            }
        )
        return 0
    flaw = f": {entry.flaw}" if entry.flaw else ""
    if not entry.is_there and entry.received is not None:
        flaw = "" if entry.holder else ": its download was interrupted"
    rows: list[tuple[Part, ...]] = [
        ("handle", name_of(entry) + (" (no version)" if entry.is_versioned is False else "")),
        ("state", Colored(entry.state, _STATE_COLORS[entry.state]), flaw),
        ("path", output.path_of(entry)),
    ]
    if entry.is_there:
        rows += [
            ("size", f"{format_size(entry.size)} in {_count(entry.files, 'file')}"),
            ("downloaded", moment(entry.downloaded)),
            ("last used", moment(entry.used)),
        ]
    if entry.received is not None:
        what_next = "" if entry.holder else ", with which the next download goes on"
        rows.append(("received", _received(entry) + what_next))
    if entry.holder:
        rows.append(("in use by", entry.holder))
    if manifest:
        made = manifest.downloaded
        rows += [
            ("downloaded by", f"{made.library} on {made.host}, process {made.pid}"),
            ("from", manifest.url),
            ("archive", format_size(manifest.archive_size)),
            ("sha256", manifest.digest),
            *manifest.validators.items(),
        ]
    width = max(len(name) for name in ["signatures", *(str(row[0]) for row in rows)])
    for name, *value in rows:
        output.line(f"{name!s:{width}}  ", *value)
    if known.signatures is None:
        output.line(f"{'signatures':{width}}  unknown: {known.signatures_error or ''}")
    elif not known.signatures:
        output.line(f"{'signatures':{width}}  none")
    for signature in known.signatures or []:
        tags = ", ".join(signature.tags) or "no tags"
        output.line()
        output.line("signature ", Colored(signature.name, "bold"), f" ({tags})")
        for kind, tensors in ("in ", signature.inputs), ("out", signature.outputs):
            for tensor in tensors:
                output.line(f"  {kind}  {tensor.name}: {tensor.dtype} {_shape(tensor)}")
    return 0


def env(options: argparse.Namespace) -> int:
    """Shows versions and settings."""
    environment = cache.environment()
    if options.json:
        output.write_json({"format": 1, **dataclasses.asdict(environment)})
        return 0
    width = max(len(setting.name) for setting in environment.settings)
    for name, version in environment.versions.items():
        output.line(f"{name:{width}}  {version or '(not installed)'}")
    output.line()
    for setting in environment.settings:
        value = setting.value or "(not set)"
        source = "" if setting.source == "default" else f"  [{setting.source}]"
        if setting.source == "default" and setting.value:
            source = "  [default]"
        output.line(f"{setting.name:{width}}  {value}{source}")
    output.line(f"{'cache':{width}}  {environment.cache}")
    for problem in environment.problems:
        output.complain(problem)
    return int(bool(environment.problems))


def _row(entry: Entry) -> tuple[tuple[Part, ...], ...]:
    note = ""
    if output.is_terminal():
        if entry.flaw and entry.is_there:
            note = f"  ({entry.flaw})"
        elif entry.state == "downloading":
            note = f"  (by {entry.holder})"
        elif entry.received is not None and not entry.is_there:
            note = f"  (interrupted at {_received(entry)})"
        elif entry.is_versioned is False:
            note = "  (no version)"
    # Of a download that was interrupted there is what it had received.
    is_begun = not entry.is_there and entry.holder is None
    taken = sum(entry.leftovers.values()) if is_begun else entry.size
    size = format_size(taken) if output.is_terminal() else str(taken)
    return (
        (Colored(entry.state, _STATE_COLORS[entry.state]),),
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
    text = f"{_count(len(models), 'model')}, {format_size(sum(e.size for e in models))}, in {root}"
    if free is not None:
        text += f"; {format_size(free)} are free there"
    output.remark(f"{text}.")
    left = _leftovers(entries)
    if any(entry.leftovers for entry in entries):
        text = f"Dead processes left {format_size(left)} behind: `tfhub-cache prune` removes it"
        if any(entry.received is not None and not entry.holder for entry in entries):
            text += ", and resolving a model again goes on with what was received of it"
        output.remark(f"{text}.")


def _leftovers(entries: list[Entry]) -> int:
    return sum(sum(entry.leftovers.values()) for entry in entries)


def _received(entry: Entry) -> str:
    """How far a download is, or was when it was interrupted."""
    return f"{format_size(entry.received or 0)} of {format_size(entry.expected or 0)}"


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "of any shape"
    sizes = ["?" if size < 0 else str(size) for size in tensor.shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
