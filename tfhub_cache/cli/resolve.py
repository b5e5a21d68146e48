"""Download models, and print their folders.

Resolves handles as `hub.resolve` does, and prints one path a line, in the
order of the handles. What is not in the cache is downloaded, with progress
bars on a terminal. One that fails does not stop the others.

Examples:
    tfhub-cache resolve https://tfhub.dev/google/nnlm-en-dim128/2
    tfhub-cache resolve --jobs 8 -r models.txt
    tfhub-cache resolve --refresh https://tfhub.dev/google/spice
    tfhub-cache resolve --refresh 'https://tfhub.dev/google/*'
"""

from __future__ import annotations

from tfhub_cache import cache, pins, settings
from tfhub_cache.cli import arguments, output


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_wanted(command)
    text = "use only what LOCKFILE names (default: TFHUB_LOCKFILE); without a HANDLE, all of it"
    arguments.add_option(command, "--locked LOCKFILE", text, dest=settings.LOCKFILE.env)


def run(options: arguments.Options) -> arguments.Problems:
    """Prints the paths of handles."""
    locked = settings.LOCKFILE.read()[1] == "option" and settings.LOCKFILE.value()
    all_locked = locked and not options.handles and not options.files
    handles = list(pins.read(locked)) if locked and all_locked else arguments.wanted(options)
    report = output.Report(options)
    for one in cache.resolve_all(handles, jobs=options.jobs, refresh=options.refresh):
        report.add(handle=one.handle, path=one.path, error=one.error and str(one.error))
        if one.error is not None:
            yield one.error
        elif not options.json:
            output.path(str(one.path))
    report.end()
