"""Remove models.

Removes models from the cache. On a terminal it asks first. A part of a handle
must mean one model; a pattern may mean several. A model that a process is
downloading stays.

Examples:
    tfhub-cache rm https://tfhub.dev/google/nnlm-en-dim128/2
    tfhub-cache rm nnlm
    tfhub-cache rm 'https://tfhub.dev/google/*' --dry-run
    tfhub-cache rm --all --yes
"""

from __future__ import annotations

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.notation import format_size

ALIASES = ("remove",)


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_models(command, "models", nargs="*")
    arguments.add_flag(command, "--all", "remove everything in the cache")
    arguments.add_removal(command)


def run(options: arguments.Options) -> arguments.Problems:
    """Removes models."""
    if bool(options.models) == options.all:
        options.command.error("name models, or give --all")
    if options.all and not (options.yes or options.dry_run or output.can_ask()):
        options.command.error("--all without a terminal needs --yes")
    named = cache.entries() if options.all else options.models
    plan = cache.remove(named, dry_run=True)
    if not options.dry_run:
        going = [one.entry for one in plan if one.entry and not one.error]
        output.confirm(going, options)
        plan = [one for one in plan if one.error] + cache.remove(going)
    report = output.Report(options)
    verb = "Would remove" if options.dry_run else "Removed"
    gone = []
    for one in plan:
        if one.error is None and one.entry is not None:
            gone.append(one.entry)
            report.add_removed(verb, one.entry)
        else:
            data = output.entry_json(one.entry) if one.entry else {"handle": one.handle}
            report.add(**data, error=str(one.error))
            yield one.error
    freed = sum(map(output.size_of, gone))
    summary = f"{verb} {output.count(len(gone), 'model')}, {format_size(freed)}."
    if len(gone) < 2:
        summary = "" if named else output.no_models()
    report.end(summary, dry_run=options.dry_run, freed=freed)
