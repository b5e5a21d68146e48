"""`hub.KerasLayer`: a model as a layer of the Keras that `tf.keras` is.

Keras 3 and Keras 2 refuse each other's layers, so there is a layer for each:

- `keras3`, if `tf.keras` is Keras 3: since TensorFlow 2.16;
- `keras2`, if it is Keras 2: before that, or with `TF_USE_LEGACY_KERAS=1`.

`layer` has what they share, and `model` the model that they call. A program that uses `tf_keras`
while `tf.keras` is Keras 3 imports the layer from `keras2`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfhub_cache.keras_registration import is_keras_3
from tfhub_cache.loading import import_tensorflow


def _tf_keras_is_keras_3() -> bool:
    """Which Keras TensorFlow uses depends on the environment and on what is installed."""
    tf = import_tensorflow("hub.KerasLayer")
    try:
        return is_keras_3(tf.keras)
    except ImportError as error:
        raise ImportError(
            "hub.KerasLayer needs the Keras that TensorFlow uses, which can't be imported. If "
            "TF_USE_LEGACY_KERAS=1 is set, that is Keras 2: install it with pip install tf_keras, "
            "or unset TF_USE_LEGACY_KERAS for Keras 3. Otherwise install Keras 3: pip install "
            "keras."
        ) from error


if not TYPE_CHECKING and not _tf_keras_is_keras_3():
    from tfhub_cache.keras_layer.keras2 import KerasLayer
else:
    from tfhub_cache.keras_layer.keras3 import KerasLayer

__all__ = ["KerasLayer"]
