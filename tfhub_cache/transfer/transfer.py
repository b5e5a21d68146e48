"""Receiving an archive: what the server answers is read in order, and resumed where it breaks off.

An archive that is small, or can't be resumed, is read from the answer as it comes. Any other is
received in segments (`segments`), which may be kept for another attempt. That one asks for the
whole as well; as soon as the answer shows that it is the same archive, only what is missing is
received.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import Pause
from tfhub_cache.source.contract import WHOLE, Download, Source
from tfhub_cache.transfer.connection import CannotResumeError, Connection
from tfhub_cache.transfer.segments import LEAST_DIVIDED, Segments
from tfhub_cache.transfer.spool import Identity, Spool
from tfhub_cache.urls import redact


@dataclass(eq=False)
class Transfer:
    """An archive on its way: a context manager, and a `ByteStream` for one reader.

    The archive's bytes are read in order, all of one version by the server's word. At their end it
    fails if they are not what the server promised: so many, and with the checksums that it stated.

    Attributes:
        handle: what it is for.
        source: where the archive is.
        keep: gives the place where bytes are kept, with those of an earlier attempt, if it has one.
        connections: how many there may be at most.
        report: is called with the number of bytes received, and their number in all.
        pause: is called before the archive is asked for once more.
        download: what the server says of the archive.
        received: the number of bytes that were read.
        resumed: whether it resumes what an earlier attempt has received.
        failure: with what the network failed for good, if a later attempt can resume.
    """

    handle: str
    source: Source
    keep: Callable[[Identity], Spool | None]
    connections: int
    report: Callable[[int, int | None], object]
    pause: Pause
    download: Download = field(init=False)
    received: int = field(default=0, init=False)
    resumed: bool = field(default=False, init=False)
    failure: DownloadError | None = field(default=None, init=False)
    _segments: Segments | None = field(default=None, init=False)

    def __enter__(self) -> Transfer:
        with contextlib.ExitStack() as undo:
            answer = undo.enter_context(contextlib.ExitStack())
            self.download = answer.enter_context(self.source.open(WHOLE, self.pause))
            connect = functools.partial(Connection, self.handle, self.source, self.download)
            self._first = connect(answer)
            self._digests = _digests(self.download.checksums)
            spool = self._new_spool()
            if spool is not None:
                self.resumed = spool.kept() > 0
                most = self.connections if self.download.divisible else 1
                segments = Segments(spool, connect, self._first, most, self.report)
                undo.callback(segments.end, keep=True)
                segments.begin()
                self._segments = segments
            undo.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._segments is not None:
            # A later attempt may resume after an interruption, or where the network failed.
            is_resumable = error is self.failure or not isinstance(error, Exception)
            self._segments.end(keep=error is not None and is_resumable)
        else:
            if error is not None:
                self._first.close()  # another thread may still be reading
            self._first.drop()

    @property
    def is_stuck(self) -> bool:
        """Whether it was to resume what was received earlier, and has received nothing."""
        return self.resumed and not self._first.is_proven

    @property
    def takes_room(self) -> bool:
        """Whether what is received is kept on the cache's disk."""
        return self._segments is not None and self._segments.spool.is_kept

    def read(self, size: int, /) -> bytes:
        try:
            data = self._receive(size) if self._segments is None else self._segments.read(size)
        except DownloadError as error:
            is_one_version = None not in (self.download.version, self.download.size)
            if is_one_version and not isinstance(error, CannotResumeError):
                self.failure = error
            kept = self._segments.spool.kept() if self.failure and self._segments else 0
            error.advice = (
                f"{kept} of {self.download.size} bytes are kept: try again to resume from there."
                if kept
                else "Nothing of it was kept; try again."
            )
            raise
        self.received += len(data)
        for digest in self._digests.values():
            digest.update(data)
        if not data:
            self._check()
        return data

    def close(self) -> None:
        (self._segments or self._first).close()

    def _receive(self, size: int) -> bytes:
        """The next bytes, where there are no segments."""
        while self.received != self.download.size:
            try:
                data = self._first.read(self.received, None, size, alone=True)
            except DownloadError as error:
                self._first.recover(error, alone=True)
            else:
                self.report(self.received + len(data), self.download.size)
                return data
        return b""

    def _check(self) -> None:
        """Compares the checksums with those that the server promised; the size is right by now."""
        handle, url = redact(self.handle), self.download.url
        for name, digest in self._digests.items():
            promised = self.download.checksums[name]
            got = base64.b64encode(digest.digest()).decode()
            if got != promised:
                raise DownloadError(
                    f"The download of {handle} from {url} is not what the server promised: "
                    f"expected {name} {promised}, got {got}. Something on the way may have "
                    "changed it: try again, or from another network.",
                    handle=handle,
                    url=url,
                )

    def _new_spool(self) -> Spool | None:
        """Where segments wait, and those of an earlier attempt are; None without segments."""
        size, version = self.download.size, self.download.version
        if not size or not version or size < LEAST_DIVIDED or self.download.is_web_page:
            return None
        identity = Identity(self.handle, size, version)
        return self.keep(identity) or Spool(identity)


def _digests(promised: Iterable[str]) -> dict[str, Any]:
    """What computes the checksums that a server promises, and no others."""
    digests: dict[str, Any] = {}
    if "md5" in promised:
        digests["md5"] = hashlib.md5(usedforsecurity=False)
    if "crc32c" in promised:
        import google_crc32c  # only for what Google's servers send

        digests["crc32c"] = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    return digests
