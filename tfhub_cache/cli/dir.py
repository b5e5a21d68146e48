"""Print the cache folder.

Prints where models are kept, as a path or a URL, whether or not it exists yet.

Examples:
    du -sh "$(tfhub-cache dir)"
"""

from __future__ import annotations

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output

add_arguments = arguments.add_json


def run(options: arguments.Options) -> arguments.Problems:
    """Prints the folder."""
    if options.json:
        output.write_json(cache=output.root(), exists=cache.exists())
    else:
        output.path(output.root())
    return ()
