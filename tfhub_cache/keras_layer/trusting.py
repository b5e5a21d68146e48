"""Which models may run because a saved model of Keras 3 names them.

A file with a `hub.KerasLayer` names a SavedModel, and to load the file is to run that model. The
program chooses the file, but the author of the file has chosen the model.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any
from urllib.parse import unquote

from tfhub_cache import notation, pins, settings, urls
from tfhub_cache.keras_layer import choosing

_run_before: set[str] = set()
"""The handles of the layers that this program has made itself."""
_trusted: list[re.Pattern[str]] = []
_TRUST_THE_SOURCE = (
    "If you trust the source of the config, pass safe_mode=False to load_model or from_config, or "
    "call keras.config.enable_unsafe_deserialization()."
)


def trust(pattern: str) -> None:
    """Allows the saved models that this program loads to run the models of some handles.

    The environment variable `TFHUB_TRUSTED_HANDLES` does the same.

    Args:
        pattern: one handle, in which `*` is any text. It must name the host.

    Raises:
        ValueError: if it names no host, or is not a string.

    Example:
        ```python
        import tensorflow as tf
        import tfhub_cache as hub

        hub.keras_layer.trust("https://tfhub.dev/google/*")
        model = tf.keras.models.load_model("model.keras")
        ```
    """
    if not isinstance(pattern, str):
        raise ValueError(f"Expected a string, got {pattern!r}")
    _trusted.append(notation.parse_pattern(urls.as_meant(pattern), "The pattern"))


def note(handle: Any) -> None:
    """Notes that this program runs a model."""
    if isinstance(handle, str):
        _run_before.add(handle)


def check(handle: Any, safe_mode: bool | None) -> None:
    """Refuses a handle in a config of Keras 3, unless the program trusts it.

    Args:
        handle: the handle.
        safe_mode: False to trust every handle; None for the mode of Keras.

    Raises:
        ValueError: if it is refused; or a setting is invalid.
    """
    if safe_mode is None:
        from keras.src.saving.serialization_lib import in_safe_mode

        safe_mode = in_safe_mode()
    if safe_mode is False:
        return
    if not isinstance(handle, str):
        raise ValueError(
            f"The config of a hub.KerasLayer has no handle but {handle!r}, so it can't be said "
            f"whether you trust the model that it would run. {_TRUST_THE_SOURCE}"
        )
    if handle in _run_before:
        return
    if not (_is_trusted(handle) or _is_locked(handle) or _is_beside_the_file(handle)):
        shown = urls.redact(handle)
        hidden = "" if shown == handle else " with the rest of the handle, which is not shown here,"
        raise ValueError(
            f"The config of a hub.KerasLayer would run the model {shown}. A model can do harm, so "
            "Keras's safe mode does not allow it. If you trust this model, call "
            f"hub.keras_layer.trust({shown!r}){hidden} first, or set TFHUB_TRUSTED_HANDLES; or "
            f"name it in a lock file (TFHUB_LOCKFILE). {_TRUST_THE_SOURCE}"
        )


def _is_trusted(handle: str) -> bool:
    meant = plain = urls.as_meant(handle)
    while plain != (plain := unquote(plain)):
        pass
    if ".." in plain:  # it can lead out of what a pattern allows
        return False
    patterns = (*_trusted, *(settings.TRUSTED_HANDLES.value() or ()))
    return any(pattern.fullmatch(meant) for pattern in patterns)


def _is_locked(handle: str) -> bool:
    file = settings.LOCKFILE.value()
    return file is not None and handle in pins.read(file)


def _is_beside_the_file(handle: str) -> bool:
    """Whether a handle is a folder in the folder of the file that Keras is loading."""
    for frame in choosing.stack(sys._getframe()):
        if frame.f_code.co_name == "load_model" and choosing.running(frame):
            file = frame.f_locals.get("filepath")
            if isinstance(file, (str, os.PathLike)) and os.path.isdir(handle):
                folders = (os.path.dirname(os.path.realpath(path)) for path in (file, handle))
                return len(set(folders)) == 1
            return False
    return False
