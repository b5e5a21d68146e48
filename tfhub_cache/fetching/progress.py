"""The progress of what takes long: a bar for people, otherwise log lines."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from absl import logging

from tfhub_cache import settings
from tfhub_cache.notation import shorten

_BAR_AFTER_SECONDS = 1.0
_BAR_EVERY_SECONDS = 0.1
_LOG_EVERY_SECONDS = 15.0
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining} left, {rate_fmt}]"
_BESIDE_NAME = 50
"""Columns that all of that takes except the name, with a short bar and hours left."""
_USUAL_WIDTH = 80
_MANY = 50

_T = TypeVar("_T")


class Progress:
    """Shows progress: a context manager, which any thread calls with the number of bytes."""

    def __init__(self, what: str, show: bool | None, unit: str = "B") -> None:
        """Nothing is imported or written yet.

        Args:
            what: what is shown beside the figures, such as "Downloading <handle>". Its end matters
                most: the beginning is left out where a terminal has no room for it.
            show: whether to draw a bar; None: on a terminal and in a notebook, if it takes longer
                than a second. Without a bar there is a log line every 15 seconds.
            unit: what is counted: `B` is bytes.
        """
        self._what = what
        self._draws = _is_watched() if show is None else show
        self._unit = unit
        self._every = _BAR_EVERY_SECONDS if self._draws else _LOG_EVERY_SECONDS
        after = (0.0 if show else _BAR_AFTER_SECONDS) if self._draws else _LOG_EVERY_SECONDS
        self._due = time.monotonic() + after
        self._bar: Any = None
        self._latest: tuple[int, int | None] = 0, None
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Whether figures would be shown now, for callers to which it costs time to get them."""
        return time.monotonic() >= self._due

    def __call__(self, done: int, total: int | None) -> None:
        """Shows figures, unless others were shown a moment ago.

        Args:
            done: how many so far.
            total: how many in all; None if that is not known.
        """
        with self._lock:
            self._latest = done, total
            if (now := time.monotonic()) < self._due:
                return
            self._due = now + self._every
            if self._draws:
                with contextlib.suppress(Exception):  # stderr may be anything
                    self._draw(done, total)
            elif self._unit == "B":
                logging.info("%s: %.2fMB", self._what, done / (1 << 20))
            else:
                logging.info("%s: %d of %s", self._what, done, total)

    def _draw(self, done: int, total: int | None) -> None:
        encoding = sys.stderr.encoding or "utf-8"
        name = shorten(self._what, _columns() - _BESIDE_NAME)
        shown = {
            "desc": name.encode(encoding, "replace").decode(encoding),
            "total": total,
            "bar_format": _BAR if total else None,
        }
        if self._bar is None:
            counts_bytes = self._unit == "B"
            self._bar = _bar_class()(
                initial=done,
                unit="B" if counts_bytes else f" {self._unit}",
                unit_scale=counts_bytes,
                unit_divisor=1024,
                dynamic_ncols=True,
                **shown,
            )
        vars(self._bar).update(shown)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._due = math.inf
            if self._bar is not None:
                with contextlib.suppress(Exception):
                    self._draw(*self._latest)
                    self._bar.close()


def counted(models: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Hands on what comes of models, and shows how many have come, if there are more than 50."""
    show = settings.DOWNLOAD_PROGRESS.value() if total > _MANY else False
    with Progress(what, show, unit="models") as progress:
        for done, model in enumerate(models, 1):
            yield model
            progress(done, total)


def _is_watched() -> bool:
    """Whether there is a terminal or a notebook to draw on."""
    # Programs put all sorts of things in place of stderr, or close it.
    with contextlib.suppress(Exception):
        if sys.stderr.isatty():
            return True
    return _is_in_notebook()


def _is_in_notebook() -> bool:
    with contextlib.suppress(Exception):
        return "IPKernelApp" in sys.modules["IPython"].get_ipython().config
    return False


def _bar_class() -> Any:
    # Slow to import, and most downloads are short. `tqdm.auto` warns where there are no widgets.
    if _is_in_notebook() and importlib.util.find_spec("ipywidgets"):
        return importlib.import_module("tqdm.auto").tqdm
    return importlib.import_module("tqdm").tqdm


def _columns() -> int:
    """How wide a bar may be: in a file there is room for any."""
    with contextlib.suppress(Exception):
        return os.get_terminal_size(sys.stderr.fileno()).columns
    return _USUAL_WIDTH if _is_in_notebook() else sys.maxsize
