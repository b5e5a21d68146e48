"""Links that other users may have put in place of a cache or of what is in it."""

from __future__ import annotations

import os
import stat


def is_planted_link(path: str) -> bool:
    """Whether a path is a link that belongs neither to this user nor to the administrator."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, _user())


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # Windows tells no owners
