"""What the commands write: tables and colours for terminals, columns and JSON for programs."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from absl import logging as absl_logging

from tfhub_cache import cache, settings
from tfhub_cache.errors import CacheError
from tfhub_cache.notation import abridged, format_age, format_size, shorten
from tfhub_cache.urls import argument, printable, without_secrets

_WIDE = 100
_LEAST_ROOM = 24
_COLORS = {"ok": 32, "downloading": 33, "incomplete": 31, "differs": 31, "fixed": 33, "foreign": 36}
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


def can_ask() -> bool:
    """Whether a person can answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def confirm(going: Collection[cache.Entry], options: Any) -> None:
    """Asks on a terminal whether to remove entries, unless `--yes` says so.

    Raises:
        CacheError: if the answer is no.
    """
    if options.yes or not going or not can_ask():
        return
    for one in abridged([*map(about, going)]):
        print(f"  {printable(one)}", file=sys.stderr)
    size = format_size(sum(map(size_of, going)))
    question = f"Remove {count(len(going), 'model')}, {size}? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CacheError("nothing was removed.")


class Report:
    """What a command reports of models: lines, with `--quiet` a word of each, or JSON at the end.

    What is documented of the JSON stays; more may be added.
    """

    def __init__(self, options: Any, key: str = "models") -> None:
        self._json, self._quiet = options.json, options.quiet
        self._models: list[dict[str, Any]] = []
        self._key = key  # in JSON

    def add(self, word: str = "", **data: Any) -> None:
        """Reports a model: its word for `--quiet`, and its data for JSON."""
        self._models.append(data)
        if self._quiet and word and not self._json:
            line(word)

    def add_removed(self, verb: str, entry: cache.Entry) -> None:
        """Reports a model that was removed, or would be."""
        self.add(word_of(entry), **entry_json(entry), error=None)
        self.note(f"{verb} {about(entry)}")

    def note(self, *parts: str) -> None:
        """Writes a line of these parts for people."""
        if not (self._json or self._quiet):
            line(*parts)

    def end(self, summary: str = "", **totals: Any) -> None:
        """Reports what there is to say of all models."""
        if self._json:
            write_json(**{self._key: self._models}, **totals)
        elif summary:
            self.note(summary)


def is_terminal() -> bool:
    """Whether a person reads what is written to stdout."""
    return sys.stdout.isatty()


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], spare: Collection[str] = ()
) -> None:
    """Writes rows in columns: aligned and with headings on a terminal, else with tabs between.

    Each row ends with a name and a note on it, which share a column. The first and the last column
    are aligned at their left end, the others at their right end. So that rows fit, names and notes
    are shortened; and a terminal of less than 100 columns does not show the spare ones.
    """
    cells = [tuple(map(printable, row)) for row in rows]
    if not is_terminal():
        for *row, _ in cells:
            _write("\t".join(row), sys.stdout)
        return
    width = shutil.get_terminal_size().columns
    columns = zip((*headings, ""), *cells, strict=True)
    shown = [column for column in columns if width >= _WIDE or column[0] not in spare]
    widths = [max(map(len, column)) for column in shown[:-2]]
    room = max(_LEAST_ROOM, width - sum(widths) - 2 * len(widths))
    for first, *middle, name, note in zip(*shown, strict=True):
        note = f"  ({note})" if note else ""
        name = shorten(name, max(room - len(note), room // 2), room // 4)
        note = shorten(note, room - len(name), 3)
        left = _shown(first) + " " * (widths[0] - len(first))
        _write("  ".join([left, *map(str.rjust, middle, widths[1:]), name + note]), sys.stdout)


def _shown(part: str) -> str:
    if part in _COLORS and is_terminal() and settings.allows_color():
        return f"\x1b[{_COLORS[part]}m{part}\x1b[0m"
    return printable(part)


def word_of(entry: cache.Entry) -> str:
    """What a command takes for an entry, as one word: its handle, or the name of its folder."""
    handle = entry.handle
    if handle and argument(handle) and not re.search(r"[\s'\"\\]", handle):
        return handle
    return entry.key


def no_models() -> str:
    """That there are no models, or no cache, and where."""
    if cache.exists():
        return f"There are no models in {root()}."
    return f"There is no cache at {root()} yet: the first download makes it."


def about(entry: cache.Entry) -> str:
    """An entry's name, and what a person decides by whether it goes."""
    return f"{entry.name} ({format_size(size_of(entry))}, used {moment(entry.used)})"


def size_of(entry: cache.Entry) -> int:
    """Bytes of an entry and of what crashed processes left of it."""
    return entry.size + sum(entry.leftovers.values())


def root() -> str:
    """The cache folder, as it may be shown."""
    return without_secrets(settings.cache_dir())


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


def progress(options: Any) -> contextlib.AbstractContextManager[None]:
    """Draws bars on a terminal. Elsewhere, commands that download write log lines."""
    shown = None
    if options.quiet:
        shown = "no"
    elif sys.stderr.isatty():
        shown = "yes" if settings.DOWNLOAD_PROGRESS.value() is None else None
    elif options.downloads:
        absl_logging.set_verbosity(max(absl_logging.get_verbosity(), absl_logging.INFO))
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
