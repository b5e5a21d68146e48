"""Where an archive's bytes come from: HTTP(S), or an object in Google Cloud Storage.

A source is any callable that takes a handle and returns a context manager of a `Download`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias


class ByteStream(Protocol):
    """What an archive is read from, once, from its first byte to its last."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, and none at the end only.

        Raises:
            DownloadError: if the rest can't be had, or the stream ended too early.
        """

    def close(self) -> None:
        """Stops receiving; a `read` that waits in another thread ends soon after."""


@dataclass(frozen=True)
class Download:
    """An archive that is being received.

    Attributes:
        stream: its bytes as the publisher stored them.
        url: where they come from, as it may be shown.
        size: their number, or None where the server does not tell.
        media_type: the server's Content-Type without its parameters, or "".
        checksums: `md5` and `crc32c` of the bytes, where the server tells them.
        validators: what the server says to tell this version from others, such as its ETag.
    """

    stream: ByteStream
    url: str
    size: int | None = None
    media_type: str = ""
    checksums: Mapping[str, bytes] = field(default_factory=dict)
    validators: Mapping[str, str] = field(default_factory=dict)


Source: TypeAlias = Callable[[str], AbstractContextManager[Download]]
