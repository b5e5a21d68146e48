"""The manifest of an entry: what was downloaded, from where, by which process, and its files.

It is JSON that people can read, and is kept beside the entry's folder, since the folder holds the
model exactly as published.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tfhub_cache import bounded_json
from tfhub_cache.bounded_json import number, sha256, text

FORMAT = 2
"""Format 1 had `archive` with `size` and `sha256` in place of `archive_size`."""
MOST_BYTES = 32 << 20
"""Bytes that a manifest may have: enough for 100,000 files with names of 190 characters."""
_NO_NAMES = frozenset({"", ".", ".."})
_ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})
"""How GNU sha256sum escapes the names of files, since coreutils 9.0."""


class UnknownFormat(ValueError):  # noqa: N818 - it reads as what it is
    """A manifest of a format that this version does not know."""


@dataclass(frozen=True)
class File:
    """One file of a model: its path in the model's folder, its size in bytes, its digest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Origin:
    """When an entry was made, and by which process."""

    time: str
    host: str
    pid: int
    library: str


@dataclass(frozen=True)
class Manifest:
    """What is known of an entry.

    Attributes:
        handle: the handle as the user wrote it.
        url: where the archive came from after all redirects, without its query.
        archive_size: bytes of the archive as it was received.
        files: the model's files, in the order of their paths.
        downloaded: when and by which process.
        validators: by what the server distinguishes this version from others, such as its ETag.
    """

    handle: str
    url: str
    archive_size: int
    files: tuple[File, ...]
    downloaded: Origin
    validators: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the model's files."""
        return sum(file.size for file in self.files)

    @functools.cached_property
    def digest(self) -> str:
        """The digest of the model's files, see `digest_of`."""
        return digest_of(self.files)

    def to_json(self) -> str:
        """The manifest as it is kept.

        Raises:
            OSError: with `errno.EFBIG` if it is too large to be read again.
        """
        content = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n"
        if len(content) > MOST_BYTES:
            raise OSError(errno.EFBIG, "The model has too many files, or too long names of files")
        return content

    def descriptor(self) -> str:
        """The text of the descriptor file, line by line as tensorflow_hub writes it."""
        made = self.downloaded
        handle = self.handle.replace("\r", "\\r").replace("\n", "\\n")
        return (
            f"Module: {handle}\nDownload Time: {made.time}\n"
            f"Downloader Hostname: {made.host} (PID:{made.pid})"
        )

    @classmethod
    def from_json(cls, content: str | bytes) -> Manifest:
        """Reads a manifest.

        Raises:
            UnknownFormat: if it is of a format that this version does not know.
            ValueError: if it is not a valid manifest, or larger than `MOST_BYTES`.
        """
        if len(content) > MOST_BYTES:
            raise ValueError("a manifest that is too large")
        try:
            data: dict[str, Any] = bounded_json.parse(content)
            if data["format"] == 1:
                data["archive_size"] = data["archive"]["size"]
            elif data["format"] != FORMAT:
                raise UnknownFormat("the manifest is of another format")
            files = tuple(_file(file) for file in data["files"])
            if not files or len({file.path for file in files}) != len(files):
                raise ValueError("a manifest of no files, or that has one twice")
            made = data["downloaded"]
            return cls(
                handle=text(data["handle"]),
                url=text(data["url"]),
                archive_size=number(data["archive_size"]),
                files=files,
                downloaded=Origin(
                    text(made["time"]),
                    text(made["host"]),
                    number(made["pid"]),
                    text(made["library"]),
                ),
                validators={text(k): text(v) for k, v in data["validators"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a valid manifest: {error!r}") from error


def digest_of(files: Iterable[File]) -> str:
    r"""The digest of a model: the SHA-256 of its files' sorted SHA-256 sums, in hex.

    A shell computes the same in the model's folder:

        find . -type f -printf '%P\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum
    """
    lines = []
    for file in files:
        name = file.path.translate(_ESCAPED)
        line = f"{file.sha256}  {name}\n" if name == file.path else f"\\{file.sha256}  {name}\n"
        lines.append(line.encode("utf-8", "surrogateescape"))
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def _file(data: dict[str, Any]) -> File:
    path = text(data["path"])
    # A manifest must not lead to files outside of the cache.
    parts = path.replace(os.sep, "/").split("/")
    if not _NO_NAMES.isdisjoint(parts) or "\0" in path or os.path.isabs(path):
        raise ValueError(f"the path {path!r} is not below the model's folder")
    path.encode("utf-8", "surrogateescape")  # or no file can have that name
    return File(path, number(data["size"]), sha256(data["sha256"]))
