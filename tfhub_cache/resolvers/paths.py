"""Handles that are paths already: local folders, gs:// folders, whatever TensorFlow can read."""

from __future__ import annotations

import difflib
import os
import re

from tfhub_cache import offline, settings
from tfhub_cache.errors import ResolveError
from tfhub_cache.resolver import Resolver
from tfhub_cache.urls import printable, redact, stripped

_SCHEMES = ("https", "http", "gs", "file")
"""Those for which others are taken that are nearly the same."""
_SCHEME = re.compile("[a-zA-Z][a-zA-Z0-9+.-]*")
_URL = re.compile(r"(?:https?|gs|file)://(?P<rest>[^\s\"'`<>()\[\]]+)", re.IGNORECASE)
"""A URL in quotes, say."""
_LIKE_A_URL = re.compile(
    r"(?P<typed>(?P<word>[a-zA-Z]+)\s*(?:[:;][/\\\s]*|[/\\]+))(?P<rest>[^\s/\\]\S*)"
)
_LIKE_A_HOST = re.compile(r"(?P<typed>/{2,}|)(?P<rest>[\w-]+(?:\.[\w-]+)+/[^:]*)")
_OF_TFHUB = re.compile(r"(?:[a-z][\w.-]*/){2,5}\d+/?", re.ASCII | re.IGNORECASE)
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
    shown, hint = redact(handle), ""
    if meant := _url_meant(handle):
        typed, url = meant
        hint = f" If it is a URL, write {redact(url)}."
        has_secrets = redact(url) != url
        shown = printable(typed + redact(url).partition("://")[2] if has_secrets else handle)
    elif not handle:
        hint = " It is empty."
    elif os.path.expanduser(handle) != handle:
        hint = f" '~' is not expanded in a handle: write {os.path.expanduser(handle)}."
    elif match := _OF_KAGGLE.fullmatch(handle):
        hint = f" If it is a model of Kaggle, write https://www.kaggle.com/models/{match[1]}."
    elif _OF_TFHUB.fullmatch(handle):
        hint = f" If it is a model of tfhub.dev, write https://tfhub.dev/{handle}."
    return ResolveError(f"{shown} does not exist.{hint}", handle=shown)


def _url_meant(handle: str) -> tuple[str, str] | None:
    """The URL that a handle with a typing error is meant as, and what is written for its scheme.

    None if it is no such handle.
    """
    if match := _URL.search(handle):
        return (handle[: match.start("rest")], match[0]) if match.start() else None
    if match := _LIKE_A_URL.fullmatch(handle):
        word = match["word"].lower()
        [scheme] = difflib.get_close_matches(word, _SCHEMES, n=1, cutoff=0.7) or [""]
        is_alone = match["typed"] == f"{match['word']}/"  # as the first folder of a path
        if scheme and not (is_alone and word not in ("http", "https")):
            rest = match["rest"].replace("\\", "/")
            return match["typed"], f"{scheme}:{'///' if scheme == 'file' else '//'}{rest}"
    match = _LIKE_A_HOST.fullmatch(handle)
    return (match["typed"], f"https://{match['rest']}") if match else None


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
