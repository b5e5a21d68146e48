"""The model behind a layer, and the function of the model that the layer calls.

This module does not use Keras. It follows the conventions of reusable SavedModels: the object can
be called, may take `training`, and may have `variables`, `trainable_variables` and
`regularization_losses`. Of other SavedModels a signature is called.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import InitVar, dataclass
from typing import Any

import tensorflow as tf

from tfhub_cache import loading, urls

_TF1_DEFAULT = "default"
_PLAIN = (str, bytes, bool, int, float)
"""Python types that become tensors."""


@dataclass(eq=False, repr=False)
class HubModel:
    """A model, and how it is called.

    Attributes:
        handle: the handle, or a callable.
        arguments: keyword arguments of each call.
        tags: the tags of the graph to load.
        signature: the name of the signature to call; None to call the object itself.
        as_dict: whether to return all outputs of the signature.
        output_key: the output to return, of several.
        shape: the shapes of the outputs without the batch size.
        load_options: options of TensorFlow for loading.
        resolved: the object behind the handle.
        is_tf1: whether it is in the TF1 Hub format.
        function: what is called.
        takes_training: whether it takes the argument `training`.
    """

    handle: str | Callable[..., Any]
    arguments: Mapping[str, Any]
    tags: str | Collection[str] | None
    signature: str | None
    as_dict: bool | None
    output_key: str | None
    shape: Any
    load_options: InitVar[tf.saved_model.LoadOptions | None]

    def __post_init__(self, load_options: tf.saved_model.LoadOptions | None) -> None:
        self.resolved = load_module(self.handle, self.tags, load_options)
        self.is_tf1: bool = getattr(self.resolved, "_is_hub_module_v1", False)
        if self.is_tf1:
            self.signature = self.signature or _TF1_DEFAULT
            if not self.as_dict:
                self.output_key = self.output_key or _TF1_DEFAULT
        if self.signature and (self.output_key is not None) == bool(self.as_dict):
            raise ValueError(
                f"When using a signature, either output_key or signature_outputs_as_dict=True "
                f"should be set, and not both: {self.name} is called by its signature "
                f"{self.signature!r}."
            )
        if self.as_dict and not self.signature:
            raise ValueError(
                "signature_outputs_as_dict is only valid if specifying a signature (or using the "
                "TF1 Hub format). Set signature as well, or leave it out."
            )
        # An empty shape counts as none, as in tensorflow_hub.
        self.shape = _to_shapes(self.shape) if self.shape else None
        self.function = self._find_function()
        self.has_warned = False
        self.takes_training = _takes_training(self.function)

    @functools.cached_property
    def input_dtypes(self) -> set[tf.DType]:
        """The dtypes of the model's inputs; empty if they are not known."""
        if self.signature:
            functions = [self.function]
        else:
            functions = getattr(self.function.__call__, "concrete_functions", [])
        specs = tf.nest.flatten([function.structured_input_signature for function in functions])
        return {spec.dtype for spec in specs if isinstance(spec, tf.TypeSpec)}

    @property
    def variables(self) -> list[tuple[tf.Variable, bool]]:
        """The variables that the model lists, and whether to train them; those to train first."""
        trained = list(getattr(self.resolved, "trainable_variables", ()))
        known = {id(variable) for variable in trained}
        others = [one for one in getattr(self.resolved, "variables", ()) if id(one) not in known]
        return [*((one, True) for one in trained), *((one, False) for one in others)]

    @property
    def regularization_losses(self) -> Sequence[Callable[[], Any]]:
        """Functions without arguments; training adds what they return to its loss.

        Raises:
            ValueError: if one can't be called.
        """
        losses = list(getattr(self.resolved, "regularization_losses", ()))
        if not all(callable(loss) for loss in losses):
            raise ValueError(
                f"hub.KerasLayer(obj) expects obj.regularization_losses to be an iterable of "
                f"callables, each returning a scalar loss term; those of {self.name} are {losses}."
            )
        return losses

    def __call__(self, inputs: Any, training: Any) -> Any:
        """Calls the model.

        Args:
            inputs: a tensor or a nest of tensors. For a signature, a dict holds its arguments.
            training: a bool or a tensor of one; ignored if the model does not take it.
        """
        if self.signature and isinstance(inputs, dict):
            call = functools.partial(self.function, **{**self.arguments, **inputs})
        else:
            call = functools.partial(self.function, inputs, **self.arguments)
        # A SavedModel has a function for True and one for False, but not for a tensor.
        static = tf.get_static_value(training) if tf.is_tensor(training) else training
        if not self.takes_training:
            outputs = call()
        elif static is not None:
            outputs = call(training=bool(static))
        else:
            is_on = tf.cast(training, tf.bool)
            outputs = tf.cond(is_on, lambda: call(training=True), lambda: call(training=False))
        outputs = self._item(outputs)
        if self.shape is not None:  # which a function of a SavedModel may not know
            shapes = self.output_shape(tf.nest.flatten(inputs)[0].shape[0])
            tf.nest.map_structure(lambda tensor, shape: tensor.set_shape(shape), outputs, shapes)
        return outputs

    def output_shape(self, batch_size: int | None) -> Any:
        """The argument `output_shape` with the batch size in front of each shape; None without."""
        if self.shape is None:
            return None
        batch = tf.TensorShape([batch_size])
        return tf.nest.map_structure(batch.concatenate, self.shape)

    def config(self) -> dict[str, Any]:
        """The arguments that make the same model, for JSON.

        Raises:
            NotImplementedError: if the handle is not a string.
            ValueError: if one of `arguments` can't be written as JSON.
        """
        if not isinstance(self.handle, str):
            # At an error of this type, TensorFlow saves the layer without a config.
            raise NotImplementedError(
                "Can only generate a valid config for `hub.KerasLayer(handle, ...)` that uses a "
                f"string `handle`. This one is a {type(self.handle).__name__}. Save the model "
                "with model.export() or tf.saved_model.save(), or its weights alone."
            )
        config: dict[str, Any] = {"handle": self.handle}
        if self.shape is not None:
            shapes = tf.nest.map_structure(lambda shape: tuple(shape.as_list()), self.shape)
            config["output_shape"] = shapes
        for key, value in self.arguments.items():
            try:
                json.dumps(value)
            except (TypeError, ValueError):
                raise ValueError(
                    "`hub.KerasLayer(..., arguments)` contains non json-serializable values in "
                    f"key: {key}. Pass numbers, strings, lists and dicts, not {value!r}."
                ) from None
        rest = {
            "arguments": self.arguments,
            "tags": self.tags if not self.tags or isinstance(self.tags, str) else sorted(self.tags),
            "signature": self.signature,
            "output_key": self.output_key,
            "signature_outputs_as_dict": self.as_dict,
        }
        return config | {name: value for name, value in rest.items() if value}

    @property
    def name(self) -> str:
        """The handle without secrets, for messages."""
        return urls.redact(self.handle) if isinstance(self.handle, str) else repr(self.handle)

    def _find_function(self) -> Any:
        if callable(self.resolved) and not self.signature:
            return self.resolved
        signatures = getattr(self.resolved, "signatures", None)
        if signatures is None:  # only of a callable handle: loaded objects have the attribute
            raise ValueError(
                f"Loaded object has no signatures, so {self.name} can't be called by its "
                f"signature {self.signature!r}. Leave out signature."
            )
        available = ", ".join(map(repr, signatures)) or "none"
        if self.signature is None:
            raise ValueError(
                f"Signature name has to be specified for non-callable saved models (if not in the "
                f"TF1 Hub format): set signature for {self.name}, and output_key or "
                f"signature_outputs_as_dict=True (available signatures: {available})."
            )
        if self.signature not in signatures:
            raise ValueError(
                f"Unknown signature {self.signature} in {self.name} "
                f"(available signatures: {available})."
            )
        return signatures[self.signature]

    def _item(self, outputs: Any) -> Any:
        if not self.output_key:
            return outputs
        if not isinstance(outputs, dict):
            raise ValueError(
                f"Specifying `output_key` is forbidden if output type {type(outputs)} is not a "
                f"dict. {self.name} returns it; leave out output_key."
            )
        if self.output_key not in outputs:
            raise ValueError(
                f"KerasLayer output does not contain the output key {self.output_key} "
                f"(available: {', '.join(map(repr, outputs))})."
            )
        return outputs[self.output_key]


def as_tensors(inputs: Any) -> Any:
    """Converts Python strings and numbers, alone and in lists, into tensors."""
    if isinstance(inputs, dict):
        return {key: as_tensors(value) for key, value in inputs.items()}
    if isinstance(inputs, (list, tuple)):
        leaves = tf.nest.flatten(inputs)
        plain = bool(leaves) and all(isinstance(leaf, _PLAIN) for leaf in leaves)
    else:
        plain = isinstance(inputs, _PLAIN)
    return tf.constant(inputs) if plain else inputs


def load_module(
    handle: Any,
    tags: str | Collection[str] | None = None,
    load_options: tf.saved_model.LoadOptions | None = None,
) -> Any:
    """What a layer calls: the object behind a handle, or a callable itself.

    Args:
        handle: a handle for `resolve`, or a callable.
        tags: the graph variant to load; see `load`. None for a callable.
        load_options: options of TensorFlow for loading; see `load`. None for a callable.

    Raises:
        ValueError: if the handle is neither, or a callable is given what is for handles only.
        OSError: if the handle can't be resolved; see `resolve`.
    """
    if functions := _functions_of(handle):
        raise ValueError(
            f"Expected a string, got {handle!r}, which can't be called. Pass one of its functions "
            f"instead: {', '.join(functions)}."
        )
    if not callable(handle):
        return loading.load(handle, tags=tags, options=load_options)
    for name, value in (("tags", tags), ("load_options", load_options)):
        if value is not None:
            raise ValueError(
                f"Passing a callable handle is mutually exclusive with setting {name}, which only "
                "says how a string handle is loaded."
            )
    return handle


def _functions_of(loaded: Any) -> list[str]:
    """What can be called of a loaded SavedModel that can't be called itself."""
    signatures = getattr(loaded, "signatures", None)
    if callable(loaded) or not isinstance(signatures, Mapping):
        return []
    names = [name for name in dir(loaded) if not name.startswith("_")]
    return [
        *(f"loaded.{name}" for name in names if callable(getattr(loaded, name, None))),
        *(f"loaded.signatures[{name!r}]" for name in signatures),
    ]


def _takes_training(function: Any) -> bool:
    # Only the __call__ of a SavedModel's object has the signature.
    for target in (function, function.__call__):
        with contextlib.suppress(TypeError, ValueError):  # built in, without a signature
            if "training" in inspect.signature(target).parameters:
                return True
    return False


def _to_shapes(nest: Any) -> Any:
    """Converts a nest of tuples and lists of int or None into a nest of shapes."""
    if isinstance(nest, Mapping):
        return {key: _to_shapes(value) for key, value in nest.items()}
    try:
        return tf.TensorShape(nest)
    except TypeError:
        pass  # a sequence of shapes
    if isinstance(nest, (list, tuple)):
        return type(nest)([_to_shapes(value) for value in nest])
    raise TypeError(
        f"output_shape must be a shape, or lists, tuples and dicts of shapes, and not {nest!r}."
    )
