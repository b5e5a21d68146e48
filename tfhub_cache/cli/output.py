"""What the commands write: tables and colours for terminals, columns and JSON for programs."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from absl import logging as absl_logging

from tfhub_cache import cache, settings
from tfhub_cache.notation import format_age, format_size
from tfhub_cache.urls import printable, redact, without_secrets

_COLORS = {"ok": 32, "downloading": 33, "incomplete": 31, "differs": 31, "foreign": 36}
"""Words that are green, yellow, red or cyan where they stand alone."""


def set_up() -> None:
    """Prepares stdout for any text, and stderr for log lines."""
    for name, mode in ("stdin", "r"), ("stdout", "w"), ("stderr", "w"):
        if getattr(sys, name) is None:  # It is closed, and `print` would take another one.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):
            # A handle that the terminal has no letters for must not make it fail.
            stream.reconfigure(errors="backslashreplace")
    logging.getLogger().handlers[:] = [_Lines()]
    absl_logging.get_absl_logger().handlers.clear()


class _Lines(logging.Handler):
    """Log lines on stderr, between the progress bars if there are any."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def line(*parts: str) -> None:
    """Writes a line to stdout. Whatever it holds, it neither ends nor moves the terminal."""
    _write("".join(map(_shown, parts)), sys.stdout)


def path(text: str) -> None:
    """Writes a path to stdout: for programs byte by byte, whatever the locale says of text."""
    if is_terminal() or os.name == "nt":
        line(text)
    else:
        sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
        sys.stdout.flush()


def complain(problem: object) -> None:
    """Writes a problem to stderr: a line, and those that it has below."""
    lines = [printable(one.strip()) for one in f"tfhub-cache: {problem}".split("\n")]
    _write("\n  ".join(lines), sys.stderr)


def remark(text: str) -> None:
    """Writes what goes with the output: where a program reads the output, beside it."""
    _write(printable(text), sys.stdout if is_terminal() else sys.stderr)


def ask(subjects: Iterable[str], question: str) -> bool:
    """Writes subjects, a line each, and a question about them to stderr; whether it is a yes."""
    for subject in subjects:
        print(f"  {printable(subject)}", file=sys.stderr)
    print(question, end=" [y/N] ", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def is_terminal() -> bool:
    """Whether a person reads what is written to stdout."""
    return sys.stdout.isatty()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes rows in columns: aligned and with headings on a terminal, else with tabs between.

    The first and the last column are aligned at their left end, the others at their right end.
    """
    cells = [tuple(map(printable, row)) for row in rows]
    if not is_terminal():
        for row in cells:
            _write("\t".join(row), sys.stdout)
        return
    cells.insert(0, tuple(headings))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *middle, last in cells:
        left = _shown(first) + " " * (widths[0] - len(first))
        _write("  ".join([left, *map(str.rjust, middle, widths[1:]), last]), sys.stdout)


def _shown(part: str) -> str:
    if part in _COLORS and is_terminal() and settings.allows_color():
        return f"\x1b[{_COLORS[part]}m{part}\x1b[0m"
    return printable(part)


def name_of(entry: cache.Entry) -> str:
    """An entry's handle without secrets; where it is not known, the name of its folder."""
    if entry.handle is None:
        return entry.key
    shown = redact(entry.handle)
    return f"{shown}?..." if "?" in entry.handle else shown


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


def progress(*, quiet: bool) -> contextlib.AbstractContextManager[None]:
    """Draws bars on a terminal, and writes log lines elsewhere; neither if it is to be quiet."""
    shown = None
    if quiet:
        shown = "no"
    elif not sys.stderr.isatty():
        absl_logging.set_verbosity(max(absl_logging.get_verbosity(), absl_logging.INFO))
    elif settings.DOWNLOAD_PROGRESS.value() is None:
        shown = "yes"
    return settings.overridden({settings.DOWNLOAD_PROGRESS.env: shown})


def entry_json(entry: cache.Entry) -> dict[str, Any]:
    """An entry as it stands in JSON."""
    same = "handle key state flaw size files downloaded used holder leftovers received expected"
    return {
        **{name: getattr(entry, name) for name in same.split()},
        "versioned": entry.is_versioned,
        "path": without_secrets(entry.path),
    }


def write_json(**data: Any) -> None:
    """Writes data to stdout, for programs. What is documented stays; more may be added."""
    text = json.dumps({"format": 1, **data}, indent=2, default=_plain)
    _write(text, sys.stdout)


def _plain(value: Any) -> object:
    is_time = isinstance(value, datetime.datetime)
    return value.isoformat(timespec="seconds") if is_time else vars(value)


def _write(text: str, stream: Any) -> None:
    if "tqdm" in sys.modules and stream.isatty():
        from tqdm import tqdm

        # The bars make room for it, but may leave the end of one behind, which \x1b[K erases.
        tqdm.write(f"{text}\x1b[K" if settings.allows_color() else text, file=stream)
    else:
        print(text, file=stream, flush=True)
