"""Which models may be run because a saved model names them.

A file with a `hub.KerasLayer` names a SavedModel, and loading the file runs it. The program has
chosen the file, but who has made the file has chosen the model.
"""

from __future__ import annotations

from typing import Any

from tfhub_cache import urls

_run_before: set[str] = set()
"""The handles of the layers that this program has made itself."""


def note(handle: Any) -> None:
    """Notes that this program runs a model."""
    if isinstance(handle, str):
        _run_before.add(handle)


def check(handle: Any, safe_mode: bool | None) -> None:
    """Refuses a handle in a config, unless the program trusts it.

    Args:
        handle: the handle.
        safe_mode: False to allow every handle; None for the mode of Keras 3.

    Raises:
        ValueError: if it is refused, or is not a string.
    """
    if not isinstance(handle, str):
        raise ValueError(f"The config of a hub.KerasLayer has no handle but {handle!r}.")
    if safe_mode is None:
        from keras.src.saving.serialization_lib import in_safe_mode

        safe_mode = in_safe_mode()
    if safe_mode is not False and handle not in _run_before:
        raise ValueError(
            f"The config of a hub.KerasLayer would run the model {urls.redact(handle)}. A "
            "model can do harm, so Keras's safe mode does not allow it. If you trust the "
            "source of the config, pass safe_mode=False to load_model or from_config, or call "
            "keras.config.enable_unsafe_deserialization()."
        )
