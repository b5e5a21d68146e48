"""How to fetch: the settings, as values."""

from __future__ import annotations

from dataclasses import dataclass

from tfhub_cache.pins import Locked


@dataclass(frozen=True)
class FetchOptions:
    """How to fetch.

    Attributes:
        lock_timeout: seconds without a sign of life after which another machine's download
            counts as crashed.
        connections: how many connections a download may have at most.
        show_progress: whether to draw a progress bar; None: on a terminal and in a notebook.
        max_ratio: how many times larger than its archive a model may be.
        max_files: how many files and folders a model may have.
        keep_free: bytes of the disk that must stay free.
        max_size: bytes that the cache may have afterwards; None: any number.
        keep_used: seconds for which an entry stays after its last use, whatever `max_size` says.
        refresh: whether to replace an intact entry. It can be used until it is replaced.
        locked: what the model has to consist of; None: anything.
    """

    lock_timeout: float
    connections: int
    show_progress: bool | None
    max_ratio: float
    max_files: int
    keep_free: int
    max_size: int | None = None
    keep_used: float = 0.0
    refresh: bool = False
    locked: Locked | None = None
