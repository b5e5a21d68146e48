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
from tfhub_cache.cli.parser import build_parser
from tfhub_cache.settings import CACHE_DIR, LOAD_FORMAT, LOCKFILE, Setting
from tfhub_cache.urls import redact

FAILED = 1
MISUSED = 2
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
        # Outside of all that follows: what the program raises is its own.
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
    agree = _set("--cache-dir", options.cache_dir, CACHE_DIR)
    _set("--load-format", options.load_format, LOAD_FORMAT)
    if not agree and options.removes(options):
        output.complain("nothing is done, as it is not certain which cache is meant.")
        return MISUSED
    if not _set("--locked", getattr(options, "locked", None), LOCKFILE):
        output.complain("nothing is done, as it is not certain which lock file is meant.")
        return MISUSED
    status: int = options.run(options)
    return status


def _set(option: str, value: str | None, setting: Setting) -> bool:
    """Hands an option's value to the library; whether it is the one that counts."""
    if value is None:
        return True
    assert setting.flag is not None
    setting.set_flag(value)
    in_force = setting.value()
    if _spelled_out(value) == _spelled_out(in_force):
        return True
    output.complain(
        f"{setting.env}={redact(in_force)} counts, as the environment comes before the option "
        f"{option} {redact(value)}. To use the option: unset {setting.env}"
    )
    return False


def _spelled_out(value: str) -> str:
    if "://" in value:
        return value.removeprefix("file://").rstrip("/")
    return os.path.abspath(os.path.expanduser(value))
