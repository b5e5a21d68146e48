"""`tfhub-cache verify`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_cached, add_command, add_flags, add_jobs
from tfhub_cache.cli.output import Colored, name_of

if TYPE_CHECKING:
    from tfhub_cache.cache import Verified


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "verify",
        run,
        "read models and compare their digests",
        "Reads every file of the models, or of all, and compares its SHA-256 with the one that was "
        "taken when it was downloaded. Models that tensorflow_hub has downloaded have no digests: "
        "of those it only looks whether the files that a SavedModel needs are there. The exit "
        "status is 1 if anything differs and is not downloaded again.",
        "tfhub-cache verify",
        "tfhub-cache verify --fix https://tfhub.dev/google/nnlm-en-dim128/2",
    )
    add_cached(command, "handles", "*")
    add_flags(command, fix="download again what differs; it needs the network")
    add_jobs(command, "how many files are read at a time")


def run(options: argparse.Namespace) -> int:
    """Verifies models."""
    sound = True
    for verified in cache.verify(options.handles or None, fix=options.fix, jobs=options.jobs):
        sound &= verified.is_sound
        _show(verified)
    return int(not sound)


def _show(verified: Verified) -> None:
    entry = verified.entry
    name = verified.handle if entry is None else name_of(entry)
    if verified.error is not None and not verified.problems:
        output.complain(verified.error)
    elif entry is not None and verified.problems:
        output.line(Colored("differs", "red"), f"  {name}")
        for problem in verified.problems:
            output.line(f"    {problem}")
        if verified.fixed:
            output.line("    It was downloaded again.")
        elif verified.error is not None:
            output.complain(verified.error)
        else:
            output.line(
                f"    To download it again: tfhub-cache verify --fix {output.argument_of(entry)}"
            )
    elif verified.compared:
        output.line(Colored("ok", "green"), f"  {name}")
    else:
        output.line(
            Colored("not verifiable", "cyan"),
            f"  {name}: there are no digests, as tensorflow_hub downloaded it. The files that a "
            "SavedModel needs are there",
        )
