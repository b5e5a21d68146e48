"""`load`: resolve a handle and hand the path to TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Collection
from types import ModuleType
from typing import TYPE_CHECKING, Any

from absl import logging

from tfhub_cache import registry
from tfhub_cache.errors import ResolveError
from tfhub_cache.resolvers.paths import exists

if TYPE_CHECKING:
    import tensorflow as tf

_TF1_HUB_FORMAT = "tfhub_module.pb"
_SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt")
_WORKER_NOTE = """\
The model is in {path} on this machine, but the worker that loads it (a TPU in Colab, say) can't \
read this machine's disk. Two ways out:
  1. let the worker read a bucket: set TFHUB_MODEL_LOAD_FORMAT=UNCOMPRESSED, or \
TFHUB_CACHE_DIR=gs://your-bucket/folder;
  2. read through this machine: \
hub.load(handle, options=tf.saved_model.LoadOptions(experimental_io_device="/job:localhost"))."""
_SCHEME_MESSAGE = """\
{path} can't be loaded: this build of TensorFlow can't read {scheme}:// (on Windows none can read \
gs://). Download the model instead: set TFHUB_MODEL_LOAD_FORMAT=COMPRESSED, and TFHUB_CACHE_DIR to \
a folder on this machine."""


def resolve(handle: str) -> str:
    """Resolves a handle into the path of a model.

    The model is downloaded and unpacked into the cache if it is not there yet; a cached model
    needs no network. It works without TensorFlow, and follows `tensorflow_hub.resolve`.

    Args:
        handle: one of

            - the URL of a model's page on tfhub.dev, kaggle.com or any host of the same
              protocol, such as `https://tfhub.dev/google/spice/2`;
            - the URL of a `.tar`, `.tar.gz` or `.tgz` archive, over http(s) or in `gs://`;
            - a path that TensorFlow can read: a local folder, `file://` or `gs://`.

    Returns:
        The path as a string: for a download, the cache folder as configured, joined with the
        entry's name; for a path, the path itself.

    Raises:
        ValueError: if `handle` is not a string; if the archive is unsafe
            (`tfhub_cache.errors.UnsafeArchiveError`); if the load format is unknown, or the host
            does not serve the model uncompressed (`tfhub_cache.errors.ProtocolError`).
        OSError: if the model can't be had. It is a `tfhub_cache.errors.ResolveError`, whose
            subclass tells the network (`DownloadError`) from the archive (`ArchiveError`) and
            the cache (`CacheError`); the message says what to do.

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
        handle: what `resolve` takes.
        tags: the graph variant to load, as `tf.saved_model.load` has it. For the TF1 Hub format
            the default is the variant without tags.
        options: passed on untouched. With
            `tf.saved_model.LoadOptions(experimental_io_device='/job:localhost')` a model in the
            local cache can be put on a worker that does not see this machine's disk, such as a
            TPU in Colab.

    Returns:
        The object that TensorFlow loads; its attribute `_is_hub_module_v1` tells the TF1 Hub
        format.

    Raises:
        ImportError: if TensorFlow is not installed; the message says what to install.
        ValueError: if the path holds no SavedModel, and as `resolve` raises it.
        OSError: as `resolve` raises it.

    Example:
        ```python
        import tfhub_cache as hub

        embed = hub.load("https://tfhub.dev/google/nnlm-en-dim128/2")
        embed(["a sentence"])
        ```
    """
    if not isinstance(handle, str):
        raise ValueError(f"Expected a string, got {handle!r}")
    tf = import_tensorflow("Loading a model")
    path = resolve(handle)
    folder = path.rstrip("/")
    is_hub_module_v1 = exists(f"{folder}/{_TF1_HUB_FORMAT}")
    if tags is None and is_hub_module_v1:
        tags = []
    if not any(exists(f"{folder}/{name}") for name in _SAVED_MODEL_FILES):
        raise ValueError(
            f"Trying to load a model of incompatible/unknown type. '{path}' contains neither "
            f"'{_SAVED_MODEL_FILES[0]}' nor '{_SAVED_MODEL_FILES[1]}'."
        )
    try:
        model = tf.compat.v1.saved_model.load_v2(path, tags=tags, options=options)
    except Exception as error:
        scheme = path.partition("://")[0]
        if f"File system scheme '{scheme}' not implemented" in str(error):
            raise ResolveError(_SCHEME_MESSAGE.format(path=path, scheme=scheme)) from error
        if _is_unseen_by_worker(folder, error):
            _add_note(error, _WORKER_NOTE.format(path=path))
        raise
    model._is_hub_module_v1 = is_hub_module_v1
    return model


def import_tensorflow(purpose: str) -> ModuleType:
    """TensorFlow, or an error that says what to install for this purpose."""
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise ImportError(
            f"{purpose} needs TensorFlow, which is not installed. Install it with: "
            "pip install 'tfhub-cache[tensorflow]' (or tensorflow-cpu, or tf-nightly)."
        ) from error
    return tf  # type: ignore[no-any-return]


def _is_unseen_by_worker(folder: str, error: Exception) -> bool:
    """Whether loading failed since a worker can't read a folder which is sound on this machine."""
    message = str(error)
    if "File system scheme '[local]' not implemented" in message:
        return True
    local = folder.removeprefix("file://")
    return "Failed to find any matching files" in message and os.path.exists(
        f"{local}/variables/variables.index"
    )


def _add_note(error: Exception, note: str) -> None:
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:  # Python 3.10 has no notes, so a traceback does not show it
        logging.error("%s", note)
