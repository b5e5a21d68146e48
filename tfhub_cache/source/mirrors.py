"""Mirrors: models of the public hosts, asked for elsewhere, in an order that the user gives.

`TFHUB_MIRROR=https://hub.example.com/models,direct` asks for `https://tfhub.dev/google/spice/2`
at `https://hub.example.com/models/google/spice/2` first, and then where the handle says. It is the
idea, and the word, of Go's GOPROXY: https://go.dev/ref/mod#goproxy-protocol.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from absl import logging

from tfhub_cache.errors import CacheError, ProtocolError, ResolveError, UnsafeArchiveError
from tfhub_cache.notation import DIRECT
from tfhub_cache.source.contract import Source
from tfhub_cache.urls import append_query, host_of, redact, request_target

_PUBLIC = frozenset(
    {"tfhub.dev", "www.tfhub.dev", "kaggle.com", "www.kaggle.com", "hub.tensorflow.google.cn"}
)
"""Hosts whose models may be asked for elsewhere. Any other host was chosen by the user."""


@dataclass(frozen=True)
class Address:
    """A URL, and whether it stands in for the host of the handle."""

    url: str
    is_mirror: bool = False

    @property
    def shown(self) -> str:
        return redact(self.url)


def addresses(handle: str, direct: str, model_format: str, mirrors: Sequence[str]) -> list[Address]:
    """Where a handle is asked for, in order.

    Args:
        handle: an http(s) handle.
        direct: the URL at its own host.
        model_format: what to ask the mirrors for, `compressed` or `uncompressed`.
        mirrors: URLs without a slash at their end, and `direct`. They count for handles of the
            public hosts only.
    """
    if not mirrors or host_of(handle) not in _PUBLIC:
        return [Address(direct)]
    return [
        Address(direct)
        if mirror == DIRECT
        else Address(
            append_query(f"{mirror}{request_target(handle)}", "tf-hub-format", model_format), True
        )
        for mirror in mirrors
    ]


_P = TypeVar("_P", Address, Source)
_R = TypeVar("_R")


def first_that_serves(
    handle: str,
    places: Sequence[_P],
    attempt: Callable[[_P], _R],
    before_next: Callable[[], object] = lambda: None,
) -> _R:
    """Tries one place after another, until one has what is wanted, and the right bytes of it.

    Args:
        handle: what is wanted, for messages.
        places: where to try, in order; at least one.
        attempt: tries.
        before_next: is called before another attempt.

    Returns:
        What the attempt returned that did not fail.

    Raises:
        OSError: as `attempt`, if all fail. It names each place and what happened there. A failure
            of the disk ends it at once, as another place would not help, except `errno.EFBIG`.
        ValueError: the same.
    """
    if len(places) == 1 and not places[0].is_mirror:
        return attempt(places[0])
    failures: list[tuple[str, OSError | ValueError]] = []
    for place in places:
        if failures:
            logging.warning("Skipping %s: %s", failures[-1][0], _why(*failures[-1]))
            before_next()
        try:
            return attempt(place)
        except (OSError, UnsafeArchiveError, ProtocolError) as error:
            is_of_place = isinstance(error, ResolveError | ValueError)
            # A file that is too large for the disk is so by the word of this place only.
            is_too_large = isinstance(error, OSError) and error.errno == errno.EFBIG
            if not is_too_large and (isinstance(error, CacheError) or not is_of_place):
                raise
            failures.append((place.shown, error))
    raise _none_serves(handle, failures, all(place.is_mirror for place in places))


def _none_serves(
    handle: str, failures: Sequence[tuple[str, OSError | ValueError]], is_direct_left_out: bool
) -> OSError | ValueError:
    shown = redact(handle)
    tried = "".join(f"\n  {place}: {_why(place, error)}" for place, error in failures)
    advice = (
        "Its own host was not asked: add 'direct' to TFHUB_MIRROR if it may be"
        if is_direct_left_out
        else "Check TFHUB_MIRROR and the network"
    )
    last = failures[-1][1]
    message = f"Could not get {shown} from where TFHUB_MIRROR says:{tried}\n{advice}."
    if isinstance(last, ResolveError):
        return type(last)(message, handle=shown, url=last.url, status=last.status)
    return type(last)(message)


def _why(place: str, error: OSError | ValueError) -> str:
    """What went wrong at a place, which the reader knows; where it led elsewhere, that too."""
    if isinstance(error, ResolveError):
        return error.why if error.url in (None, place) else str(error)
    return getattr(error, "strerror", None) or str(error)
