"""Receiving an archive: what the server answers is read in order, and resumed where it breaks off.

An archive that is small, or can't be resumed, is read from the answer as it comes. Any other is
received in segments (`segments`), which may be kept for another attempt.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tfhub_cache.errors import DownloadError
from tfhub_cache.source.contract import Download, Source
from tfhub_cache.transfer.connection import CannotResumeError, Connection
from tfhub_cache.transfer.segments import LEAST_DIVIDED, Segments
from tfhub_cache.transfer.spool import Identity, Spool, Spools
from tfhub_cache.urls import redact


@dataclass(eq=False)
class Transfer:
    """An archive on its way: a context manager, and a `ByteStream` for one reader.

    The archive's bytes are read in order, all of one version by the server's word. At their end it
    fails if they are not what the server promised: so many, and with the checksums that it stated.

    Attributes:
        handle: what it is for.
        source: where the archive is.
        claim: where bytes are kept, and may be of an earlier attempt.
        connections: how many there may be at most.
        report: is called with the number of bytes received, and their number in all.
        pause: waits for so many seconds before the archive is asked for once more.
        in_memory: whether to take no room on the disk.
        download: what the server says of the archive.
        received: the number of bytes that were read.
        resumed: whether it resumes what an earlier attempt has received.
        takes_room: whether what is received is kept on the cache's disk.
        failure: with what the network failed for good, if a later attempt can resume.
    """

    handle: str
    source: Source
    claim: Spools
    connections: int
    report: Callable[[int, int | None], object]
    pause: Callable[[float], object]
    in_memory: bool = False
    download: Download = field(init=False)
    received: int = field(default=0, init=False)
    resumed: bool = field(default=False, init=False)
    takes_room: bool = field(default=False, init=False)
    failure: DownloadError | None = field(default=None, init=False)
    _spool: Spool | None = field(default=None, init=False)
    _segments: Segments | None = field(default=None, init=False)

    def __enter__(self) -> Transfer:
        with contextlib.ExitStack() as undo:
            answer = undo.enter_context(contextlib.ExitStack())
            leftover = None if self.in_memory else self.claim.leftover()
            if leftover is not None:
                undo.callback(leftover.close, keep=True)
                self.resumed = self._open_rest(leftover, answer)
            self._spool = leftover if self.resumed else self._open_whole(leftover, answer)
            connect = functools.partial(Connection, self.handle, self.source, self.download)
            self._first = connect(answer)
            self._digests = _digests(self.download.checksums)
            if self._spool is not None:
                self.takes_room = self._spool.is_kept
                most = self.connections if self.download.divisible else 1
                segments = Segments(self._spool, connect, self._first, most, self.report)
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

    def read(self, size: int, /) -> bytes:
        try:
            data = self._receive(size) if self._segments is None else self._segments.read(size)
        except DownloadError as error:
            is_resumable = None not in (self.download.version, self.download.size)
            if is_resumable and not isinstance(error, CannotResumeError):
                self.failure = error
            kept = self._spool.kept() if self._spool is not None and self.failure else 0
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
        """Compares what was received with what the server promised."""
        handle, url, size = redact(self.handle), self.download.url, self.download.size
        compared = [("size", f"{size} bytes", f"{self.received} bytes")] if size is not None else []
        for name, digest in self._digests.items():
            got = base64.b64encode(digest.digest()).decode()
            compared.append((name, self.download.checksums[name], got))
        for name, promised, got in compared:
            if got != promised:
                raise DownloadError(
                    f"The download of {handle} from {url} is not what the server promised: "
                    f"expected {name} {promised}, got {got}. Something on the way may have "
                    "changed it: try again, or from another network.",
                    handle=handle,
                    url=url,
                )

    def _open_rest(self, leftover: Spool, answer: contextlib.ExitStack) -> bool:
        """Asks for what is missing of a spool; False if that is of no use."""
        identity = leftover.identity
        # If nothing is missing, the last byte shows whether it is still the same archive.
        first = min(leftover.first_missing(), identity.size - 1)
        # Whatever the error, the server may only lack parts: the whole is asked for next.
        with contextlib.suppress(DownloadError):
            got = answer.enter_context(
                self.source.open(first, None, identity.version, pause=self.pause)
            )
            if (got.first, got.version, got.size) == (first, identity.version, identity.size):
                # An answer with a part may say less of the whole than one with all.
                checksums = {**identity.checksums, **got.checksums}
                self.download = dataclasses.replace(got, checksums=checksums)
                return True
        answer.close()
        return False

    def _open_whole(self, leftover: Spool | None, answer: contextlib.ExitStack) -> Spool | None:
        """Asks for the whole archive, and makes a spool for it if it is to have one."""
        self.download = answer.enter_context(self.source.open(pause=self.pause))
        size, version = self.download.size, self.download.version
        if leftover is not None:
            leftover.close(keep=self.download.is_web_page)  # which may be a captive portal's
        if not size or not version or size < LEAST_DIVIDED or self.download.is_web_page:
            return None
        identity = Identity(self.handle, size, version, dict(self.download.checksums))
        return (None if self.in_memory else self.claim.spool(identity)) or Spool(identity)


def _digests(promised: Iterable[str]) -> dict[str, Any]:
    """What computes the checksums that a server promises, and no others."""
    digests: dict[str, Any] = {}
    if "md5" in promised:
        digests["md5"] = hashlib.md5(usedforsecurity=False)
    if "crc32c" in promised:
        with contextlib.suppress(ImportError):
            import google_crc32c  # comes with gcsfs; only for what Google's servers send

            digests["crc32c"] = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    return digests
