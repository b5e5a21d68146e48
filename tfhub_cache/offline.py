"""`TFHUB_OFFLINE`: refuses what needs the network, and says what to do instead.

Models in a cache on this machine are used as usual.
"""

from __future__ import annotations

import shlex

from tfhub_cache.errors import OfflineError
from tfhub_cache.urls import argument, redact

_ON_THIS_MACHINE = ("file", "local", "memory", "ram")
"""Schemes that are known to need no network. Others might not need one either."""


def refusal(handle: str, root: str) -> OfflineError:
    """The error in place of a download into a cache."""
    return OfflineError(
        f"{redact(handle)} would have to be downloaded into the cache {redact(root)}, but "
        f"TFHUB_OFFLINE is set. {_fetch(handle)}"
    )


def refusal_of_unreadable(path: str) -> OfflineError:
    """The error for a cached model that another user owns and this one may not read."""
    return OfflineError(
        "It is not downloaded, as TFHUB_OFFLINE is set. Have its owner let others read it: "
        f"chmod -R a+rX {shlex.quote(path)}"
    )


def refusal_of_uncompressed(handle: str) -> OfflineError:
    """The error in place of a request for a model's folder in UNCOMPRESSED mode."""
    return OfflineError(
        f"{redact(handle)} is read over the network in UNCOMPRESSED mode, and TFHUB_OFFLINE is "
        f"set. Set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED. {_fetch(handle)}"
    )


def _fetch(handle: str) -> str:
    word = argument(handle) or "HANDLE"
    return f"Fetch it beforehand, where there is a network: tfhub-cache resolve {word}"


def check_path(path: str) -> None:
    """Refuses the path of a handle or a cache that is not on this machine.

    Raises:
        OfflineError: if the path has the scheme of another machine, or an unknown one.
    """
    scheme, separator, _ = path.lower().partition("://")
    if separator and scheme not in _ON_THIS_MACHINE:
        raise OfflineError(
            f"{redact(path)} is not on this machine, and TFHUB_OFFLINE is set. Use a copy in a "
            "local folder. If it is the cache, set TFHUB_CACHE_DIR to a local folder and fill it "
            "beforehand, where there is a network, with tfhub-cache resolve."
        )
