"""Show what is known of a model.

Shows where a model is and where it came from, and its signatures: inputs and
outputs with their types and shapes. TensorFlow is not needed, except for a
saved_model.pbtxt.

    tfhub-cache info https://tfhub.dev/google/nnlm-en-dim128/2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Options, Parser, add_cached, add_flag
from tfhub_cache.cli.output import Colored, Part, moment
from tfhub_cache.notation import format_size


def add_arguments(command: Parser) -> None:
    """Adds the arguments."""
    add_cached(command, "handle")
    add_flag(command, "--json", "for programs")


def run(options: Options) -> int:
    """Shows one model."""
    known = cache.info(options.handle)
    entry, signatures = known.entry, known.signatures
    if options.json:
        output.write_json(
            **output.entry_json(entry),
            manifest=entry.manifest and dataclasses.asdict(entry.manifest),
            sha256=entry.manifest and entry.manifest.digest,
            signatures=signatures and [dataclasses.asdict(signature) for signature in signatures],
            signatures_error=known.signatures_error,
        )
        return 0
    rows = [*_rows(entry)]
    if signatures is None:
        rows.append(("signatures", [f"unknown: {known.signatures_error or ''}"]))
    elif not signatures:
        rows.append(("signatures", ["none"]))
    # A name comes from a server, too, so the column has an end.
    width = min(24, max(len("signatures"), *(len(name) for name, _ in rows)))
    for name, value in rows:
        output.line(f"{name:{width}}  ", *value)
    for signature in signatures or []:
        tags = ", ".join(signature.tags) or "no tags"
        output.line()
        output.line("signature ", Colored(signature.name, "bold"), f" ({tags})")
        for kind, tensors in ("in ", signature.inputs), ("out", signature.outputs):
            for tensor in tensors:
                output.line(f"  {kind}  {tensor.name}: {tensor.dtype} {_shape(tensor.shape)}")
    return 0


def _rows(entry: cache.Entry) -> Iterator[tuple[str, list[Part]]]:
    manifest = entry.manifest
    flaw = f": {entry.flaw}" if entry.flaw else ""
    if not entry.is_there and entry.received is not None:
        flaw = "" if entry.holder else ": its download was interrupted"
    version = " (no version)" if entry.is_versioned is False else ""
    yield "handle", [output.name_of(entry) + version]
    yield "state", [output.state(entry), flaw]
    yield "path", [output.path_of(entry)]
    if entry.is_there:
        yield "size", [f"{format_size(entry.size)} in {output.count(entry.files, 'file')}"]
        yield "downloaded", [moment(entry.downloaded)]
        yield "last used", [moment(entry.used)]
    if entry.received is not None:
        what_next = "" if entry.holder else ", which the next download resumes"
        yield "received", [output.received(entry) + what_next]
    if entry.holder:
        yield "in use by", [entry.holder]
    if manifest:
        made = manifest.downloaded
        yield "downloaded by", [f"{made.library} on {made.host}, process {made.pid}"]
        yield "from", [manifest.url]
        yield "archive", [format_size(manifest.archive_size)]
        yield "sha256", [manifest.digest]
        for name, value in manifest.validators.items():
            yield name, [value]


def _shape(sizes: Sequence[int] | None) -> str:
    if sizes is None:
        return "of any shape"
    shown = ", ".join("?" if size < 0 else str(size) for size in sizes)
    return f"({shown}{',' if len(sizes) == 1 else ''})"
