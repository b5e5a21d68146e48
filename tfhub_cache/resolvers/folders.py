"""Handles that are read straight from the host's bucket, without a cache.

In UNCOMPRESSED mode the host is asked where the model lies: it answers 303, and the body is a
gs:// folder. Protocol: https://www.tensorflow.org/hub/hosting
"""

from __future__ import annotations

import re

from tfhub_cache import offline, settings
from tfhub_cache.clients.access import Access
from tfhub_cache.errors import LockfileError, ProtocolError
from tfhub_cache.fetching import batch
from tfhub_cache.resolver import HttpResolverBase
from tfhub_cache.resolvers.paths import PathResolver
from tfhub_cache.source.mirrors import Address, addresses, first_that_serves
from tfhub_cache.urls import append_query, redact

_SEE_OTHER = 303
_LONGEST_ANSWER = 64 << 10
_BUCKET = re.compile("gs://[!-.0-~]+(/|$)")


class HttpFolderResolver(HttpResolverBase):
    """Serves http(s) handles in UNCOMPRESSED mode."""

    def is_supported(self, handle: str) -> bool:
        return (
            self.is_http_protocol(handle)
            and settings.LOAD_FORMAT.value() is settings.ModelLoadFormat.UNCOMPRESSED
        )

    def __call__(self, handle: str) -> str:
        if settings.OFFLINE.value():
            raise offline.refusal_of_uncompressed(handle)
        if (file := settings.LOCKFILE.value()) is not None:
            raise LockfileError(
                f"{redact(handle)} is read from a bucket in UNCOMPRESSED mode, where nothing can "
                f"be compared with the lock file {file}. Set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED, "
                f"or unset {settings.LOCKFILE.env}."
            )
        page = append_query(handle, "tf-hub-format", "uncompressed")
        places = addresses(handle, page, "uncompressed", settings.MIRROR.value())
        access = settings.access(vars(self).get("_context"))

        def resolve(place: Address) -> str:
            return PathResolver()(_ask_for_folder(handle, place.url, access))

        return first_that_serves(handle, places, resolve)


def _ask_for_folder(handle: str, url: str, access: Access) -> str:
    from tfhub_cache.clients import http  # requests: only when something is asked

    others = http.REDIRECTS - {_SEE_OTHER}
    with http.get(handle, url, access=access, pause=batch.pause, redirects=others) as answer:
        if answer.status != _SEE_OTHER:
            raise ProtocolError(
                "Expected 303 See other HTTP response but received code "
                f"{answer.status} for {redact(handle)} from {answer.shown}. "
                "The host may not offer the model uncompressed: try "
                "TFHUB_MODEL_LOAD_FORMAT=COMPRESSED."
            )
        body = answer.content(_LONGEST_ANSWER)
    folder = body.decode("utf-8", "replace").strip()
    if not _BUCKET.match(folder) or not folder.isprintable():
        raise ProtocolError(
            f"Expected server to return a GCS location but received {folder[:200]!r} for "
            f"{redact(handle)}. Try TFHUB_MODEL_LOAD_FORMAT=COMPRESSED."
        )
    return folder
