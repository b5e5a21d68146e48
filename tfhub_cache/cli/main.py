"""Look after the cache of TensorFlow Hub models.

Downloads models beforehand, shows what is there, checks it, and makes room.

Examples:
    tfhub-cache resolve https://tfhub.dev/google/nnlm-en-dim128/2
    tfhub-cache ls --sort size
    tfhub-cache prune --unused-for 30d --max-size 20GB
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from absl import logging as absl_logging

from tfhub_cache import settings
from tfhub_cache.cli import dir as folder
from tfhub_cache.cli import env, info, lock, ls, output, prune, resolve, rm, run, stand_in, verify
from tfhub_cache.cli.arguments import Options, Parser, add_command, common_options
from tfhub_cache.version import __version__

_EXPECTED: Final = (OSError, ValueError, RuntimeError, ImportError)
"""Errors that say what to do; any other is a bug, and comes with its traceback."""


def build_parser() -> Parser:
    """The parser of the whole command line, from which docs/command-line.md is made."""
    common = common_options()
    parser = Parser(prog="tfhub-cache", description=__doc__, parents=[common])
    parser.set_defaults(command=parser)
    parser.add_argument("--version", action="version", version=f"tfhub-cache {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (resolve, lock, ls, info, verify, rm, prune, folder, env, run, stand_in):
        add_command(commands, module, common)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: settings from options, exit statuses, interruptions.

    Args:
        arguments: those of the command line; None: the process's own.

    Returns:
        The exit status: 0; 1 if something failed, which stderr says; 130 after Ctrl-C, and 141
        if the reader of the output has closed it, as shells have it.

    Raises:
        SystemExit: with 2 if the arguments make no sense, and with 0 after `--help`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["run"] and arguments[1:2] not in ([], ["-h"], ["--help"]):
        return run.start(arguments[1:])
    parser = build_parser()
    if settings.is_completing():
        import argcomplete  # an extra, and only the shell's completion calls for it

        argcomplete.autocomplete(parser)
    output.set_up()
    options, unknown = parser.parse_known_args(arguments, Options())
    if unknown:
        options.command.error(f"unrecognized arguments: {' '.join(unknown)}")
    if "run" not in options:
        parser.print_help(sys.stderr)
        return 2
    expected = () if options.debug else _EXPECTED
    try:
        status = _run(options, expected)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Or Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        output.complain("interrupted.")
        return 130
    except expected as error:
        output.complain(error)
        return 1


def _run(options: Options, expected: tuple[type[Exception], ...]) -> int:
    is_verbose = options.verbose or options.debug
    absl_logging.set_verbosity(absl_logging.INFO if is_verbose else absl_logging.WARNING)
    if not is_verbose:
        # Its words for trying again are for those who know its classes.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
    status = 0
    with settings.overridden(vars(options)), output.progress(options):
        for problem in options.run(options):
            if isinstance(problem, Exception) and not isinstance(problem, expected):
                raise problem
            output.complain(problem)
            status = 1
    return status
