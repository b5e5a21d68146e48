"""Write a lock file, by which models are the same everywhere.

Writes the size and the SHA-256 of each model's files into a file. What is not
in the cache is downloaded. The file is written only if all succeed. Paths are
left out.

Examples:
    tfhub-cache lock -r models.txt -o models.lock
    tfhub-cache lock 'https://tfhub.dev/google/*'
    tfhub-cache resolve --locked models.lock
"""

from __future__ import annotations

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output
from tfhub_cache.notation import format_size


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    arguments.add_wanted(command)
    text = "the file to write (default: %(default)s)"
    arguments.add_option(command, "-o LOCKFILE", text, dest="output", default="models.lock")


def run(options: arguments.Options) -> arguments.Problems:
    """Writes a lock file."""
    handles = arguments.wanted(options)
    pins = cache.lock(handles, options.output, jobs=options.jobs, refresh=options.refresh)
    size = sum(pin.size for pin in pins.values())
    if options.json:
        models = [{"handle": handle, **vars(pin)} for handle, pin in pins.items()]
        output.write_json(file=options.output, models=models, size=size)
    else:
        models_in_all = output.count(len(pins), "model")
        output.line(f"{options.output}: {models_in_all}, {format_size(size)}")
    return ()
