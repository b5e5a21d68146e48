"""The layer for Keras 2: `tf.keras` if that is Keras 2, otherwise the package tf_keras."""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

from tfhub_cache.keras_layer import choosing, layer
from tfhub_cache.keras_registration import PACKAGE

if choosing.OF_TF == choosing.KERAS_3:
    import tf_keras as keras
else:
    keras = tf.keras


class Base(keras.layers.Layer):  # type: ignore[misc]
    """The base class of layers of Keras 2."""

    _keras = choosing.KERAS_2
    _model: Any

    def __init__(self, trainable: bool = True, dtype: Any = None, **kwargs: Any) -> None:
        policy = keras.mixed_precision.global_policy() if dtype is None else dtype
        if isinstance(policy, dict):
            policy = keras.mixed_precision.deserialize(policy)
        if str(getattr(policy, "name", policy)).startswith("mixed_"):
            dtype = "float32"
        super().__init__(trainable=trainable, dtype=dtype, **kwargs)

    def _adopt(self, variable: Any, trainable: bool) -> None:
        self.add_weight(
            name=variable.name,
            shape=variable.shape,
            dtype=variable.dtype,
            trainable=trainable,
            experimental_autocast=False,
            getter=lambda *_, **__: variable,
        )

    def _training_by_default(self) -> Any:
        return keras.backend.learning_phase()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        choosing.refuse_the_other(self._keras, choosing.adding(sys._getframe(1)))
        return type(self)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        values = tf.nest.flatten([inputs, args, kwargs])
        choosing.refuse_the_other(self._keras, choosing.of_values(values))
        return super().__call__(inputs, *args, **kwargs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output: the argument `output_shape`, or what tracing the model finds."""
        batch_size = tf.nest.flatten(input_shape)[0]
        shape = self._model.output_shape(batch_size)
        return super().compute_output_shape(input_shape) if shape is None else shape


KerasLayer = choosing.class_for(layer.KerasLayer, Base)
"""A layer of Keras 2, whatever asks for it."""
keras.utils.register_keras_serializable(PACKAGE)(KerasLayer)
