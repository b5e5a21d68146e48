"""What the layers for Keras 3 and Keras 2 share: a class to put before Keras's own `Layer`.

It calls the model and decides what is trained. How variables and losses become those of a layer
differs between the two, so the subclasses do that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from absl import logging

from tfhub_cache.keras_layer.model import HubModel

if TYPE_CHECKING:
    import tensorflow as tf


class HubLayer:
    """A model as a layer; `class KerasLayer(HubLayer, keras.layers.Layer)` completes it."""

    trainable: bool
    trainable_weights: list[Any]

    def __init__(
        self,
        handle: str | Callable[..., Any],
        trainable: bool = False,
        arguments: Mapping[str, Any] | None = None,
        *,
        tags: Collection[str] | None = None,
        signature: str | None = None,
        signature_outputs_as_dict: bool | None = None,
        output_key: str | None = None,
        output_shape: Any = None,
        load_options: tf.saved_model.LoadOptions | None = None,
        **kwargs: Any,
    ) -> None:
        self._prepare(kwargs)
        model = HubModel(
            handle,
            dict(arguments or {}),
            tags,
            signature,
            signature_outputs_as_dict,
            output_key,
            output_shape,
            load_options,
        )
        dtype = self._dtype_of_layer(model, kwargs.pop("dtype", None))
        super().__init__(trainable=trainable, dtype=dtype, **kwargs)  # type: ignore[call-arg]
        self._model = model
        # TensorFlow saves the attributes of a layer, and so the tables and assets of the model.
        # The name is tensorflow_hub's, since it is part of checkpoints.
        self._func = model.resolved
        self._has_warned_of_no_weights = False
        self._adopt(model)

    def _prepare(self, kwargs: dict[str, Any]) -> None:
        """Checks Keras before the model is loaded, and removes arguments that Keras refuses."""

    def _dtype_of_layer(self, model: HubModel, dtype: Any) -> Any:
        """The dtype or policy of the layer, given the argument `dtype`.

        Keras casts floating-point inputs to it. The dtypes in a model are fixed, so of a mixed
        precision policy it is the dtype of the variables.
        """
        raise NotImplementedError

    def _adopt(self, model: HubModel) -> None:
        """Makes the model's variables and losses those of the layer."""
        raise NotImplementedError

    def _training_by_default(self) -> Any:
        """Whether a call without `training` is for training."""
        raise NotImplementedError

    @property
    def resolved_object(self) -> Any:
        """The object behind the handle: what was loaded, or the callable itself."""
        return self._func

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Calls the model; Keras calls this."""
        self._check_trainable()
        if not self.trainable:
            training = False  # frozen, as a frozen BatchNormalization is
        elif training is None:
            training = self._training_by_default()
        return self._model(inputs, training)

    def get_config(self) -> dict[str, Any]:
        """The config from which `from_config` makes the same layer.

        Raises:
            NotImplementedError: if the handle is not a string.
            ValueError: if `arguments` can't be written as JSON.
        """
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        return config | self._model.config()

    def _check_trainable(self) -> None:
        """Refuses to train what can't be trained."""
        if not self.trainable:
            return
        if self._model.is_tf1:
            raise ValueError(
                "Setting hub.KerasLayer.trainable = True is unsupported when loading from the TF1 "
                "Hub format. Use a model in the TF2 SavedModel format to train it."
            )
        if self._model.signature:
            raise ValueError(
                "Setting hub.KerasLayer.trainable = True is unsupported when calling a SavedModel "
                "signature, which takes no argument training. Leave out signature if the model "
                "itself can be called."
            )
        if not self.trainable_weights and not self._has_warned_of_no_weights:
            self._has_warned_of_no_weights = True
            logging.error(
                "hub.KerasLayer is trainable but has zero trainable weights: the model lists no "
                "trainable_variables."
            )
