"""The layer for Keras 3 with TensorFlow as its backend."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import tree
from keras.src.saving.serialization_lib import in_safe_mode

from tfhub_cache import urls
from tfhub_cache.keras_layer.keras3_weights import StandIns, names, weight_of
from tfhub_cache.keras_layer.layer import HubLayer
from tfhub_cache.keras_layer.model import HubModel
from tfhub_cache.keras_registration import PACKAGE

_run_before: set[str] = set()
"""The handles of the layers that this program has made itself."""

_PLAIN = (str, bytes, bool, int, float)
"""Python types that become tensors."""


@keras.saving.register_keras_serializable(PACKAGE)
class KerasLayer(HubLayer, keras.layers.Layer):  # type: ignore[misc]
    """A model as a layer of Keras: `hub.KerasLayer`.

    It follows `tensorflow_hub.KerasLayer`. If `tf.keras` is Keras 3, it is a layer of Keras 3 on
    TensorFlow; if it is Keras 2, a layer of Keras 2. The model is called with the layer's inputs.
    If it takes `training`, it gets True when the layer is trainable and called for training, and
    False otherwise. [The page on KerasLayer](keras.md) has recipes.

    Args:
        handle: a handle for `resolve`, such as a URL or a path; or a callable, such as the object
            that `hub.load` returns. A layer of a callable has no config, so it can be exported, but
            not saved as `.keras`.
        trainable: whether training changes the model. It can be set until `compile` is called. It
            must be False for signatures and the TF1 Hub format.
        arguments: keyword arguments of each call of the model. They are saved as JSON.
        tags: the graph variant to load; see `load`.
        signature: the name of a signature to call instead of the model itself. For the TF1 Hub
            format the default is `default`. The inputs of the layer are a dict of the signature's
            arguments, or its only argument.
        signature_outputs_as_dict: True to return all outputs of the signature, as a dict.
        output_key: which output to return if the model returns a dict. For the TF1 Hub format the
            default is `default`.
        output_shape: the shape of the output without the batch size, or a nest of shapes, for a
            model of which TensorFlow does not know it.
        load_options: `tf.saved_model.LoadOptions`; see `load`. They are not saved in the config.
        **kwargs: arguments of all layers of Keras: `name`, `dtype`, and `input_shape` for the first
            layer of a Sequential model. `dtype=tf.string` means that this input consists of
            strings, which is the default with Keras 3 if the model takes only strings. Under a
            mixed precision policy the dtype is that of the policy's variables, since the dtypes
            in a model are fixed.

    Attributes:
        resolved_object: the object behind the handle.

    Raises:
        ImportError: if TensorFlow is not installed.
        NotImplementedError: if Keras 3 has another backend than TensorFlow.
        ValueError: if the arguments contradict each other, or the model lacks what they name; see
            `load` for others.
        OSError: if the handle can't be resolved; see `resolve`.

    Example:
        ```python
        import tensorflow as tf
        import tfhub_cache as hub

        model = tf.keras.Sequential([
            hub.KerasLayer(
                "https://tfhub.dev/google/nnlm-en-dim128/2",
                input_shape=[],
                dtype=tf.string,
                trainable=True,
            ),
            tf.keras.layers.Dense(16, activation="relu"),
            tf.keras.layers.Dense(1),
        ])
        ```
    """

    def _prepare(self, kwargs: dict[str, Any]) -> None:
        if keras.backend.backend() != "tensorflow":
            raise NotImplementedError(
                "hub.KerasLayer runs a model of TensorFlow, which Keras 3 can only do with "
                f"TensorFlow as its backend, and this Keras runs on {keras.backend.backend()!r}. "
                "Set KERAS_BACKEND=tensorflow before Keras is imported."
            )
        shape = kwargs.pop("input_shape", None)
        batch_shape = kwargs.pop("batch_input_shape", None)  # in configs of Keras 2
        self._batch_input_shape = (
            (None, *shape) if shape is not None else (batch_shape and tuple(batch_shape))
        )

    def _dtype_of_layer(self, model: HubModel, dtype: Any) -> Any:
        if dtype is None and model.input_dtypes == {tf.string}:
            dtype = "string"  # a Sequential model makes an input of this dtype
        policy = keras.dtype_policies.get(dtype)
        mixed = policy.compute_dtype != policy.variable_dtype
        return keras.dtype_policies.get(policy.variable_dtype) if mixed else policy

    def _adopt(self, model: HubModel) -> None:
        self._stand_ins = StandIns()
        listed = [(variable, True) for variable in model.trainable_variables]
        listed += [(variable, False) for variable in model.other_variables]
        if isinstance(model.resolved, keras.layers.Layer):
            listed = []  # Keras itself lists the weights of a layer inside this one
        once = {id(variable): (variable, trainable) for variable, trainable in listed}
        with keras.name_scope(self.name, caller=self):
            self._adopted = [
                weight_of(variable, name, trainable)
                for (variable, trainable), name in zip(
                    once.values(), names(variable for variable, _ in once.values()), strict=True
                )
            ]
        _ = model.regularization_losses  # raises an error now if they are invalid
        # XLA can't compile parts of some SavedModels, such as tables and strings.
        self.supports_jit = False
        self.built = True
        if isinstance(model.handle, str):
            _run_before.add(model.handle)

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
        if not self.trainable:
            return losses
        return losses + [tf.convert_to_tensor(loss()) for loss in self._model.regularization_losses]

    def _as_trainable_as_this(self, weights: list[Any]) -> list[Any]:
        if self.trainable:
            return weights
        with keras.name_scope(self.name, caller=self):
            return [
                self._stand_ins.of(weight) if weight.trainable else weight for weight in weights
            ]

    def _training_by_default(self) -> bool:
        return False

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The argument `input_shape` with the batch size in front.

        A Sequential model looks for this attribute, and then also uses the layer's dtype.
        """
        if self._batch_input_shape is None:
            raise AttributeError(f"{self.name} was made without input_shape.")
        return self._batch_input_shape

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras 3 takes only tensors, but programs for tensorflow_hub also pass strings and lists.
        return super().__call__(_with_lists_as_tensors(inputs), *args, **kwargs)

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

    @classmethod
    def from_config(cls, config: dict[str, Any], safe_mode: bool | None = None) -> KerasLayer:
        """Makes a layer from its config, which resolves and loads its handle again.

        As `keras.layers.TFSMLayer`, which also runs a SavedModel, it does so only outside safe
        mode. It always loads a handle of which this program has made a layer before.

        Args:
            config: what `get_config` returned.
            safe_mode: whether to refuse an unknown handle. The default is the `safe_mode` of the
                `load_model` that is running, otherwise False after
                `keras.config.enable_unsafe_deserialization()`, otherwise True.

        Raises:
            ValueError: if the handle is refused; the message says how to allow it. Or if it is not
                a string.
        """
        if safe_mode is None:
            safe_mode = in_safe_mode()
        handle = config.get("handle")
        if not isinstance(handle, str):
            raise ValueError(f"The config of a hub.KerasLayer has no handle but {handle!r}.")
        if safe_mode is not False and handle not in _run_before:
            raise ValueError(
                f"The config of a hub.KerasLayer would run the model {urls.redact(handle)}. A "
                "model can do harm, so Keras's safe mode does not allow it. If you trust the "
                "source of the config, pass safe_mode=False to load_model or from_config, or call "
                "keras.config.enable_unsafe_deserialization()."
            )
        return cls(**config)


def _with_lists_as_tensors(inputs: Any) -> Any:
    """Converts Python strings and numbers, alone and in lists, into tensors."""
    if isinstance(inputs, dict):
        return {key: _with_lists_as_tensors(value) for key, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        leaves = tree.flatten(inputs)
        plain = bool(leaves) and all(isinstance(leaf, _PLAIN) for leaf in leaves)
    else:
        plain = isinstance(inputs, _PLAIN)
    return tf.constant(inputs) if plain else inputs


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
