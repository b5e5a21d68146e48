"""Opening: an archive is asked for from where an earlier attempt ended, or else from its start."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from tfhub_cache.errors import DownloadError
from tfhub_cache.source import Download, Source
from tfhub_cache.store import Claim
from tfhub_cache.store.spool import Identity, MemorySpool, Spool


def open_archive(
    handle: str,
    source: Source,
    claim: Claim,
    opened: contextlib.ExitStack,
    *,
    pause: Callable[[float], object],
    in_memory: bool,
) -> tuple[Download, Spool]:
    """Asks for an archive, and finds a place for its bytes.

    Args:
        handle: what it is for.
        source: where it is.
        claim: what may have bytes of an earlier attempt.
        opened: takes the answer, which is to be closed.
        pause: waits for so many seconds before it is asked for once more.
        in_memory: whether to take no room on the disk.

    Returns:
        What is being received, and where to put it; the spool has what was there already.

    Raises:
        DownloadError: if the archive can't be had.
    """
    leftover = None if in_memory else claim.leftover()
    if leftover is not None:
        download = _open_rest(source, leftover, opened, pause)
        if download is not None:
            return download, leftover
    download = opened.enter_context(source.open(pause=pause))
    identity = Identity(handle, download.size, download.version, dict(download.checksums))
    if in_memory or download.is_web_page:  # what is kept may still be of use
        return download, MemorySpool(identity)
    return download, claim.spool(identity)


def _open_rest(
    source: Source,
    leftover: Spool,
    opened: contextlib.ExitStack,
    pause: Callable[[float], object],
) -> Download | None:
    """Asks for what is missing of a spool; None, and the spool is closed, if that is of no use."""
    identity = leftover.identity
    assert identity.size is not None
    # If nothing is missing, the last byte tells whether it is still the same archive.
    first = min(leftover.received.end_of_run(0), identity.size - 1)
    expected = first, identity.version, identity.size
    with contextlib.ExitStack() as undo:
        undo.callback(leftover.close, keep=True)
        undo.callback(opened.close)
        # However it fails, it may be for want of parts, and the whole may still be had.
        with contextlib.suppress(DownloadError):
            download = opened.enter_context(
                source.open(first, version=identity.version, pause=pause)
            )
            if (download.first, download.version, download.size) == expected:
                undo.pop_all()
                # An answer with a part may say less of the whole than one with all.
                checksums = {**identity.checksums, **download.checksums}
                return dataclasses.replace(download, checksums=checksums)
    return None
