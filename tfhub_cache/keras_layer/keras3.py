"""The layer for Keras 3 with TensorFlow as its backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
"""The handles that this program itself has made a layer of."""

_PLAIN = (str, bytes, bool, int, float)
"""What TensorFlow makes tensors of."""


@keras.saving.register_keras_serializable(PACKAGE)
class KerasLayer(HubLayer, keras.layers.Layer):  # type: ignore[misc]
    """A model as a layer of Keras: `hub.KerasLayer`.

    It follows `tensorflow_hub.KerasLayer`. Where `tf.keras` is Keras 3, it is a layer of Keras 3
    on TensorFlow; where it is Keras 2, one of Keras 2. The model is called with the layer's inputs.
    If it takes `training`, it gets True when the layer is trainable and called for training, and
    else False. [The page on KerasLayer](keras.md) has recipes.

    Args:
        handle: what `resolve` takes: a URL, a path. Or a callable, such as what `hub.load`
            returned; such a layer has no config, so the model can be exported, but not saved as
            `.keras`.
        trainable: whether training changes the model. It can be set at any time, before
            `compile`. Not for signatures and the TF1 Hub format.
        arguments: keyword arguments for the model, the same at each call. To be saved, they must
            be something for JSON.
        tags: the graph variant to load, as `load` has it.
        signature: the name of a signature to call, in place of the model itself. For the TF1 Hub
            format it is `default` by default. The layer's inputs are then a dict of the
            signature's arguments, or its only one.
        signature_outputs_as_dict: True to get all outputs of the signature, as a dict.
        output_key: the one output to get, where a dict comes out. For the TF1 Hub format it is
            `default` by default.
        output_shape: the shape of the output without the batch size, or a nest of such, for a
            model of which TensorFlow can't tell it.
        load_options: `tf.saved_model.LoadOptions`, as `load` has it; not saved in the config.
        **kwargs: what every layer of Keras takes: `name`, `dtype`, and `input_shape` for the first
            layer of a Sequential model. `dtype=tf.string` says that this input is of strings,
            which Keras 3 also knows where the model takes nothing else.
            Under a mixed precision policy, the dtype is that of the policy's variables, since
            those in a model are fixed.

    Attributes:
        resolved_object: the object that the handle stands for.

    Raises:
        ImportError: if TensorFlow is not installed.
        NotImplementedError: if Keras 3 runs on another backend than TensorFlow.
        ValueError: if these arguments don't go together or the model has not what they name; and
            as `load` raises it.
        OSError: as `resolve` raises it.

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
        if keras.backend.backend() != "tensorflow":
            raise NotImplementedError(
                "hub.KerasLayer runs a model of TensorFlow, which Keras 3 can only do with "
                f"TensorFlow as its backend, and this Keras runs on {keras.backend.backend()!r}. "
                "Set KERAS_BACKEND=tensorflow before Keras is imported."
            )
        input_shape = kwargs.pop("input_shape", None)
        batch_input_shape = kwargs.pop("batch_input_shape", None)  # in configs of Keras 2
        if input_shape is not None:
            batch_input_shape = (None, *input_shape)
        super().__init__(
            handle,
            trainable,
            arguments,
            tags=tags,
            signature=signature,
            signature_outputs_as_dict=signature_outputs_as_dict,
            output_key=output_key,
            output_shape=output_shape,
            load_options=load_options,
            **kwargs,
        )
        self._batch_input_shape = batch_input_shape and tuple(batch_input_shape)
        # XLA can't compile what SavedModels may hold, such as tables and strings.
        self.supports_jit = False
        self.built = True
        if isinstance(handle, str):
            _run_before.add(handle)

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
            listed = []  # Keras makes weights of a layer that is called by this one itself
        once = {id(variable): (variable, trainable) for variable, trainable in listed}
        with keras.name_scope(self.name, caller=self):
            self._adopted = [
                weight_of(variable, name, trainable)
                for (variable, trainable), name in zip(
                    once.values(), names(variable for variable, _ in once.values()), strict=True
                )
            ]
        _ = model.regularization_losses  # raises now if there is something wrong with them

    # A weight may be one of several layers, and of the program's own. So freezing changes no
    # weight, as it would in Keras, but what the layer lists: models go by that.

    @property
    def trainable(self) -> bool:
        """Whether training changes the model."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)

    @property
    def variables(self) -> list[Any]:
        """The weights, and the state of random generators if there is any."""
        return self._as_trainable_as_this(super().variables)

    @property
    def weights(self) -> list[Any]:
        """The model's variables, none of them twice."""
        return self._as_trainable_as_this(super().weights)

    def _get_own_losses(self) -> list[Any]:
        # What a layer adds to the losses of its model. `add_loss` would count for each call.
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
        """The shape given as `input_shape`, behind the batch size.

        By this name a Sequential model looks for it, and then takes the layer's dtype, too.
        """
        if self._batch_input_shape is None:
            raise AttributeError(f"{self.name} was made without input_shape.")
        return self._batch_input_shape

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # Keras 3 takes only tensors, and programs for tensorflow_hub pass strings and lists, too.
        return super().__call__(_with_lists_as_tensors(inputs), *args, **kwargs)

    def compute_output_spec(self, inputs: Any, training: Any = None) -> Any:
        """What comes out, as Keras tensors; dtypes and ragged ones too, which shapes don't tell."""
        traced = tf.function(lambda specs: self.call(specs, training), autograph=False)
        function = traced.get_concrete_function(tree.map_structure(_to_type_spec, inputs))
        outputs = function.structured_outputs
        if any(tf.is_tensor(one) and one.shape.rank is None for one in tree.flatten(outputs)):
            raise ValueError(
                f"TensorFlow can't tell the shape of what {self._model.name} returns, and Keras 3 "
                "has to know it before it can build on it. Pass output_shape, the shape without "
                "the batch size."
            )
        return tree.map_structure(_to_keras_tensor, outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output: by `output_shape` if it was given, else by asking the model."""
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

        It follows the rule of `keras.layers.TFSMLayer`, which runs a SavedModel, too: not in safe
        mode. A handle of which this program has made a layer by itself is no news and loads.

        Args:
            config: what `get_config` returned.
            safe_mode: whether an unknown handle is refused. By default, as `load_model` has it
                for what it loads, and `keras.config.enable_unsafe_deserialization()` for all
                else; where neither says anything, it is.

        Raises:
            ValueError: if it is refused; the message says how to allow it. Or if the handle is no
                string.
        """
        if safe_mode is None:
            safe_mode = in_safe_mode()
        handle = config.get("handle")
        if not isinstance(handle, str):
            raise ValueError(f"The config of a hub.KerasLayer has no handle but {handle!r}.")
        if safe_mode is not False and handle not in _run_before:
            raise ValueError(
                f"A hub.KerasLayer is to be made from a config, and would run the model "
                f"{urls.redact(handle)}. A model can do harm, so Keras's safe mode does not allow "
                "it. If you trust whoever saved this, pass safe_mode=False to load_model or "
                "from_config, or call keras.config.enable_unsafe_deserialization()."
            )
        return cls(**config)


def _with_lists_as_tensors(inputs: Any) -> Any:
    """Python strings and numbers, alone and in lists, become tensors; all else stays."""
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
    if getattr(value, "ragged", False):  # Keras before 3.9 has no ragged ones
        return tf.RaggedTensorSpec(value.shape, value.dtype)
    return tf.TensorSpec(value.shape, value.dtype)


def _to_keras_tensor(value: Any) -> Any:
    if not tf.is_tensor(value):
        return value
    if isinstance(value, tf.RaggedTensor):
        return keras.KerasTensor(value.shape, value.dtype, ragged=True)
    return keras.KerasTensor(value.shape, value.dtype, sparse=isinstance(value, tf.SparseTensor))
