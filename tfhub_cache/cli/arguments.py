"""Arguments: how a command is made of its module, and those that several commands have."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

from tfhub_cache import cache, notation, settings
from tfhub_cache.cli import output
from tfhub_cache.notation import did_you_mean
from tfhub_cache.urls import printable

Problems: TypeAlias = Iterable[object]
"""What goes wrong in a command that goes on all the same: errors, or texts."""


class Options(argparse.Namespace):
    """What a command line says. An option in place of a setting has the name of that."""

    verbose = debug = quiet = downloads = False


class Parser(argparse.ArgumentParser):
    """Shows descriptions as they are, and words of the command line without their escapes."""

    def __init__(self, **more: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **more)

    def error(self, message: str) -> NoReturn:
        suggestion = ""
        if match := re.search("invalid choice: '(.*)' [(]choose from (.*)[)]", message):
            suggestion = did_you_mean(match[1], re.findall(r"[\w:-]+", match[2]))
        elif match := re.search("unrecognized arguments: (-[^ ]*)", message):
            suggestion = did_you_mean(match[1], re.findall(r"--[\w-]+", self.format_help()))
        super().error(printable(f"{message}. {suggestion}" if suggestion else message))


def add_command(commands: Any, module: ModuleType, common: Parser) -> None:
    """Adds the command of a module.

    Args:
        commands: what argparse's `add_subparsers` returned.
        module: it has the name of the command, with _ in place of -; its help as docstring, which
            begins with a summary; `add_arguments(command)`; `run(options)`, which yields
            `Problems`; and other names of the command in `ALIASES`, if there are any.
        common: the options that all commands have.
    """
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    text = module.__doc__ or ""  # there is none under `python -OO`
    command = commands.add_parser(
        name,
        aliases=getattr(module, "ALIASES", ()),
        help=text.partition(".\n")[0],
        description=text,
        parents=[common],
    )
    command.set_defaults(run=module.run, command=command)
    module.add_arguments(command)


def common_options() -> Parser:
    """The options that may stand before the command and after it; the latter counts."""
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("common options")
    text = "the cache: a folder, or gs://bucket/folder (default: TFHUB_CACHE_DIR)"
    add_option(group, "--cache-dir DIR", text, dest=settings.CACHE_DIR.env)
    formats = [one.value for one in settings.ModelLoadFormat]
    text = "how models are reached (default: TFHUB_MODEL_LOAD_FORMAT)"
    dest = settings.LOAD_FORMAT.env
    group.add_argument("--load-format", choices=formats, help=text, dest=dest)
    add_flag(group, "-v --verbose", "report each step")
    add_flag(group, "--debug", "show where an error comes from")
    return parser


def _not_empty(text: str) -> str:
    """Refuses an empty value, as an unset variable of a shell must not mean the default."""
    if not text.strip():
        raise ValueError("it is empty")
    return text


def add_option(
    command: Any, spelling: str, text: str, parse: Callable[[str], object] = _not_empty, **more: Any
) -> Any:
    """Adds what has a value, such as `--jobs N`. Errors of `parse` say what is wrong."""

    def parsed(value: str) -> object:
        try:
            return parse(value)
        except ValueError as error:  # argparse would not show its text
            raise argparse.ArgumentTypeError(str(error)) from None

    name, metavar = spelling.split()
    return command.add_argument(name, metavar=metavar, type=parsed, help=text, **more)


def add_flag(command: Any, names: str, text: str) -> None:
    """Adds an option without a value, such as `-q --quiet`."""
    command.add_argument(*names.split(), action="store_true", help=text)


def add_jobs(command: Parser, text: str) -> None:
    """Adds `--jobs N`."""
    text += " (default: %(default)s)"
    add_option(command, "--jobs N", text, notation.parse_count, default=4)


def add_report(command: Parser, quiet: str) -> None:
    """Adds how a command reports: `--json`, and `--quiet` with what that means."""
    add_flag(command, "-q --quiet", quiet)
    add_json(command)


def add_json(command: Parser) -> None:
    """Adds `--json`."""
    add_flag(command, "--json", "for programs: JSON on stdout")


def add_removal(command: Parser) -> None:
    """Adds how models are removed: `--dry-run`, `--yes`, and what is reported."""
    add_flag(command, "--dry-run", "only show what would be removed")
    add_flag(command, "-y --yes", "don't ask")
    add_report(command, "only the handles of what was removed, a line each, and no progress")


def add_wanted(command: Parser) -> None:
    """Adds handles, which `wanted` reads, and how they are downloaded."""
    text = "what `hub.resolve` takes, or a pattern of handles in the cache: * is any text"
    add_option(command, "handles HANDLE", text, nargs="*")
    text = "read handles from FILE, one a line, with comments after #; - is stdin; may be repeated"
    add_option(command, "-r FILE", text, dest="files", action="append", default=[])
    add_jobs(command, "how many models are downloaded at a time")
    text = "download again what is in the cache; handles without a version mean the latest"
    add_flag(command, "--refresh", text)
    add_report(command, "no progress on stderr")
    command.set_defaults(downloads=True)


def wanted(options: Options) -> list[str]:
    """The handles of a command line, and of the files that it names."""
    handles = [*options.handles, *(handle for file in options.files for handle in _read(file))]
    if not handles and not options.files:
        options.command.error("no handles: give some, or a file of them with -r")
    return handles


def _read(file: str) -> Iterator[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8: {error.reason}.") from error
    # Handles may have what splitlines() takes for ends, too.
    for line in text.removeprefix("\ufeff").split("\n"):
        # A # in the middle of a word belongs to it: URLs may have one.
        if handle := re.sub(r"(^|\s)#.*", "", line).strip():
            yield handle


def add_models(command: Parser, name: str, **more: Any) -> None:
    """Adds models in the cache, as `cache.find` takes them, which a shell can complete."""
    text = "a handle, a part of one, a pattern (* is any text), or a folder's name in the cache"
    action = add_option(command, f"{name} MODEL", text, **more)
    action.completer = _cached_handles  # for argcomplete


def _cached_handles(parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    with settings.overridden(vars(parsed_args)):
        # argcomplete quotes them for the shell.
        return [output.word_of(entry) for entry in cache.entries() if entry.is_there]
