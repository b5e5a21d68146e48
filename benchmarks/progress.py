"""Lines on stderr that say what is being done."""

from __future__ import annotations

import sys
import time

_BEGUN = time.monotonic()


def say(line: str) -> None:
    print(f"[{time.monotonic() - _BEGUN:4.0f} s] {line}", file=sys.stderr, flush=True)
