"""What the commands write: tables and colours for terminals, columns and JSON for programs."""

from __future__ import annotations

import codecs
import contextlib
import datetime
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from absl import logging as absl_logging

from tfhub_cache import cache, settings
from tfhub_cache.notation import format_age, format_size
from tfhub_cache.urls import argument, printable, redact, without_secrets

EXPECTED: Final = (OSError, ValueError, RuntimeError, ImportError)
"""Errors that say what to do; any other is a bug, and comes with its traceback."""

_ERASE_REST = "\x1b[K"
_PATHS = "tfhub-cache.paths"
_STATES = {"ok": "green", "foreign": "cyan", "downloading": "yellow", "incomplete": "red"}
_COLORS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}


def set_up() -> None:
    """Prepares stdout for any text, and stderr for log lines."""
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, name) is None:  # It is closed, and `print` would take another one.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):
            # A handle that the terminal has no letters for must not make it fail.
            stream.reconfigure(errors="backslashreplace")
    if os.name == "posix" and hasattr(sys.stdout, "reconfigure") and not is_terminal():
        # Programs need paths byte by byte, whatever the locale says of text.
        codecs.register_error(_PATHS, _encode_path)
        sys.stdout.reconfigure(errors=_PATHS)
    logging.getLogger().handlers[:] = [_Lines()]
    absl_logging.get_absl_logger().handlers.clear()


def _encode_path(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a path that are no text as they are, and other letters in ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    error.end = error.start + 1
    is_byte = "\udc80" <= error.object[error.start] <= "\udcff"
    return codecs.lookup_error("surrogateescape" if is_byte else "backslashreplace")(error)


class _Lines(logging.Handler):
    """Log lines on stderr, between the progress bars if there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


class Colored(NamedTuple):
    """Text in a colour, where that can be seen."""

    text: str
    name: str


Part: TypeAlias = str | Colored
"""What a line is made of. Whatever it holds, it neither ends the line nor moves the terminal."""


def line(*parts: Part) -> None:
    """Writes a line to stdout."""
    _write(_shown(parts), sys.stdout)


def path(text: str) -> None:
    """Writes a path to stdout: for programs byte by byte, whatever its letters are."""
    if is_terminal():
        line(text)
    else:
        _write(text, sys.stdout)


def complain(problem: object) -> None:
    """Writes a problem to stderr: a line, and those that it has below."""
    first, *others = str(problem).split("\n")
    lines = [f"tfhub-cache: {printable(first)}", *(printable(other.strip()) for other in others)]
    _write("\n  ".join(lines), sys.stderr)


def remark(text: str) -> None:
    """Writes what goes with the output: where a program reads the output, beside it."""
    _write(printable(text), sys.stdout if is_terminal() else sys.stderr)


def ask(subjects: Iterable[str], question: str) -> str:
    """Writes subjects, a line each, and a question about them to stderr; reads the answer."""
    for subject in subjects:
        print(f"  {printable(subject)}", file=sys.stderr)
    print(printable(question), end=" ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()


def write_json(**data: Any) -> None:
    """Writes data to stdout, for programs. What is documented stays; more may be added."""
    _write(json.dumps({"format": 1, **data}, indent=2), sys.stdout)


def is_terminal() -> bool:
    """Whether a person reads what is written to stdout."""
    return sys.stdout.isatty()


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Sequence[Part]]], right: Sequence[int]
) -> None:
    """Writes rows in columns: aligned and with headings on a terminal, else with tabs between.

    Args:
        headings: of the columns.
        rows: what is in them: the parts of each cell.
        right: the columns that are aligned at their right end.
    """
    cells = [[_shown(cell) for cell in row] for row in rows]
    if not is_terminal():
        for row in cells:
            _write("\t".join(row), sys.stdout)
        return
    cells.insert(0, [_shown([Colored(heading, "bold")]) for heading in headings])
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        spaces = [" " * (width - _width(cell)) for width, cell in zip(widths, row, strict=True)]
        padded = [
            space + cell if column in right else cell + space
            for column, (space, cell) in enumerate(zip(spaces, row, strict=True))
        ]
        _write("  ".join(padded).rstrip(), sys.stdout)


def _shown(parts: Iterable[Part]) -> str:
    """Parts as they are written."""
    has_colors, shown = is_terminal() and settings.allows_color(), ""
    for part in parts:
        text, color = part if isinstance(part, Colored) else (part, None)
        text = printable(text)
        shown += f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if color and has_colors else text
    return shown


def name_of(entry: cache.Entry) -> str:
    """An entry's handle without secrets; where it is not known, the name of its folder."""
    if entry.handle is None:
        return entry.key
    shown = redact(entry.handle)
    return f"{shown}?..." if "?" in entry.handle else shown


def path_of(entry: cache.Entry) -> str:
    """An entry's path without the credentials that the URL of a cache may have."""
    # What is on this machine has none, and programs want it as it is.
    return entry.path if entry.path.startswith("file://") else without_secrets(entry.path)


def argument_of(entry: cache.Entry) -> str:
    """What names an entry in a shell, and holds no secret."""
    return (entry.handle and argument(entry.handle)) or entry.key


def state(entry: cache.Entry) -> Colored:
    """An entry's state, in its colour."""
    return Colored(entry.state, _STATES[entry.state])


def moment(time: datetime.datetime | None) -> str:
    """A time: how long ago it was on a terminal, else in ISO's form."""
    if time is None:
        return "-"
    if is_terminal():
        return format_age((datetime.datetime.now(datetime.timezone.utc) - time).total_seconds())
    return time.isoformat(timespec="seconds")


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def received(entry: cache.Entry) -> str:
    """How far a download is, or was when it was interrupted."""
    return f"{format_size(entry.received or 0)} of {format_size(entry.expected or 0)}"


@contextlib.contextmanager
def progress(*, quiet: bool) -> Iterator[None]:
    """Draws bars on a terminal, and writes log lines elsewhere; neither if it is to be quiet."""
    shown = None
    if quiet:
        shown = "no"
    elif not sys.stderr.isatty():
        absl_logging.set_verbosity(max(absl_logging.get_verbosity(), absl_logging.INFO))
    elif settings.DOWNLOAD_PROGRESS.value() is None:
        shown = "yes"
    with settings.overridden({settings.DOWNLOAD_PROGRESS: shown}):
        yield


def entry_json(entry: cache.Entry) -> dict[str, Any]:
    """An entry as it stands in JSON."""
    return {
        "handle": entry.handle,
        "versioned": entry.is_versioned,
        "key": entry.key,
        "path": path_of(entry),
        "state": entry.state,
        "flaw": entry.flaw,
        "size": entry.size,
        "files": entry.files,
        "downloaded": entry.downloaded and entry.downloaded.isoformat(timespec="seconds"),
        "used": entry.used and entry.used.isoformat(timespec="seconds"),
        "holder": entry.holder,
        "leftovers": dict(entry.leftovers),
        "received": entry.received,
        "expected": entry.expected,
    }


def _write(text: str, stream: Any) -> None:
    if "tqdm" in sys.modules and os.isatty(stream.fileno()):
        from tqdm import tqdm

        # The bars make room for it, but may leave the end of one behind.
        tqdm.write(text + (_ERASE_REST if settings.allows_color() else ""), file=stream)
    else:
        print(text, file=stream, flush=True)


def _width(text: str) -> int:
    """The columns that a text takes on a terminal."""
    import re
    import unicodedata

    plain = re.sub(r"\x1b\[[0-9]+m", "", text)
    return sum(
        2 if unicodedata.east_asian_width(letter) in "WF" else not unicodedata.combining(letter)
        for letter in plain
    )
