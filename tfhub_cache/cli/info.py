"""`tfhub-cache info`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_cached, add_command, add_flags
from tfhub_cache.cli.output import Colored, Part, moment, name_of
from tfhub_cache.notation import format_size

if TYPE_CHECKING:
    from tfhub_cache.signatures import Tensor


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "info",
        run,
        "show what is known of a model",
        "Shows where a model is and where it came from, and its signatures: inputs and outputs "
        "with their types and shapes. TensorFlow is not needed, except for a saved_model.pbtxt.",
        "tfhub-cache info https://tfhub.dev/google/nnlm-en-dim128/2",
    )
    add_cached(command, "handle", None)
    add_flags(command, json="for programs")


def run(options: argparse.Namespace) -> int:
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
        ("state", Colored(entry.state, output.STATE_COLORS[entry.state]), flaw),
        ("path", output.path_of(entry)),
    ]
    if entry.is_there:
        rows += [
            ("size", f"{format_size(entry.size)} in {output.count(entry.files, 'file')}"),
            ("downloaded", moment(entry.downloaded)),
            ("last used", moment(entry.used)),
        ]
    if entry.received is not None:
        what_next = "" if entry.holder else ", which the next download resumes"
        rows.append(("received", output.received(entry) + what_next))
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
    # A name comes from a server, too, so the column has an end.
    width = min(24, max(len(name) for name in ["signatures", *(str(row[0]) for row in rows)]))
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


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "of any shape"
    sizes = ["?" if size < 0 else str(size) for size in tensor.shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
