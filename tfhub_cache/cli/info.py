"""Show what is known of a model.

Shows where a model is and where it came from, and its signatures: inputs and
outputs with their types and shapes. TensorFlow is not needed.

Examples:
    tfhub-cache info https://tfhub.dev/google/nnlm-en-dim128/2
    tfhub-cache info nnlm
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.notation import format_size
from tfhub_cache.urls import without_secrets


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_models(command, "model")
    arguments.add_json(command)


def run(options: arguments.Options) -> arguments.Problems:
    """Shows one model."""
    known = cache.info(options.model)
    manifest = known.entry.manifest
    if options.json:
        output.write_json(
            **output.entry_json(known.entry),
            manifest=manifest,
            sha256=manifest and manifest.digest,
            signatures=known.signatures,
            signatures_error=known.signatures_error,
        )
        return ()
    for name, *parts in _rows(known):
        output.line(f"{name:13}  ", *parts)
    for signature in known.signatures or []:
        output.line()
        output.line(f"signature {signature.name} ({', '.join(signature.tags) or 'no tags'})")
        for kind, tensors in ("in ", signature.inputs), ("out", signature.outputs):
            for tensor in tensors:
                output.line(f"  {kind}  {tensor.name}: {tensor.dtype} {_shape(tensor.shape)}")
    return ()


def _rows(known: cache.Info) -> Iterator[tuple[str, ...]]:
    """Names, and the parts of what they name."""
    entry, manifest = known.entry, known.entry.manifest
    version = " (no version)" if entry.is_versioned is False else ""
    yield "handle", entry.name + version
    yield "state", entry.state, f": {entry.flaw}" if entry.flaw and entry.is_there else ""
    yield "path", without_secrets(entry.path)
    if entry.is_there:
        yield "size", f"{format_size(entry.size)} in {output.count(entry.files, 'file')}"
        yield "downloaded", output.moment(entry.downloaded)
        yield "last used", output.moment(entry.used)
    if entry.received is not None:
        what_next = "" if entry.holder else ", which the next download resumes"
        yield "received", output.received(entry) + what_next
    if entry.holder:
        yield "in use by", entry.holder
    if manifest:
        made = manifest.downloaded
        yield "downloaded by", f"{made.library} on {made.host}, process {made.pid}"
        yield "from", manifest.url
        yield "archive", format_size(manifest.archive_size)
        yield "sha256", manifest.digest
        yield from manifest.validators.items()
    if known.signatures_error:
        yield "signatures", f"unknown: {known.signatures_error}"
    elif not known.signatures:
        yield "signatures", "none"


def _shape(sizes: Sequence[int] | None) -> str:
    if sizes is None:
        return "of any shape"
    shown = ", ".join("?" if size < 0 else str(size) for size in sizes)
    return f"({shown}{',' if len(sizes) == 1 else ''})"
