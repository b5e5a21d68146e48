"""Arguments that several commands have, and how the help shows them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeAlias, TypeVar

from tfhub_cache import notation, settings
from tfhub_cache.urls import argument, printable

_Parsed = TypeVar("_Parsed")
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Parser(argparse.ArgumentParser):
    """A parser whose errors repeat the words of the command line without their escapes."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Fills the description, and leaves the examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
    *examples: str,
) -> argparse.ArgumentParser:
    """Adds a command.

    Args:
        commands: those that there are.
        name: what it is called.
        run: what it does; returns the exit status.
        summary: what it does, in the list of commands.
        description: the same in its help.
        examples: command lines.
    """
    command = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog="".join(["examples:\n", *(f"  {example}\n" for example in examples)]),
        formatter_class=HelpFormatter,
    )
    add_common(command, with_defaults=False)
    command.set_defaults(run=run, command=command)
    return command


def add_common(parser: argparse.ArgumentParser, *, with_defaults: bool) -> None:
    """Adds options that may stand before the command and after it; the latter counts."""
    default: Any = None if with_defaults else argparse.SUPPRESS
    common = parser.add_argument_group("common options")
    common.add_argument(
        "--cache-dir",
        metavar="DIR",
        type=value(not_empty),
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
        "-v", "--verbose", action="store_true", default=default, help="report each step"
    )
    common.add_argument(
        "--debug", action="store_true", default=default, help="show where an error comes from"
    )


def add_wanted(command: argparse.ArgumentParser, text: str) -> None:
    """Adds handles of models that need not be in the cache; `wanted` reads them."""
    command.add_argument("handles", metavar="HANDLE", nargs="*", help=text)
    command.add_argument(
        "-r",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="read handles from FILE, one a line; what follows a # is a comment; - is stdin. There "
        "may be several",
    )


def wanted(options: argparse.Namespace) -> list[str]:
    """The handles of a command line, and of the files that it names."""
    handles = [*options.handles]
    for file in options.files:
        handles += _read_handles(file)
    if not handles and not options.files:
        options.command.error("no handles: give some, or a file of them with -r")
    return handles


def _read_handles(file: str) -> Iterator[str]:
    import re
    import sys

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
        handle = re.sub(r"(^|\s)#.*", "", line).strip()
        if handle:
            yield handle


def add_cached(command: argparse.ArgumentParser, name: str, number: str | None) -> None:
    """Adds handles of models that are in the cache, which a shell can complete."""
    action = command.add_argument(
        name,
        metavar="HANDLE",
        nargs=number,
        help="a handle as it was resolved, or the name of the model's folder in the cache",
    )
    action.completer = _cached_handles  # type: ignore[attr-defined]  # argcomplete's


def _cached_handles(**options: Any) -> Iterable[str]:
    from tfhub_cache import cache

    given = getattr(options.get("parsed_args"), "cache_dir", None)
    with settings.overridden({settings.CACHE_DIR: given}):
        # argcomplete quotes them for the shell.
        return [
            entry.handle if argument(entry.handle) else entry.key
            for entry in cache.entries()
            if entry.handle and entry.is_there
        ]


def add_jobs(command: argparse.ArgumentParser, text: str) -> None:
    """Adds `--jobs N`."""
    command.add_argument(
        "--jobs",
        metavar="N",
        type=value(notation.parse_count),
        default=4,
        help=f"{text} (default: %(default)s)",
    )


def add_flags(command: argparse.ArgumentParser, **flags: str) -> None:
    """Adds options without a value, each with its help; one of a single letter has it as well."""
    short = {"quiet": "-q", "yes": "-y"}
    for name, text in flags.items():
        names = [*filter(None, [short.get(name)]), f"--{name.replace('_', '-')}"]
        command.add_argument(*names, action="store_true", help=text)


def value(parse: Callable[[str], _Parsed]) -> Callable[[str], _Parsed]:
    """A parser of values, for argparse, whose errors say what is wrong."""

    def parsed(text: str) -> _Parsed:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def not_empty(text: str) -> str:
    """Refuses an empty value, as an unset variable of a shell must not mean the default."""
    if not text:
        raise ValueError("it is empty")
    return text
