"""Where an archive's bytes come from: HTTP(S), or an object in Google Cloud Storage.

A `Source` is asked for an archive from any of its bytes on: to begin, to resume where a connection
broke off, and by several connections at once. Each time it answers with a `Download`, which
describes what is being received.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tfhub_cache.retrying import Pause


class ByteStream(Protocol):
    """What an archive is read from, once, from its first byte to its last."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, and none at the end only.

        Raises:
            DownloadError: if the rest is unavailable, or the stream ended too early.
        """

    def close(self) -> None:
        """Stops receiving; a `read` that waits in another thread ends soon after."""


@dataclass(frozen=True)
class Download:
    """An archive that is being received.

    Attributes:
        stream: its bytes as the publisher stored them, from `first` on.
        url: where they come from, as it may be shown.
        size: the number of the archive's bytes, or None where the server does not say.
        media_type: the server's Content-Type without its parameters, or "".
        checksums: `md5` and `crc32c` of the whole archive in base64, where the server states
            them.
        validators: what distinguishes this version from others, such as its ETag.
        first: which of the archive's bytes comes first, counted from 0.
        version: what to give to `Source.open` to get more of the same bytes; None where nothing
            says that the bytes of two answers belong together.
        divisible: whether the server has said that it sends parts of the archive.
    """

    stream: ByteStream
    url: str
    size: int | None = None
    media_type: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    validators: Mapping[str, str] = field(default_factory=dict)
    first: int = 0
    version: str | None = None
    divisible: bool = False

    @property
    def is_web_page(self) -> bool:
        """Whether it is a page for people, by the server's own word."""
        return self.media_type in ("text/html", "application/xhtml+xml")


class Part(NamedTuple):
    """Bytes of an archive.

    Attributes:
        first: the first one, counted from 0.
        stop: the one that comes after the last; None: all to the archive's end.
        version: the `Download.version` that they are of, if `first` is not 0.
    """

    first: int = 0
    stop: int | None = None
    version: str | None = None


WHOLE = Part()


class Source(abc.ABC):
    """One archive, wherever it is. Several threads may open it at once.

    Attributes:
        shown: where it is, as it may be shown.
        is_mirror: whether it stands in for the host of the handle.
    """

    shown: str
    is_mirror: bool = False

    @abc.abstractmethod
    def open(self, part: Part, pause: Pause) -> AbstractContextManager[Download]:
        """Asks for the archive, or a part of it.

        Args:
            part: which of its bytes are wanted.
            pause: is called before a request that failed is repeated.

        Returns:
            What is being received. It begins at byte 0, whatever was asked, if the server does not
            send parts, or its archive is of another version now.

        Raises:
            DownloadError: if the archive is unavailable.
        """
