"""Entries in caches on a disk, in every state in which they are found."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import models
from processes import dead_pid

from tfhub_cache.manifest import File, Manifest, Origin

HOUR = 3600.0
DAY = 24 * HOUR
SHARD = "variables/variables.data-00000-of-00001"
DEAD = "elsewhere.1.0123abcd"
"""Who holds a lock file on another machine, as tensorflow_hub writes it."""


def key_of(handle: str) -> str:
    """The name of a handle's entry."""
    return hashlib.sha1(handle.encode()).hexdigest()


def ours(
    cache: Path, handle: str, files: Mapping[str, bytes] | None = None, *, used: float = 0.0
) -> Path:
    """An entry as this library makes it, which was used so many seconds ago."""
    files = models.fake_model(size=1000) if files is None else files
    entry = models.write_files(files, cache / key_of(handle))
    manifest = Manifest(
        handle=handle,
        url=handle,
        archive_size=123,
        files=tuple(
            File(name, len(content), hashlib.sha256(content).hexdigest())
            for name, content in sorted(files.items())
        ),
        downloaded=Origin("2026-01-02T03:04:05+00:00", "machine", 4711, "tfhub-cache 0.1.0"),
    )
    Path(f"{entry}.manifest.json").write_text(manifest.to_json())
    Path(f"{entry}.descriptor.txt").write_text(f"Module: {handle}\n")
    was_used(entry, used)
    return entry


def foreign(cache: Path, handle: str, *, used: float = 0.0, descriptor: bool = True) -> Path:
    """An entry as tensorflow_hub makes it."""
    entry = models.write_files(models.fake_model(size=1000), cache / key_of(handle))
    if descriptor:
        Path(f"{entry}.descriptor.txt").write_text(
            f"Module: {handle}\nDownload Time: 2026-01-02 03:04:05.678901\n"
            "Downloader Hostname: machine (PID:4711)"
        )
    was_used(entry, used)
    return entry


def left_behind(cache: Path, handle: str) -> dict[str, int]:
    """What processes that died while they made an entry left of it: names and bytes."""
    base = cache / key_of(handle)
    content = {
        f"{base.name}.lock": f"{socket.gethostname()}.{dead_pid()}.cache-0123".encode(),
        f"{base.name}.part": b"half of an archive" * 100,
        f"{base.name}.part.json": b"{}",
        f"{base.name}.cache-0123.tmp/saved_model.pb": b"half of a model",
        f"{base.name}.cache-4567.old.tmp/variables/variables.index": b"a damaged one",
        f"{base.name}.manifest.json": b"{}",
    }
    models.write_files(content, cache)
    return {name.partition("/")[0]: len(data) for name, data in content.items()}


def as_another_process() -> None:
    """Goes on without what this process remembers of the cache, which goes by its spelling."""
    os.environ["TFHUB_CACHE_DIR"] += "/"


def was_used(entry: Path, seconds_ago: float) -> None:
    moment = time.time() - seconds_ago
    os.utime(entry, (moment, moment))


def seconds_since_use(entry: Path) -> float:
    return time.time() - entry.stat().st_mtime


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()} if folder.exists() else set()
