"""Writing a lock file: the handles of a project, and what their models consist of."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from functools import partial

from absl import logging

from tfhub_cache import notation, pins
from tfhub_cache.cache.listing import with_patterns
from tfhub_cache.cache.resolving import each
from tfhub_cache.errors import LockfileError
from tfhub_cache.pins import Pin
from tfhub_cache.resolvers.archives import archive_resolver
from tfhub_cache.resolvers.paths import PathResolver
from tfhub_cache.urls import as_meant, redact


def lock(
    handles: Iterable[str], file: str | os.PathLike[str], *, jobs: int = 4, refresh: bool = False
) -> dict[str, Pin]:
    """Writes a lock file: for each handle, the size and the SHA-256 of its model's files.

    With `TFHUB_LOCKFILE` naming the file, `hub.resolve` and `hub.load` use these models and no
    others. What is in the cache is locked as it is there, and the files of what tensorflow_hub has
    downloaded are read. What is not in the cache is downloaded. The file is written only if all
    succeed, and in one step; a lock file that is in force is ignored.

    Args:
        handles: of models that come from the cache: http(s) URLs and `gs://` archives. Paths are
            left out, with a warning, as they are used where they are. A pattern, in which `*` is
            any text, means those of models that are in the cache.
        file: the lock file, `~` expanded. It is replaced if it exists.
        jobs: how many are downloaded at a time.
        refresh: whether to download what is in the cache again, for handles without a version.

    Returns:
        What was written, by handle: each model's `size` in bytes, and the `sha256` of its files.

    Raises:
        LockfileError: if one of them is unavailable; it names all that failed. Or if the file
            can't be written.

    Example:
        ```python
        import tfhub_cache as hub

        hub.cache.lock(["https://tfhub.dev/google/nnlm-en-dim128/2"], "models.lock")
        ```
    """
    file = notation.parse_path(os.fspath(file))
    pins.check_writable(file)
    found: dict[str, Pin] = {}
    failures: list[Exception] = []
    wanted = list(dict.fromkeys(map(as_meant, with_patterns(handles))))
    with contextlib.closing(each(wanted, partial(_pin, refresh=refresh), jobs)) as locking:
        for handle, outcome in locking:
            if isinstance(outcome, Exception):
                failures.append(outcome)
            elif outcome is not None:
                found[handle] = outcome
                if "?" in handle or "@" in handle.partition("://")[2].partition("/")[0]:
                    logging.warning(
                        "%s has a query or a login, which goes into the lock file as it is. If it "
                        "is secret, so is the file.",
                        redact(handle),
                    )
    if failures:
        raise LockfileError(
            f"{file} is not written, as {len(failures)} of {len(wanted)} models are unavailable:"
            + "".join(f"\n  {failure}" for failure in failures)
        )
    pins.write(file, found)
    return found


def _pin(handle: str, *, refresh: bool) -> Pin | None:
    if resolver := archive_resolver(handle):
        return resolver.pin(handle, refresh=refresh)
    if "://" not in handle:
        PathResolver()(handle)  # one that does not exist is rather a mistyped handle
    logging.warning("%s is a path, which is used where it is and not locked.", redact(handle))
    return None
