"""`hub.KerasLayer`: loads a model, calls it, and decides what is trained.

How the variables and losses of the model become those of a layer differs between the Kerases, so
the base classes do that: `Base` of `keras2`, `keras3` and `undecided`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from absl import logging

from tfhub_cache.keras_layer import choosing, trusting, undecided
from tfhub_cache.keras_layer.model import HubModel

if TYPE_CHECKING:
    import tensorflow as tf


def _of_model(name: str) -> Any:
    """An attribute of layers of tensorflow_hub that programs read."""
    return property(lambda self: getattr(self._model, name))


class _OfInit:
    """The signature of a class whose arguments are those of its `__init__`."""

    def __get__(self, layer: Any, kind: Any) -> inspect.Signature:
        if layer is not None:
            raise AttributeError("An object has the signature of its __call__.")
        signature = inspect.signature(kind.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class KerasLayer:
    """A model as a layer of Keras: `hub.KerasLayer`.

    It follows `tensorflow_hub.KerasLayer`, for tf_keras, for Keras 3 on TensorFlow, and without
    Keras. The model is called with the layer's inputs. If it takes `training`, it gets True when
    the layer is trainable and called for training, and False otherwise. [The page on
    KerasLayer](keras.md) has recipes.

    Which Keras it is a layer of is decided by the first that looks at it: when it is added to a
    model, called by one, saved by one. Until then it is a `tf.Module`, whose variables are those of
    the model. If `tf.keras` is Keras 2, it is a layer of Keras 2 from the beginning.

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
        NotImplementedError: if a Keras 3 asks for it that has another backend than TensorFlow.
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

    _model: HubModel
    _adopt: Callable[[Any, bool], None]
    _training_by_default: Callable[[], Any]
    add_loss: Callable[[Any], None]
    trainable: bool
    trainable_weights: list[Any]

    __signature__ = _OfInit()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        kind: Any = cls
        if not hasattr(kind, "_adopt"):  # without a base class
            keras = choosing.of_values([cls])  # of another class that the program derives it from
            if choosing.OF_TF == choosing.KERAS_2:
                keras = choosing.KERAS_2
            kind = choosing.class_for(kind, choosing.base_for(keras) if keras else undecided.Base)
        return super().__new__(kind)

    def __init__(
        self,
        handle: str | Callable[..., Any],
        trainable: bool = False,
        arguments: Mapping[str, Any] | None = None,
        _sentinel: None = None,
        tags: str | Collection[str] | None = None,
        signature: str | None = None,
        signature_outputs_as_dict: bool | None = None,
        output_key: str | None = None,
        output_shape: Any = None,
        load_options: tf.saved_model.LoadOptions | None = None,
        **kwargs: Any,
    ) -> None:
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
        # Keras refuses attributes before its __init__ has run, and tracks those that are set later,
        # so TensorFlow saves the tables and assets of the model.
        self.__dict__.update(_model=model, _func=model.resolved)
        self._setup_layer(trainable, **kwargs)
        self._func = self.__dict__.pop("_func")
        trusting.note(handle)

    # These methods and attributes have their names from tensorflow_hub, since programs override,
    # call and read them, and since `_func` is part of checkpoints.

    _callable = _of_model("function")
    _handle = _of_model("handle")
    _arguments = _of_model("arguments")
    _signature = _of_model("signature")
    _signature_outputs_as_dict = _of_model("as_dict")
    _output_key = _of_model("output_key")
    _is_hub_module_v1 = _of_model("is_tf1")
    _has_training_argument = _of_model("takes_training")

    @property
    def _output_shape(self) -> Any:
        if self._model.shape is None:
            raise AttributeError("The layer was made without output_shape.")
        return self._model.shape

    def _setup_layer(self, trainable: bool = False, **kwargs: Any) -> None:
        """Initializes a layer with the weights and losses of the model."""
        super().__init__(trainable=trainable, **kwargs)  # type: ignore[call-arg]
        for variable, is_trained in self._model.variables:
            self._add_existing_weight(variable, trainable=is_trained)
        for loss in self._model.regularization_losses:
            self.add_loss(self._call_loss_if_trainable(loss))

    def _add_existing_weight(self, weight: Any, trainable: bool | None = None) -> None:
        """Makes a variable of the model a weight."""
        self._adopt(weight, weight.trainable if trainable is None else trainable)

    def _call_loss_if_trainable(self, loss: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: loss() if self.trainable else 0.0

    def _check_trainability(self) -> None:
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
        if not self.trainable_weights and not self._model.has_warned:
            self._model.has_warned = True
            logging.error(
                "hub.KerasLayer is trainable but has zero trainable weights: the model lists no "
                "trainable_variables."
            )

    @property
    def resolved_object(self) -> Any:
        """The object behind the handle: what was loaded, or the callable itself."""
        return self._func

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Calls the model; Keras calls this."""
        self._check_trainability()
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
        return {**config, **self._model.config()}

    @classmethod
    def from_config(cls, config: dict[str, Any], safe_mode: bool | None = None) -> KerasLayer:
        """Makes a layer from its config, which resolves and loads its handle again.

        For Keras 3, it runs only a model that the program trusts; see [the page on
        loading](loading.md). Keras 2 has no such rule.

        Args:
            config: what `get_config` returned.
            safe_mode: whether to refuse a handle that the program does not trust. The default is
                the `safe_mode` of the `load_model` that is running, otherwise False after
                `keras.config.enable_unsafe_deserialization()`, otherwise True.

        Raises:
            ValueError: if the handle is refused, or the config has none; the message says how to
                allow it.
        """
        asker = sys._getframe(1)
        keras = getattr(cls, "_keras", None) or choosing.nearest(asker) or choosing.guessed(asker)
        if (keras or choosing.OF_TF) == choosing.KERAS_3:
            trusting.check(config.get("handle"), safe_mode)
        return cls(**config)
