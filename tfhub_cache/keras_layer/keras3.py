"""The layer for Keras 3 with TensorFlow as its backend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from tfhub_cache.keras_layer import choosing, layer
from tfhub_cache.keras_layer.keras3_weights import Weights
from tfhub_cache.keras_layer.model import as_tensors
from tfhub_cache.keras_registration import PACKAGE

if keras.backend.backend() != "tensorflow":
    raise NotImplementedError(
        "hub.KerasLayer runs a model of TensorFlow, which Keras 3 can only do with TensorFlow as "
        f"its backend, and this Keras runs on {keras.backend.backend()!r}. Set "
        "KERAS_BACKEND=tensorflow before Keras is imported."
    )


class Base(keras.layers.Layer):  # type: ignore[misc]
    """The base class of layers of Keras 3."""

    _keras = choosing.KERAS_3
    _TF_MODULE_IGNORED_PROPERTIES = frozenset[str]()
    _model: Any

    def __init__(self, trainable: bool = True, dtype: Any = None, **kwargs: Any) -> None:
        batch_shape = kwargs.pop("batch_input_shape", None)  # in configs of Keras 2
        if (shape := kwargs.pop("input_shape", None)) is not None:
            batch_shape = (None, *shape)
        if dtype is None and self._model.input_dtypes == {tf.string}:
            dtype = "string"  # a Sequential model makes an input of this dtype
        # The dtypes in a model are fixed, so of a mixed precision policy it is the variables'.
        policy = keras.dtype_policies.get(dtype)
        if policy.compute_dtype != policy.variable_dtype:
            policy = keras.dtype_policies.get(policy.variable_dtype)
        super().__init__(trainable=trainable, dtype=policy, **kwargs)
        self._batch_input_shape = batch_shape and tuple(batch_shape)
        self._weights_of_model = Weights()
        self._adopted: list[Any] = []
        self.__dict__["_found_by_modules"] = []
        self._loss_functions: list[Callable[[], Any]] = []
        # XLA can't compile parts of some SavedModels, such as tables and strings.
        self.supports_jit = False
        self.built = type(self).build is keras.layers.Layer.build

    def _adopt(self, variable: Any, trainable: bool) -> None:
        if isinstance(self._model.resolved, keras.layers.Layer):
            return  # Keras itself lists the weights of a layer inside this one
        with keras.name_scope(self.name, caller=self):
            weight = self._weights_of_model.add(variable, trainable)
        if weight is not None:
            self._adopted.append(weight)
            self.__dict__["_found_by_modules"].append(variable)

    def add_loss(self, loss: Any) -> None:
        """Adds a loss, which may be a function without arguments."""
        if callable(loss):
            self._loss_functions.append(loss)
        else:
            super().add_loss(loss)

    # Other layers may share a weight. So freezing does not change the weight, as it does in Keras,
    # but which weights the layer lists; a Keras model trains those.

    @property
    def trainable(self) -> bool:
        """Whether training changes the model."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)

    @property
    def variables(self) -> list[Any]:
        """The weights, and the state of random generators, if any."""
        return self._as_trainable_as_this(super().variables)

    @property
    def weights(self) -> list[Any]:
        """The model's variables, each once."""
        return self._as_trainable_as_this(super().weights)

    def _get_own_losses(self) -> list[Any]:
        # Keras adds these to the losses of a model. `add_loss` would add them at each call.
        losses: list[Any] = super()._get_own_losses()
        if self.trainable:
            losses = losses + [tf.convert_to_tensor(loss()) for loss in self._loss_functions]
        return losses

    def _as_trainable_as_this(self, weights: list[Any]) -> list[Any]:
        if self.trainable:
            return weights
        with keras.name_scope(self.name, caller=self):
            frozen = self._weights_of_model.frozen
            return [frozen(weight) if weight.trainable else weight for weight in weights]

    def _training_by_default(self) -> bool:
        return False

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        asker = sys._getframe(1)
        if choosing.is_tensorflow(asker, "python.module.module"):
            return tf.Module  # one around the layer then finds `_found_by_modules`
        ask = choosing.running if self.__dict__.get("_is_guess") else choosing.adding
        choosing.refuse_the_other(self._keras, ask(asker))
        return type(self)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The argument `input_shape` with the batch size in front.

        A Sequential model looks for this attribute, and then also uses the layer's dtype.
        """
        if self._batch_input_shape is None:
            raise AttributeError(f"{self.name} was made without input_shape.")
        return self._batch_input_shape

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        values = tree.flatten([inputs, args, kwargs])
        choosing.refuse_the_other(self._keras, choosing.of_values(values))
        # Keras 3 takes only tensors, but programs for tensorflow_hub also pass strings and lists.
        inputs = tree.map_structure(self._accepted, as_tensors(inputs))
        return super().__call__(inputs, *args, **kwargs)

    def _accepted(self, value: Any) -> Any:
        """An input as the model takes it; a TypeError if it is one of Keras, and it does not."""
        taken = self._model.input_dtypes
        if isinstance(value, keras.KerasTensor):
            dtype = tf.as_dtype(value.dtype)
            is_cast = dtype.is_floating and any(one.is_floating for one in taken)  # by Keras
            if taken and dtype not in taken and not is_cast:
                names = " or ".join(sorted(repr(one.name) for one in taken))
                raise TypeError(
                    f"The layer {self.name!r} of {self._model.name} takes {names}, and its input "
                    f"is {dtype.name!r}. Pass dtype={names} to keras.Input, which otherwise makes "
                    "an input of float32."
                )
            return value
        # When Keras saves a subclassed model, it calls it with float32 in place of all dtypes.
        is_spurious = tf.is_tensor(value) and value.dtype == tf.float32
        if is_spurious and taken in ({tf.int32}, {tf.int64}) and not tf.executing_eagerly():
            return tf.cast(value, *taken)
        return value

    def compute_output_spec(self, inputs: Any, training: Any = None) -> Any:
        """The outputs as Keras tensors: their shapes, dtypes, and which are ragged or sparse."""
        traced = tf.function(lambda specs: self.call(specs, training), autograph=False)
        function = traced.get_concrete_function(tree.map_structure(_to_type_spec, inputs))
        outputs = function.structured_outputs
        if any(tf.is_tensor(one) and one.shape.rank is None for one in tree.flatten(outputs)):
            raise ValueError(
                f"TensorFlow does not know the shape of what {self._model.name} returns, which "
                "Keras 3 needs before the model runs. Pass output_shape, the shape without the "
                "batch size."
            )
        return tree.map_structure(_to_keras_tensor, outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output: the argument `output_shape`, or what tracing the model finds."""
        given = self._model.output_shape(tree.flatten(input_shape)[0])
        if given is not None:
            return tf.nest.map_structure(lambda shape: tuple(shape.as_list()), given)
        inputs = tree.map_shape_structure(
            lambda shape: keras.KerasTensor(shape, self.compute_dtype), input_shape
        )
        return tree.map_structure(lambda tensor: tensor.shape, self.compute_output_spec(inputs))


def _to_type_spec(value: Any) -> Any:
    if not isinstance(value, keras.KerasTensor):
        return value
    if value.sparse:
        return tf.SparseTensorSpec(value.shape, value.dtype)
    if getattr(value, "ragged", False):  # not in Keras before 3.9
        return tf.RaggedTensorSpec(value.shape, value.dtype)
    return tf.TensorSpec(value.shape, value.dtype)


def _to_keras_tensor(value: Any) -> Any:
    if not tf.is_tensor(value):
        return value
    if isinstance(value, tf.RaggedTensor):
        return keras.KerasTensor(value.shape, value.dtype, ragged=True)
    return keras.KerasTensor(value.shape, value.dtype, sparse=isinstance(value, tf.SparseTensor))


KerasLayer = choosing.class_for(layer.KerasLayer, Base)
"""A layer of Keras 3, whatever asks for it."""
keras.saving.register_keras_serializable(PACKAGE)(KerasLayer)
