# PYTHON_ARGCOMPLETE_OK
"""The command `tfhub-cache`: what `tfhub_cache.cache` can do, from a shell.

Here is what all commands share: settings from options, exit statuses, interruptions. Each command
is a thin layer over a public function.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from absl import logging as absl_logging

from tfhub_cache import settings
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import build_parser

FAILED = 1
INTERRUPTED = 130
PIPE_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: those of the command line; None: the process's own.

    Returns:
        The exit status: 0; 1 if something failed, which stderr tells; 130 after Ctrl-C, and 141
        if nobody reads the output any more, as shells have it.

    Raises:
        SystemExit: with 2 if the arguments make no sense, and with 0 after `--help`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["run"]:
        from tfhub_cache.stand_in import running

        return running.run(arguments[1:])
    parser = build_parser()
    if settings.is_completing():
        import argcomplete  # an extra, and only the shell's completion calls for it

        argcomplete.autocomplete(parser)
    output.set_up()
    options = parser.parse_args(arguments)
    try:
        status = _run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Or Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except KeyboardInterrupt:
        output.complain("interrupted.")
        return INTERRUPTED
    except output.EXPECTED as error:
        if options.debug:
            raise
        output.complain(error)
        return FAILED


def _run(options: argparse.Namespace) -> int:
    told = options.verbose or options.debug
    absl_logging.set_verbosity(absl_logging.INFO if told else absl_logging.WARNING)
    if not told:
        # That it tries again is said in words for those who know its classes.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    given = {
        settings.CACHE_DIR: options.cache_dir,
        settings.LOAD_FORMAT: options.load_format,
        settings.LOCKFILE: getattr(options, "locked", None),
    }
    with settings.overridden(given):
        status: int = options.run(options)
    return status
