"""What can go wrong between a handle and a path, as exceptions that say what to do.

The two families are tensorflow_hub's: trouble with files and networks is an `OSError`, an answer
or an archive that must not be trusted is a `ValueError`. Programs that catch those keep working;
programs that want to know more catch the classes below.
"""

from __future__ import annotations

import os

from tfhub_cache.printing import printable


class ResolveError(OSError):
    """A handle could not be turned into a path.

    Attributes:
        handle: the handle as it may be shown, without query and credentials.
        url: the last URL that was asked, without its query; None where none was.
        status: the HTTP status of the last answer; None where there was none.
    """

    def __init__(
        self,
        message: str,
        *,
        handle: str | None = None,
        url: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__("\n".join(map(printable, message.split("\n"))))
        self.handle = handle
        self.url = url
        self.status = status


class DownloadError(ResolveError):
    """The bytes could not be fetched: network, TLS, proxy, or the server's refusal."""


class ArchiveError(ResolveError):
    """What was fetched is no archive, or not all of it."""


class CacheError(ResolveError):
    """The cache could not be read or written."""


class OfflineError(ResolveError):
    """It needs the network, which `TFHUB_OFFLINE` forbids."""


class LockfileError(ResolveError):
    """The lock file (`TFHUB_LOCKFILE`) does not allow it, or can't be read."""


class UnsafeArchiveError(ValueError):
    """An archive member would land outside its folder, or is neither a file nor a folder."""


class ProtocolError(ValueError):
    """The host's answer to an UNCOMPRESSED request is not the one that the protocol asks for."""


def reason(error: OSError) -> str:
    """What went wrong, with the file that it is about."""
    file = "" if error.filename is None else f" ({os.fspath(error.filename)})"
    return printable(f"{error.strerror or error}{file}")
