"""Downloading: the archive's sources and a claim go in, a manifest of what was unpacked comes out.

Nothing is published here. The archive is checked against what the server promises of it, and, with
a lock file, the unpacked files against what is locked.
"""

from __future__ import annotations

import datetime
import errno
import os
import socket
from collections.abc import Callable, Sequence

from absl import logging

from tfhub_cache import settings
from tfhub_cache.errors import (
    ArchiveError,
    DownloadError,
    LockfileError,
    OtherFileError,
    UnsafeArchiveError,
)
from tfhub_cache.fetching import batch
from tfhub_cache.fetching.progress import Progress
from tfhub_cache.manifest import Manifest, Origin
from tfhub_cache.pins import Locked, Pin
from tfhub_cache.source.contract import Source
from tfhub_cache.source.mirrors import first_that_serves
from tfhub_cache.store.contract import Claim
from tfhub_cache.transfer.spool import Identity, Spool
from tfhub_cache.transfer.transfer import Transfer
from tfhub_cache.unpacking.archive import Limits, SizeExceeded, unpack
from tfhub_cache.urls import redact
from tfhub_cache.version import __version__

_ADVICE = {
    ArchiveError: "The download may be damaged or the handle may not name a model; try again.",
    OtherFileError: (
        "The server sent a web page: open the handle in a browser; the model may need a login, or "
        "the handle may lack its version; at Kaggle, its framework and variation."
    ),
}
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def download(
    handle: str, sources: Sequence[Source], claim: Claim, locked: Locked | None
) -> Manifest:
    """Fills the claim's folder from the first source that has the right bytes.

    Args:
        handle: the handle as the user wrote it.
        sources: where the archive is, in the order in which they are asked.
        claim: where it is unpacked to.
        locked: what has to be in it; None: anything.

    Returns:
        What was unpacked.

    Raises:
        ResolveError: see `Cache.fetch`.
        UnsafeArchiveError: if the archive must not be unpacked.
    """

    def restart() -> None:
        batch.check()
        claim.clear()

    def attempt(source: Source) -> Manifest:
        return _download(handle, claim, locked, source)

    return first_that_serves(handle, sources, attempt, restart)


def _download(handle: str, claim: Claim, locked: Locked | None, source: Source) -> Manifest:
    """Fills the claim's folder from a source; once more from the start where that may help."""
    show_progress = settings.DOWNLOAD_PROGRESS.value()
    max_ratio, max_files = settings.UNPACK_MAX_RATIO.value(), settings.UNPACK_MAX_FILES.value()
    limits = Limits(max_ratio, max_files, locked.pin.size if locked else None)
    connections, is_repeated = settings.DOWNLOAD_CONNECTIONS.value(), False
    keep: Callable[[Identity], Spool | None] = claim.spool
    while True:
        transfer: Transfer | None = None
        try:
            with (
                Progress(f"Downloading {redact(handle)}", show_progress) as progress,
                Transfer(handle, source, keep, connections, progress, batch.pause) as transfer,
                batch.closes(transfer),
            ):
                return _receive(handle, transfer, claim, locked, limits)
        except OSError as error:
            batch.check()
            if transfer is None or is_repeated or not _is_worth_repeating(error, transfer):
                raise
            logging.warning("%s Trying once more from the start.", error)
            # Without what may have failed: several connections, a file beside the model.
            connections, is_repeated = 1, True
            if error.errno in _NO_ROOM or error is transfer.failure:
                keep = Spool
        claim.clear()


def _is_worth_repeating(error: OSError, transfer: Transfer) -> bool:
    """Whether a restart may help."""
    if error.errno in _NO_ROOM:
        return transfer.takes_room
    if isinstance(error, LockfileError):
        return transfer.resumed  # what another server sent before may be to blame
    if error is transfer.failure:
        return transfer.is_stuck  # as it may be with each part; what is kept stays
    if isinstance(error, OtherFileError):
        return False
    return isinstance(error, ArchiveError | DownloadError)


def _receive(
    handle: str, transfer: Transfer, claim: Claim, locked: Locked | None, limits: Limits
) -> Manifest:
    download = transfer.download
    try:
        files = unpack(transfer, claim, limits, download.size)
    except ArchiveError as error:
        kind = OtherFileError if download.is_web_page else type(error)
        raise kind(
            f"{download.url} does not appear to be a valid module. Resolving {redact(handle)} "
            f"failed",
            cause=error.what,
            advice=error.advice or _ADVICE[kind],
            handle=redact(handle),
            url=download.url,
        ) from None
    except SizeExceeded:
        assert locked is not None
        raise locked.refusal(handle, download.url, "more") from None
    except UnsafeArchiveError as error:
        raise UnsafeArchiveError(
            f"{redact(handle)} is not unpacked, and nothing of it is kept. {error}"
        ) from None
    manifest = Manifest(
        handle=handle,
        url=download.url,
        archive_size=transfer.received,
        files=files,
        downloaded=Origin(
            time=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            host=socket.gethostname(),
            pid=os.getpid(),
            library=f"tfhub-cache {__version__}",
        ),
        validators=dict(download.validators),
    )
    if locked is not None and (found := Pin.of(manifest)) != locked.pin:
        raise locked.refusal(handle, download.url, str(found))
    return manifest
