"""`tfhub-cache lock`."""

from __future__ import annotations

import argparse

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.resolve import handles_of, progress_shown
from tfhub_cache.units import format_size


def lock(options: argparse.Namespace) -> int:
    """Writes a lock file."""
    handles = handles_of(options)
    with progress_shown(options):
        pins = cache.lock(handles, options.output, jobs=options.jobs, refresh=options.refresh)
    size = format_size(sum(pin.size for pin in pins.values()))
    number = "1 model" if len(pins) == 1 else f"{len(pins)} models"
    output.line(f"{options.output}: {number}, {size}")
    return 0
