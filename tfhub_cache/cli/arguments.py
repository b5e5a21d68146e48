"""The command line: commands, options, and what the help says of them.

docs/command-line.md is generated from it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from tfhub_cache import grammar, settings, units
from tfhub_cache.version import __version__

_Parsed = TypeVar("_Parsed")
_HANDLE = "a handle as it was resolved, or the name of the model's folder in the cache"

DESCRIPTION = (
    "Looks after the cache of TensorFlow Hub models: fetches them beforehand, shows what is there, "
    "checks it, and makes room."
)
EPILOG = """\
examples:
  tfhub-cache resolve https://tfhub.dev/google/nnlm-en-dim128/2
  tfhub-cache ls --sort size
  tfhub-cache prune --unused-for 30d --max-size 20GB
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. What it returns has `run`, which does the work."""
    parser = argparse.ArgumentParser(
        prog="tfhub-cache",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfhub-cache {__version__}")
    _add_common(parser, with_defaults=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _add(
        commands,
        "resolve",
        "fetch models, and print their folders",
        "Resolves handles as `hub.resolve` does, and prints one path a line, in the order of the "
        "handles. What is not in the cache is downloaded, with progress bars on a terminal. One "
        "that fails does not stop the others.",
        """\
        tfhub-cache resolve https://tfhub.dev/google/nnlm-en-dim128/2
        tfhub-cache resolve --jobs 8 -r models.txt
        tfhub-cache resolve --refresh https://tfhub.dev/google/spice
        """,
        "resolve",
    )
    _add_wanted(command, "what `hub.resolve` takes")
    _add_jobs(command, "how many handles are resolved at a time")
    command.add_argument(
        "--refresh",
        action="store_true",
        help="fetch anew what is in the cache, and replace it when the new one is complete. For "
        "handles without a version, which mean the latest",
    )
    command.add_argument(
        "--locked",
        metavar="LOCKFILE",
        type=_told(_not_empty),
        help="use only the models that LOCKFILE names (default: TFHUB_LOCKFILE). Without any "
        "HANDLE, those in it are resolved",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")

    command = _add(
        commands,
        "lock",
        "write a lock file, by which models are the same everywhere",
        "Writes the size and the SHA-256 of each model's files into a file. What is not in the "
        "cache is downloaded. The file is written only if all succeed. Paths are left out.",
        """\
        tfhub-cache lock -r models.txt -o models.lock
        tfhub-cache resolve --locked models.lock
        """,
        "lock",
    )
    _add_wanted(command, "an http(s) handle, or a `gs://` archive")
    command.add_argument(
        "-o",
        dest="output",
        metavar="LOCKFILE",
        type=_told(_not_empty),
        default="models.lock",
        help="the file to write (default: %(default)s)",
    )
    _add_jobs(command, "how many models are downloaded at a time")
    command.add_argument(
        "--refresh",
        action="store_true",
        help="fetch anew what is in the cache, for handles without a version",
    )
    command.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")

    command = _add(
        commands,
        "ls",
        "list what is in the cache",
        "Lists every model with its state, size, number of files, when it was downloaded and last "
        "used, and its handle; then the total, and what is free on the disk. Last use is recorded "
        "at most once an hour. Of a download that was interrupted, the size is what is kept of it. "
        "Where nothing tells the handle, the name of the folder is shown. "
        "The query of a handle, which may be secret, is not shown.",
        """\
        tfhub-cache ls
        tfhub-cache ls --sort used
        tfhub-cache ls --json | jq -r '.entries[] | select(.state == "incomplete") | .handle'
        """,
        "ls",
    )
    command.add_argument(
        "--sort",
        choices=("name", "size", "used"),
        default="name",
        help="by name, the largest first, or the last used first (default: %(default)s)",
    )
    _add_json(command)

    command = _add(
        commands,
        "info",
        "show what is known of a model",
        "Shows where a model is and where it came from, and its signatures: inputs and outputs "
        "with their types and shapes. TensorFlow is not needed, but for a saved_model.pbtxt.",
        """\
        tfhub-cache info https://tfhub.dev/google/nnlm-en-dim128/2
        """,
        "ls",
    )
    _add_handles(command, "handle", None)
    _add_json(command)

    command = _add(
        commands,
        "verify",
        "read models and compare their digests",
        "Reads every file of the models, or of all, and compares its SHA-256 with the one that was "
        "taken when it was downloaded. Models that tensorflow_hub has downloaded have no digests: "
        "of those it only looks whether the files that a SavedModel needs are there. The exit "
        "status is 1 if anything differs and is not fetched again.",
        """\
        tfhub-cache verify
        tfhub-cache verify --fix https://tfhub.dev/google/nnlm-en-dim128/2
        """,
        "rm",
    )
    _add_handles(command, "handles", "*")
    command.add_argument(
        "--fix", action="store_true", help="fetch again what differs; it needs the network"
    )
    _add_jobs(command, "how many files are read at a time")

    command = _add(
        commands,
        "rm",
        "remove models",
        "Removes models from the cache. On a terminal it asks first. A model that somebody is "
        "downloading stays.",
        """\
        tfhub-cache rm https://tfhub.dev/google/nnlm-en-dim128/2
        tfhub-cache rm --all --yes
        """,
        "rm",
    )
    _add_handles(command, "handles", "*")
    command.add_argument("--all", action="store_true", help="remove everything in the cache")
    command.add_argument("--yes", "-y", action="store_true", help="don't ask")

    command = _add(
        commands,
        "prune",
        "make room",
        "Removes what dead processes left behind, and then the models that were not used for "
        "longest, until both limits hold. A model that somebody is downloading stays. Sizes are "
        "bytes, or numbers with a unit: kB, MB, GB, TB are powers of 1000, KiB, MiB, GiB, TiB are "
        "powers of 1024. Ages are seconds, or numbers with s, min, h, d or w.",
        """\
        tfhub-cache prune
        tfhub-cache prune --max-size 20GB
        tfhub-cache prune --unused-for 30d --dry-run
        """,
        "rm",
    )
    command.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_told(units.parse_size),
        help="how large the models may be together, such as 20GB or 500MiB",
    )
    command.add_argument(
        "--unused-for",
        metavar="AGE",
        type=_told(units.parse_duration),
        help="remove what was not used for so long, such as 30d or 12h",
    )
    command.add_argument("--dry-run", action="store_true", help="only tell what would be removed")

    command = _add(
        commands,
        "env",
        "show versions and settings",
        "Shows versions and the settings in force, with where each comes from, for reports of "
        "bugs. Passwords and queries of URLs are left out.",
        """\
        tfhub-cache env
        """,
        "ls",
    )
    _add_json(command)

    command = _add(
        commands,
        "run",
        "run a program with this library as its tensorflow_hub",
        "Starts python with what follows, and with this library in place of tensorflow_hub: "
        "wherever the program, a package that it uses, or a Python program that it starts says "
        "`import tensorflow_hub`. Settings come from the environment, as `run` must be the first "
        "word.",
        """\
        tfhub-cache run train.py --epochs 3
        tfhub-cache run -m package.train --epochs 3
        tfhub-cache run -c 'import tensorflow_hub as hub; print(hub)'
        """,
        "run",
    )
    command.usage = "tfhub-cache run SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]"
    command.add_argument(
        "program",
        metavar="PROGRAM",
        nargs=argparse.REMAINDER,
        help="the program, and its arguments",
    )
    return parser


def _add(
    commands: Any, name: str, summary: str, description: str, examples: str, module: str
) -> argparse.ArgumentParser:
    lines = "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines())
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=_HelpFormatter,
    )
    _add_common(command, with_defaults=False)
    command.set_defaults(run=_runner(module, name), command=command)
    return command


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fills the description, and leaves the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _runner(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """What runs a command: the function of its name. Only its module is imported."""

    def run(options: argparse.Namespace) -> int:
        import importlib

        function = getattr(importlib.import_module(f"tfhub_cache.cli.{module}"), name)
        status: int = function(options)
        return status

    return run


def _add_common(parser: argparse.ArgumentParser, *, with_defaults: bool) -> None:
    """Options that may stand before the command and after it; the latter counts."""
    default: Any = None if with_defaults else argparse.SUPPRESS
    common = parser.add_argument_group("common options")
    common.add_argument(
        "--cache-dir",
        metavar="DIR",
        type=_told(_not_empty),
        default=default,
        help="the cache: a folder, or gs://bucket/folder (default: TFHUB_CACHE_DIR)",
    )
    common.add_argument(
        "--load-format",
        choices=[one.value for one in settings.ModelLoadFormat],
        default=default,
        help="how models are reached (default: TFHUB_MODEL_LOAD_FORMAT)",
    )
    default = False if with_defaults else argparse.SUPPRESS
    common.add_argument(
        "-v", "--verbose", action="store_true", default=default, help="tell what is being done"
    )
    common.add_argument(
        "--debug", action="store_true", default=default, help="show where an error comes from"
    )


def _add_wanted(parser: argparse.ArgumentParser, text: str) -> None:
    """Handles of models that need not be in the cache."""
    parser.add_argument("handles", metavar="HANDLE", nargs="*", help=text)
    parser.add_argument(
        "-r",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="read handles from FILE, one a line; what follows a # is a comment; - is stdin. There "
        "may be several",
    )


def _add_handles(parser: argparse.ArgumentParser, name: str, number: str | None) -> None:
    action = parser.add_argument(name, metavar="HANDLE", nargs=number, help=_HANDLE)
    action.completer = _cached_handles  # type: ignore[attr-defined]  # argcomplete's


def _add_jobs(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=_told(grammar.parse_count),
        default=4,
        help=f"{text} (default: %(default)s)",
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def _told(parse: Callable[[str], _Parsed]) -> Callable[[str], _Parsed]:
    """A parser of values whose errors say what is wrong."""

    def parsed(text: str) -> _Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _not_empty(text: str) -> str:
    # An unset variable of a shell must not mean the default cache, nor no lock at all.
    if not text:
        raise ValueError("it is empty")
    return text


def _cached_handles(**options: Any) -> Iterable[str]:
    """What a shell offers in place of HANDLE."""
    from tfhub_cache import cache
    from tfhub_cache.urls import argument

    given = getattr(options.get("parsed_args"), "cache_dir", None)
    with settings.overridden({settings.CACHE_DIR: given}):
        # argcomplete quotes them for the shell.
        return [
            entry.handle if argument(entry.handle) else entry.key
            for entry in cache.entries()
            if entry.handle and entry.is_there
        ]
