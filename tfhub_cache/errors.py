"""What can go wrong between a handle and a path, as exceptions that say what to do.

The two families are tensorflow_hub's: trouble with files and networks is an `OSError`, an answer
or an archive that must not be trusted is a `ValueError`. Programs that catch those keep working;
programs that want to know more catch the classes below.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from tfhub_cache.urls import printable


@dataclass(eq=False, repr=False, kw_only=True)
class ResolveError(OSError):
    """A handle could not be turned into a path. Its text is put together when it is shown.

    Attributes:
        what: what failed, and for which handle: a phrase, or a whole text where there are neither
            cause nor advice.
        cause: why, without the full stop; empty where `what` says it.
        advice: what to do; whole sentences, or empty.
        before: sentences that stand before all that, such as that the cached model is damaged.
        handle: the handle as it may be shown, without query and credentials.
        url: the last URL that was asked, without its query; None where none was.
        status: the HTTP status of the last answer; None where there was none.
    """

    what: str = field(kw_only=False)
    cause: str = ""
    advice: str = ""
    before: str = ""
    handle: str | None = None
    url: str | None = None
    status: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.what)  # by which pickle makes it again
        self.cause = printable(self.cause)

    @property
    def why(self) -> str:
        """Its text for a reader who knows what failed: cause and advice, if there is a cause."""
        return _lines(f"{self.cause}. {self.advice}".rstrip()) if self.cause else str(self)

    def __str__(self) -> str:
        what = f"{self.what}: {self.cause}." if self.cause else self.what
        return _lines(" ".join(filter(None, (self.before, what, self.advice))))


class DownloadError(ResolveError):
    """The archive could not be downloaded: network, TLS, proxy, or the server's refusal."""


class ArchiveError(ResolveError):
    """What was downloaded is not an archive, or not all of it."""


class OtherFileError(ArchiveError):
    """What was downloaded is a file of another kind, such as a TensorFlow Lite model."""


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


def _lines(text: str) -> str:
    """`text` with each of its lines made printable."""
    return "\n".join(map(printable, text.split("\n")))
