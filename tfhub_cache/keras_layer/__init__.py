"""`hub.KerasLayer`: a model as a layer of whichever Keras `tf.keras` is.

Keras 3 and Keras 2 don't take each other's layers, so there is one for each:

- `keras3`, where `tf.keras` is Keras 3: from TensorFlow 2.16 on;
- `keras2`, where it is Keras 2: before that, or with `TF_USE_LEGACY_KERAS=1`.

What both are is in `layer`, and what they wrap is in `model`. A program that takes its Keras
from `import tf_keras`, while `tf.keras` is Keras 3, imports the layer from `keras2` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfhub_cache.keras_registration import is_keras_3
from tfhub_cache.loading import import_tensorflow

# TensorFlow decides which Keras it is, by the environment and by what is installed.
if not TYPE_CHECKING and not is_keras_3(import_tensorflow("hub.KerasLayer").keras):
    from tfhub_cache.keras_layer.keras2 import KerasLayer
else:
    from tfhub_cache.keras_layer.keras3 import KerasLayer

__all__ = ["KerasLayer"]
