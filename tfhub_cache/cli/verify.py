"""Read models and compare their digests.

Reads every file of the models, or of all, and compares its SHA-256 with the
one that was taken when it was downloaded. Models that tensorflow_hub has
downloaded have no digests: of those it only looks whether the files that a
SavedModel needs are there. The exit status is 1 if anything differs and is
not downloaded again.

Examples:
    tfhub-cache verify
    tfhub-cache verify --fix https://tfhub.dev/google/nnlm-en-dim128/2
"""

from __future__ import annotations

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.urls import argument


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_cached(command, "handles", nargs="*")
    arguments.add_flag(command, "--fix", "download again what differs; it needs the network")
    arguments.add_jobs(command, "how many files are read at a time")


def run(options: arguments.Options) -> arguments.Problems:
    """Verifies models."""
    for verified in cache.verify(options.handles or None, fix=options.fix, jobs=options.jobs):
        if verified.entry is not None:
            yield from _shown(verified, verified.entry)
        if verified.error is not None:
            yield verified.error


def _shown(verified: cache.Verified, entry: cache.Entry) -> arguments.Problems:
    name = output.name_of(entry)
    if verified.problems:
        output.line("differs", f"  {name}")
        for problem in verified.problems:
            output.line(f"    {problem}")
        if verified.fixed:
            output.line("    It was downloaded again.")
        elif verified.error is None:
            word = (entry.handle and argument(entry.handle)) or entry.key
            yield f"{name} differs. To download it again: tfhub-cache verify --fix {word}"
    elif verified.compared:
        output.line("ok", f"  {name}")
    elif verified.error is None:
        output.line(f"not verifiable  {name}: its files are there, and have no digests")
