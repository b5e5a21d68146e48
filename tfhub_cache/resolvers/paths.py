"""Handles that are paths already: local folders, gs:// folders, whatever TensorFlow can read."""

from __future__ import annotations

import difflib
import os
import re

from tfhub_cache import offline, settings
from tfhub_cache.errors import ResolveError
from tfhub_cache.resolver import Resolver
from tfhub_cache.urls import printable, redact, stripped

_SCHEMES = ("https", "http", "file")
"""Those for which others are taken that are nearly the same."""
_SCHEME = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*")
_URL = re.compile(r"(?:https?|gs|file)://[^\s\"'`<>()\[\]]+", re.IGNORECASE)
"""A URL in quotes, say."""
_LIKE_A_URL = re.compile(r"([a-z]+)\s*([:;][/\\\s]*|[/\\]+)([^\s/\\]\S*)", re.IGNORECASE)
_LIKE_A_HOST = re.compile(r"(?:/{2,})?((?:[\w-]+\.)+[a-z]{2,}/[^:]*)", re.IGNORECASE)
_OF_TFHUB = re.compile(r"[a-z][\w-]*/(?:[a-z][\w.-]*/){1,4}\d+/?", re.ASCII | re.IGNORECASE)
_OF_KAGGLE = re.compile(
    r"(?:models/)?([\w-]+/[\w-]+/(?:frameworks/)?(?:tensorflow[12]|tflite|tfjs|keras|jax|pytorch)/"
    r"(?:variations/)?[\w.-]+(?:/(?:versions/)?\d+)?)/?",
    re.ASCII | re.IGNORECASE,
)


class PathResolver(Resolver):
    """Serves every handle, as the path that it is; the last in the chain."""

    def is_supported(self, handle: str) -> bool:
        return True

    def __call__(self, handle: str) -> str:
        plain = stripped(handle)
        for path in dict.fromkeys((handle, plain)):  # a folder's name may end in a blank
            if exists(path):
                return path
        raise _absent(plain)


def _absent(handle: str) -> ResolveError:
    """The error for a handle at which there is nothing, with what the user may have meant."""
    shown, hint, url = redact(handle), "", _url_meant(handle)
    if url:
        shown = printable(handle) if redact(url) == url else "The handle"  # which has secrets
    if not handle:
        hint = " It is empty."
    elif os.path.exists(handle.partition("/")[0]):
        pass  # a path in a folder that is there
    elif url:
        hint = f" If it is a URL, write {redact(url)}."
    elif os.path.expanduser(handle) != handle:
        hint = f" '~' is not expanded in a handle: write {os.path.expanduser(handle)}."
    elif match := _OF_KAGGLE.fullmatch(handle):
        hint = f" If it is a model of Kaggle, write https://www.kaggle.com/models/{match[1]}."
    elif _OF_TFHUB.fullmatch(handle):
        hint = f" If it is a model of tfhub.dev, write https://tfhub.dev/{handle}."
    return ResolveError(f"{shown} does not exist.{hint}", handle=shown)


def _url_meant(handle: str) -> str:
    """The URL that a handle with a typing error is meant as; empty if it is no such handle."""
    if match := _URL.search(handle):
        return match[0] if match.start() else ""
    if match := _LIKE_A_URL.fullmatch(handle):
        word, separator, rest = match[1].lower(), match[2], match[3].replace("\\", "/")
        if word in ("gs", "gcs") and separator != "/":
            return f"gs://{rest}"
        [scheme] = difflib.get_close_matches(word, _SCHEMES, n=1, cutoff=0.7) or [""]
        if scheme and (separator != "/" or word in ("http", "https")):
            return f"{scheme}:{'///' if scheme == 'file' else '//'}{rest}"
    match = _LIKE_A_HOST.fullmatch(handle)
    return f"https://{match[1]}" if match else ""


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
    if _url_meant(path):
        raise _absent(path)
    if settings.OFFLINE.value():
        offline.check_path(path)
    if scheme == "gs":
        from tfhub_cache.clients import gcs  # imported for gs:// only, as gcsfs is slow to import

        with gcs.errors_explained(path):
            return bool(gcs.file_system(*settings.google_storage()).exists(path))
    return _exists_for_tensorflow(scheme, path)


def _exists_for_tensorflow(scheme: str, path: str) -> bool:
    try:
        import tensorflow as tf
    except ImportError:
        raise ResolveError(
            f"{redact(path)} can't be looked up: only TensorFlow may know {scheme}:// paths, and "
            "it is not installed. Install it with: pip install 'tfhub-cache[tensorflow]'"
        ) from None
    try:
        return bool(tf.io.gfile.exists(path))
    except tf.errors.UnimplementedError:
        raise ResolveError(
            f"{redact(path)} can't be looked up: TensorFlow has no file system for {scheme}:// "
            "in this build. Some need a plugin, such as tensorflow-io."
        ) from None
