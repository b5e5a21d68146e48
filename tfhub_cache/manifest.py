"""The manifest of an entry: what was downloaded, from where, by whom, and what it must look like.

It is JSON, made to be read by people too, and stands beside the entry's folder, since the folder
holds the model exactly as published.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1


class UnknownFormat(ValueError):  # noqa: N818 - it reads as what it is
    """A manifest of a format that this version does not know."""


@dataclass(frozen=True)
class File:
    """One file of a model: its path in the model's folder, its size in bytes, its digest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """The archive as it was received: its size in bytes, its digest."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Origin:
    """When an entry was made, and by whom."""

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
                handle=str(data["handle"]),
                url=str(data["url"]),
                archive=Archive(**data["archive"]),
                files=tuple(File(**file) for file in data["files"]),
                downloaded=Origin(**data["downloaded"]),
                validators=dict(data["validators"]),
            )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no manifest: {error!r}") from error
