"""What the commands write: tables and colours for terminals, columns and JSON for programs."""

from __future__ import annotations

import codecs
import datetime
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from absl import logging as absl_logging

from tfhub_cache import settings
from tfhub_cache.store.entry import Entry
from tfhub_cache.units import format_age
from tfhub_cache.urls import redact

EXPECTED: Final = (OSError, ValueError, RuntimeError, ImportError)
"""Errors that say what to do; any other is a bug, and comes with its traceback."""

_ERASE_REST = "\x1b[K"
_PATHS = "tfhub-cache.paths"
_COLORS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "dim": 2}


def set_up() -> None:
    """Prepares stdout for any text, and stderr for log lines."""
    _replace_closed_streams()
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):
            # A handle that the terminal has no letters for is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    if os.name == "posix" and hasattr(sys.stdout, "reconfigure") and not is_terminal():
        # Programs need paths byte by byte, whatever the locale says of text.
        codecs.register_error(_PATHS, _encode_path)
        sys.stdout.reconfigure(errors=_PATHS)
    logging.getLogger().handlers[:] = [_Lines()]
    absl_logging.get_absl_logger().handlers.clear()


def _replace_closed_streams() -> None:
    """Gives what is said to nobody, where a stream is closed; `print` would take another one."""
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


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


def line(text: str = "") -> None:
    """Writes a line to stdout."""
    _write(text, sys.stdout)


def complain(problem: object) -> None:
    """Writes a line to stderr."""
    _write(f"tfhub-cache: {printable(str(problem))}", sys.stderr)


def remark(text: str) -> None:
    """Writes what goes with the output: where a program reads the output, beside it."""
    _write(text, sys.stdout if is_terminal() else sys.stderr)


def write_json(data: Any) -> None:
    """Writes data to stdout, for programs."""
    line(json.dumps(data, indent=2))


def is_terminal() -> bool:
    """Whether a person reads what is written to stdout."""
    return sys.stdout.isatty()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int]) -> None:
    """Writes rows in columns: aligned and with headings on a terminal, else with tabs between.

    Args:
        headings: of the columns.
        rows: what is in them; text may be coloured.
        right: the columns that are aligned at their right end.
    """
    if not is_terminal():
        for row in rows:
            line("\t".join(row))
        return
    cells = [[color(heading, "bold") for heading in headings], *rows]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        shown = []
        for column, cell in enumerate(row):
            space = " " * (widths[column] - _width(cell))
            shown.append(space + cell if column in right else cell + space)
        line("  ".join(shown).rstrip())


def color(text: str, name: str) -> str:
    """Text in a colour, where that can be seen."""
    if not (is_terminal() and settings.allows_color()):
        return text
    return f"\x1b[{_COLORS[name]}m{text}\x1b[0m"


def printable(text: str) -> str:
    """Text without what a terminal would obey: whoever writes to the cache writes handles, too."""
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1]
        for character in text
    )


def name_of(entry: Entry) -> str:
    """An entry's handle without secrets; where it is not known, the name of its folder."""
    if entry.handle is None:
        return entry.key
    shown = redact(entry.handle)
    return printable(f"{shown}?..." if "?" in entry.handle else shown).replace("\n", "\\n")


def path_of(entry: Entry) -> str:
    """An entry's path without the credentials that the URL of a cache may have."""
    # What is on this machine has none, and programs want it as it is.
    return entry.path if entry.path.startswith("file://") else redact(entry.path)


def argument_of(entry: Entry) -> str:
    """What names an entry on a command line, and holds no secret."""
    name = name_of(entry)
    return name if name == entry.handle else entry.key


def moment(time: datetime.datetime | None) -> str:
    """A time: how long ago it was on a terminal, else in ISO's form."""
    if time is None:
        return "-"
    if is_terminal():
        return format_age((datetime.datetime.now(datetime.timezone.utc) - time).total_seconds())
    return time.isoformat(timespec="seconds")


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as it stands in JSON. What is documented stays; more may be added."""
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
