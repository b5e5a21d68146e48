"""`run`, if it is not the first word; otherwise it is none of the command line's business."""

from __future__ import annotations

import argparse

from tfhub_cache.cli import output


def run(options: argparse.Namespace) -> int:
    """Says where options for the program's cache belong."""
    output.complain(
        "`run` must be the first word, as in `tfhub-cache run train.py`. For the program's cache "
        "set TFHUB_CACHE_DIR and TFHUB_MODEL_LOAD_FORMAT in the environment."
    )
    return 2
