"""The layer for Keras 2: `tf.keras` if that is Keras 2, otherwise the package tf_keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfhub_cache.keras_layer.layer import HubLayer
from tfhub_cache.keras_layer.model import HubModel
from tfhub_cache.keras_registration import PACKAGE, is_keras_3

if is_keras_3(tf.keras):
    import tf_keras as keras
else:
    keras = tf.keras


@keras.utils.register_keras_serializable(PACKAGE)
class KerasLayer(HubLayer, keras.layers.Layer):  # type: ignore[misc]
    """The layer for Keras 2; see `tfhub_cache.keras_layer.keras3.KerasLayer`."""

    def _dtype_of_layer(self, model: HubModel, dtype: Any) -> Any:
        policy = keras.mixed_precision.global_policy() if dtype is None else dtype
        if isinstance(policy, dict):
            policy = keras.mixed_precision.deserialize(policy)
        mixed = str(getattr(policy, "name", policy)).startswith("mixed_")
        return "float32" if mixed else dtype

    def _adopt(self, model: HubModel) -> None:
        for trainable, variables in (
            (True, model.trainable_variables),
            (False, model.other_variables),
        ):
            for variable in variables:
                self.add_weight(
                    name=variable.name,
                    shape=variable.shape,
                    dtype=variable.dtype,
                    trainable=trainable,
                    experimental_autocast=False,
                    getter=lambda *_, variable=variable, **__: variable,
                )
        for loss in model.regularization_losses:
            self.add_loss(self._unless_frozen(loss))

    def _unless_frozen(self, loss: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: loss() if self.trainable else 0.0

    def _training_by_default(self) -> Any:
        return keras.backend.learning_phase()

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output: the argument `output_shape`, or what tracing the model finds."""
        batch_size = tf.nest.flatten(input_shape)[0]
        shape = self._model.output_shape(batch_size)
        return super().compute_output_shape(input_shape) if shape is None else shape
