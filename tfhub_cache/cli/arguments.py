"""Arguments: how a command is made of its module, and those that several commands have."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, NoReturn

from tfhub_cache import notation, settings
from tfhub_cache.urls import argument, printable


class Options(argparse.Namespace):
    """What a command line says. Those named here have a value in any case."""

    cache_dir: str | None = None
    load_format: str | None = None
    locked: str | None = None
    verbose = debug = False


class Parser(argparse.ArgumentParser):
    """A parser whose errors repeat the words of the command line without their escapes."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fills the description, and leaves the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def add_command(commands: Any, module: ModuleType, common: Parser) -> None:
    """Adds the command of a module.

    Args:
        commands: what argparse's `add_subparsers` returned.
        module: it has the name of the command; a docstring of a summary, a description, and
            indented examples; `add_arguments(command)`; and `run(options)`, which returns the exit
            status.
        common: the options that all commands have.
    """
    name = module.__name__.rpartition(".")[2]
    summary = _paragraphs(module)[0].rstrip(".")
    command = commands.add_parser(name, help=summary, parents=[common], **help_of(module))
    command.set_defaults(run=module.run, command=command)
    module.add_arguments(command)


def help_of(module: ModuleType) -> dict[str, Any]:
    """The help that a parser has from a module's docstring: description and examples."""
    _, description, examples = _paragraphs(module)
    return {
        "description": description,
        "epilog": "examples:\n" + re.sub("(?m)^ +", "  ", examples),
        "formatter_class": _HelpFormatter,
    }


def _paragraphs(module: ModuleType) -> list[str]:
    # Under `python -OO` there are no docstrings.
    return (module.__doc__ or "\n\n\n\n").split("\n\n")


def common_options() -> Parser:
    """The options that may stand before the command and after it; the latter counts."""
    parser = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("common options")
    add_option(
        group,
        "--cache-dir DIR",
        not_empty,
        "the cache: a folder, or gs://bucket/folder (default: TFHUB_CACHE_DIR)",
    )
    group.add_argument(
        "--load-format",
        choices=[one.value for one in settings.ModelLoadFormat],
        help="how models are reached (default: TFHUB_MODEL_LOAD_FORMAT)",
    )
    add_flag(group, "-v --verbose", "report each step")
    add_flag(group, "--debug", "show where an error comes from")
    return parser


def add_option(
    command: argparse._ActionsContainer,
    spelling: str,
    parse: Callable[[str], object],
    text: str,
    **more: Any,
) -> None:
    """Adds an option with a value, such as `--jobs N`. Errors of `parse` say what is wrong."""

    def parsed(value: str) -> object:
        try:
            return parse(value)
        except ValueError as error:  # argparse would not show its text
            raise argparse.ArgumentTypeError(str(error)) from None

    name, metavar = spelling.split()
    command.add_argument(name, metavar=metavar, type=parsed, help=text, **more)


def add_flag(command: argparse._ActionsContainer, names: str, text: str) -> None:
    """Adds an option without a value, such as `-q --quiet`."""
    command.add_argument(*names.split(), action="store_true", help=text)


def add_jobs(command: Parser, text: str) -> None:
    """Adds `--jobs N`."""
    text += " (default: %(default)s)"
    add_option(command, "--jobs N", notation.parse_count, text, default=4)


def add_wanted(command: Parser, handles: str, jobs: str, refresh: str) -> None:
    """Adds handles, which `wanted` reads, and how they are downloaded; each with its help."""
    command.add_argument("handles", metavar="HANDLE", nargs="*", help=handles)
    add_option(
        command,
        "-r FILE",
        str,
        "read handles from FILE, one a line; what follows a # is a comment; - is stdin. There "
        "may be several",
        dest="files",
        action="append",
        default=[],
    )
    add_jobs(command, jobs)
    add_flag(command, "--refresh", f"download again what is in the cache{refresh}")
    add_flag(command, "-q --quiet", "no progress on stderr")


def wanted(options: Options) -> list[str]:
    """The handles of a command line, and of the files that it names."""
    handles = [*options.handles, *(handle for file in options.files for handle in _read(file))]
    if not handles and not options.files:
        options.command.error("no handles: give some, or a file of them with -r")
    return handles


def _read(file: str) -> Iterator[str]:
    if file == "-":
        text = sys.stdin.read().removeprefix("\ufeff")
    else:
        with open(file, encoding="utf-8-sig") as opened:
            try:
                text = opened.read()
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is not text in UTF-8: {error.reason}.") from error
    for line in text.split("\n"):  # handles may have what splitlines() takes for ends, too
        # A # in the middle of a word belongs to it: URLs may have one.
        if handle := re.sub(r"(^|\s)#.*", "", line).strip():
            yield handle


def add_cached(command: Parser, name: str, **more: Any) -> None:
    """Adds handles of models that are in the cache, which a shell can complete."""
    text = "a handle as it was resolved, or the name of the model's folder in the cache"
    action = command.add_argument(name, metavar="HANDLE", help=text, **more)
    action.completer = _cached_handles  # type: ignore[attr-defined]  # argcomplete's


def _cached_handles(parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    from tfhub_cache import cache

    given = getattr(parsed_args, "cache_dir", None)
    with settings.overridden({settings.CACHE_DIR: given}):
        # argcomplete quotes them for the shell.
        return [
            entry.handle if argument(entry.handle) else entry.key
            for entry in cache.entries()
            if entry.handle and entry.is_there
        ]


def not_empty(text: str) -> str:
    """Refuses an empty value, as an unset variable of a shell must not mean the default."""
    if not text:
        raise ValueError("it is empty")
    return text
