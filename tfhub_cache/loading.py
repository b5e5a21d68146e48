"""`resolve` and `load`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from absl import logging

from tfhub_cache import registry
from tfhub_cache.advice import SAVED_MODEL_FILES, note_on, what_is_not_loaded
from tfhub_cache.errors import ResolveError
from tfhub_cache.resolvers.paths import exists

if TYPE_CHECKING:
    import tensorflow as tf

_TF1_HUB_FORMAT = "tfhub_module.pb"
_SCHEME_MESSAGE = """\
{path} can't be loaded: this build of TensorFlow can't read {scheme}:// (on Windows none can read \
gs://). Download the model instead: set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED, and TFHUB_CACHE_DIR to \
a folder on this machine."""


def resolve(handle: str) -> str:
    """Resolves a handle into the path of a model.

    It downloads a model that is not in the cache and unpacks it there. A cached model needs no
    network. It does not need TensorFlow, and follows `tensorflow_hub.resolve`.

    Args:
        handle: one of

            - the URL of a model's page on tfhub.dev, kaggle.com or another host with the same
              protocol, such as `https://tfhub.dev/google/spice/2`;
            - the URL of a `.tar`, `.tar.gz` or `.tgz` archive, over http(s) or in `gs://`;
            - a path that TensorFlow can read: a local folder, `file://` or `gs://`.

    Returns:
        The path: for a URL, the cache folder as configured, joined with the entry's name; for a
        path, the path itself.

    Raises:
        ValueError: if `handle` is not a string, the archive is unsafe
            (`tfhub_cache.errors.UnsafeArchiveError`), a setting is invalid, or the host does not
            serve the model uncompressed (`tfhub_cache.errors.ProtocolError`).
        OSError: if the model is unavailable. It is a `tfhub_cache.errors.ResolveError`: a
            `DownloadError`, an `ArchiveError` or a `CacheError`, for example. The message says
            what to do.
        RuntimeError: if no resolver supports the handle.

    Example:
        ```python
        import tfhub_cache as hub

        path = hub.resolve("https://tfhub.dev/google/nnlm-en-dim128/2")
        ```
    """
    if not isinstance(handle, str):
        raise ValueError(f"Expected a string, got {handle!r}")
    return registry.resolver(handle)


def load(
    handle: str,
    tags: Collection[str] | None = None,
    options: tf.saved_model.LoadOptions | None = None,
) -> Any:
    """Resolves a handle and loads the model with `tf.saved_model.load`.

    It follows `tensorflow_hub.load`, for TF2 SavedModels and the TF1 Hub format, in eager and in
    graph mode.

    Args:
        handle: a handle for `resolve`.
        tags: the graph variant to load; see `tf.saved_model.load`. For the TF1 Hub format the
            default is the variant without tags.
        options: options for `tf.saved_model.load`. With
            `tf.saved_model.LoadOptions(experimental_io_device='/job:localhost')` a model in the
            local cache can be loaded on a worker that can't read this machine's disk, such as a
            TPU in Colab.

    Returns:
        The object that TensorFlow loads. Its attribute `_is_hub_module_v1` is True for the TF1 Hub
        format.

    Raises:
        ImportError: if TensorFlow is not installed; the message says what to install.
        ValueError: if the path holds no SavedModel; see `resolve` for others.
        OSError: if the handle can't be resolved; see `resolve`.

    Example:
        ```python
        import tfhub_cache as hub

        embed = hub.load("https://tfhub.dev/google/nnlm-en-dim128/2")
        embed(["a sentence"])
        ```
    """
    if not isinstance(handle, str):
        raise ValueError(f"Expected a string, got {handle!r}")
    check_tensorflow("Loading a model")
    path = resolve(handle)  # before TensorFlow is imported, as that takes long
    import tensorflow as tf

    folder = path.rstrip("/")
    is_hub_module_v1 = exists(f"{folder}/{_TF1_HUB_FORMAT}")
    if tags is None and is_hub_module_v1:
        tags = []
    if not any(exists(f"{folder}/{name}") for name in SAVED_MODEL_FILES):
        raise ValueError(what_is_not_loaded(handle, path))
    try:
        model = tf.compat.v1.saved_model.load_v2(path, tags=tags, options=options)
    except Exception as error:
        scheme = path.partition("://")[0]
        if f"File system scheme '{scheme}' not implemented" in str(error):
            raise ResolveError(_SCHEME_MESSAGE.format(path=path, scheme=scheme)) from None
        if note := note_on(error, handle, path):
            _add_note(error, note)
        raise
    model._is_hub_module_v1 = is_hub_module_v1
    return model


def check_tensorflow(purpose: str) -> None:
    """Raise an ImportError that says what to install for this purpose, if there is no TensorFlow.

    It is not imported.
    """
    if not (sys.modules.get("tensorflow") or importlib.util.find_spec("tensorflow")):
        raise ImportError(
            f"{purpose} needs TensorFlow, which is not installed. Install it with: "
            "pip install 'tfhub-cache[tensorflow]' (or tensorflow-cpu, or tf-nightly)."
        )


def _add_note(error: Exception, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10 has no notes
        logging.error("%s", note)
