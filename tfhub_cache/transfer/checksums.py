"""What was received is what the server promised: its size, and the checksums that are known."""

from __future__ import annotations

import base64
import hashlib
from typing import Protocol, cast

from tfhub_cache.errors import DownloadError
from tfhub_cache.source.contract import ByteStream, Download
from tfhub_cache.urls import redact


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...

    def digest(self) -> bytes: ...


class CheckedStream:
    """A download's stream, which fails at its end if it is not what the server promised.

    Attributes:
        received: the number of bytes that were read.
    """

    def __init__(self, handle: str, download: Download, stream: ByteStream) -> None:
        """Checks a download.

        Args:
            handle: what it is for.
            download: what the server promised. Of a checksum that it does not promise, none is
                computed.
            stream: the download's stream, perhaps with something around it.
        """
        self.received = 0
        self._handle = redact(handle)
        self._download = download
        self._stream = stream
        self._promised: list[tuple[str, str, _Digest]] = [
            (name, value, digest)
            for name, value in download.checksums.items()
            if (digest := _digest(name)) is not None
        ]

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        if data:
            self.received += len(data)
            for _, _, digest in self._promised:
                digest.update(data)
        else:
            self._check()
        return data

    def close(self) -> None:
        self._stream.close()

    def _check(self) -> None:
        expected = self._download.size
        if expected is not None and self.received != expected:
            self._fail("size", f"{expected} bytes", f"{self.received} bytes")
        for name, promised, digest in self._promised:
            got = base64.b64encode(digest.digest()).decode()
            if got != promised:
                self._fail(name, promised, got)

    def _fail(self, what: str, expected: str, got: str) -> None:
        raise DownloadError(
            f"The download of {self._handle} from {self._download.url} is not what the server "
            f"promised: expected {what} {expected}, got {got}. Something on the way may have "
            "changed it: try again, or from another network.",
            handle=self._handle,
            url=self._download.url,
        )


def _digest(name: str) -> _Digest | None:
    if name == "md5":
        return hashlib.md5(usedforsecurity=False)
    try:
        import google_crc32c  # comes with gcsfs; only for what Google's servers send
    except ImportError:
        return None
    return cast(_Digest, google_crc32c.Checksum())  # type: ignore[no-untyped-call]
