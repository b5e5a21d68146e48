"""The manifest of an entry: what was downloaded, from where, by whom, and what it must look like.

It is JSON, made to be read by people too, and stands beside the entry's folder, since the folder
holds the model exactly as published.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
_NO_NAMES = frozenset({"", ".", ".."})


class UnknownFormat(ValueError):  # noqa: N818 - it reads as what it is
    """A manifest of a format that this version does not know."""


@dataclass(frozen=True)
class File:
    """One file of a model: its path in the model's folder, its size in bytes, its digest."""

    path: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        parts = _text(self.path).replace(os.sep, "/").split("/")
        # Whoever may write to a cache must not have files read that are elsewhere.
        if not _NO_NAMES.isdisjoint(parts) or "\0" in self.path or os.path.isabs(self.path):
            raise ValueError(f"the path {self.path!r} is not below the model's folder")
        _number(self.size)
        _text(self.sha256)


@dataclass(frozen=True)
class Archive:
    """The archive as it was received: its size in bytes, its digest."""

    size: int
    sha256: str

    def __post_init__(self) -> None:
        _number(self.size)
        _text(self.sha256)


@dataclass(frozen=True)
class Origin:
    """When an entry was made, and by whom."""

    time: str
    host: str
    pid: int
    library: str

    def __post_init__(self) -> None:
        _number(self.pid)
        for text in self.time, self.host, self.library:
            _text(text)


@dataclass(frozen=True)
class Manifest:
    """What is known of an entry.

    Attributes:
        handle: the handle as the user wrote it.
        url: where the archive came from after all redirects, without its query.
        archive: the archive as it was received.
        files: the model's files, in the order of their paths.
        downloaded: when and by whom.
        validators: what the server said to tell this version from others, such as its ETag.
    """

    handle: str
    url: str
    archive: Archive
    files: tuple[File, ...]
    downloaded: Origin
    validators: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The manifest as it is kept."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Reads a manifest.

        Raises:
            UnknownFormat: if it is of a format that this version does not know.
            ValueError: if it is none.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("format") != FORMAT:
                raise UnknownFormat("the manifest is of another format")
            if not data["files"]:
                raise ValueError("a manifest of no files")
            return cls(
                handle=_text(data["handle"]),
                url=_text(data["url"]),
                archive=Archive(**data["archive"]),
                files=tuple(File(**file) for file in data["files"]),
                downloaded=Origin(**data["downloaded"]),
                validators={_text(k): _text(v) for k, v in data["validators"].items()},
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no manifest: {error!r}") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no number of 0 or more")
    return value
