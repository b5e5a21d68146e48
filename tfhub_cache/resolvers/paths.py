"""Handles that are paths already: local folders, gs:// folders, whatever TensorFlow can read."""

from __future__ import annotations

import os
import re

from tfhub_cache import offline, settings
from tfhub_cache.errors import ResolveError
from tfhub_cache.resolver import Resolver
from tfhub_cache.urls import redact

_SCHEME = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*")


class PathResolver(Resolver):
    """Serves every handle, as the path that it is; the last in the chain."""

    def is_supported(self, handle: str) -> bool:
        return True

    def __call__(self, handle: str) -> str:
        if not exists(handle):
            shown = redact(handle)
            raise ResolveError(f"{shown} does not exist.{_hint(handle)}", handle=shown)
        return handle


def _hint(handle: str) -> str:
    """What the user may have meant."""
    if not handle or handle != handle.strip():
        return " There is white space around it." if handle else " It is empty."
    if handle.startswith("~"):
        return f" '~' is not expanded in a handle: write {os.path.expanduser(handle)}."
    host, slash, _ = handle.partition("/")
    if slash and "." in host.strip(".") and ":" not in host:
        return f" If it is a web address, write https://{handle}."
    return ""


def exists(path: str) -> bool:
    """Whether there is a file or folder at a path, on whatever file system it names.

    Raises:
        ResolveError: if nothing here can read that kind of file system.
        DownloadError: if the bucket of a gs:// path can't be asked.
        OfflineError: if it is not on this machine, and the network must not be used.
    """
    scheme, separator, rest = path.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        return os.path.exists(path)
    if scheme == "file":
        return os.path.exists(rest)
    if settings.OFFLINE.value():
        offline.check_path(path)
    if scheme == "gs":
        from tfhub_cache.clients import gcs  # imported for gs:// only, as gcsfs is slow to import

        with gcs.errors_explained(path):
            found: bool = gcs.file_system(*settings.google_storage()).exists(path)
        return found
    return _exists_for_tensorflow(scheme, path)


def _exists_for_tensorflow(scheme: str, path: str) -> bool:
    try:
        import tensorflow as tf
    except ImportError:
        raise ResolveError(
            f"{redact(path)} can't be looked up: only TensorFlow may know {scheme}:// paths, and "
            "it is not installed. Install it with: pip install 'tfhub-cache[tensorflow]'",
            handle=redact(path),
        ) from None
    try:
        found: bool = tf.io.gfile.exists(path)
    except tf.errors.UnimplementedError:
        raise ResolveError(
            f"{redact(path)} can't be looked up: TensorFlow has no file system for {scheme}:// "
            "in this build. Some need a plugin, such as tensorflow-io.",
            handle=redact(path),
        ) from None
    return found
