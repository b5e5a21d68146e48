"""The progress of a download or of waiting for one: a bar for people, otherwise log lines."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from typing import Any

from absl import logging

_BAR_AFTER_SECONDS = 1.0
_BAR_EVERY_SECONDS = 0.1
_LOG_EVERY_SECONDS = 15.0


class Progress:
    """Shows progress: a context manager, which any thread calls with the number of bytes."""

    def __init__(self, what: str, show: bool | None) -> None:
        """Nothing is imported or written yet.

        Args:
            what: what is shown beside the figures, such as "Downloading <handle>".
            show: whether to draw a bar; None: on a terminal and in a notebook, if it takes longer
                than a second. Without a bar there is a log line every 15 seconds.
        """
        self._what = what
        self._draws = _is_watched() if show is None else show
        self._every = _BAR_EVERY_SECONDS if self._draws else _LOG_EVERY_SECONDS
        after = (0.0 if show else _BAR_AFTER_SECONDS) if self._draws else _LOG_EVERY_SECONDS
        self._due = time.monotonic() + after
        self._bar: Any = None
        self._latest: tuple[int, int | None] = 0, None
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Whether figures would be shown now, for callers to which it costs time to get them."""
        return time.monotonic() >= self._due

    def __call__(self, received: int, total: int | None) -> None:
        """Shows figures, unless others were shown a moment ago.

        Args:
            received: bytes so far.
            total: bytes in all; None if that is not known.
        """
        with self._lock:
            self._latest = received, total
            if (now := time.monotonic()) < self._due:
                return
            self._due = now + self._every
            if self._draws:
                with contextlib.suppress(Exception):  # stderr may be anything
                    self._draw(received, total)
            else:
                logging.info("%s: %.2fMB", self._what, received / (1 << 20))

    def _draw(self, received: int, total: int | None) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm  # slow to import, and most downloads are short

            self._bar = tqdm(
                desc=self._what,
                initial=received,
                total=total,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                dynamic_ncols=True,
            )
        self._bar.total = total
        self._bar.update(received - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._due = math.inf
            if self._bar is not None:
                with contextlib.suppress(Exception):
                    self._draw(*self._latest)
                    self._bar.close()


def _is_watched() -> bool:
    """Whether there is a terminal or a notebook to draw on."""
    # Programs put all sorts of things in place of stderr, or close it.
    with contextlib.suppress(Exception):
        if sys.stderr.isatty():
            return True
    with contextlib.suppress(Exception):
        return "IPKernelApp" in sys.modules["IPython"].get_ipython().config
    return False
