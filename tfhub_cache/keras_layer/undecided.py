"""What a layer is until a Keras asks for it: a `tf.Module` around the model.

So a program without Keras has the variables of the model themselves. The first Keras whose code
looks at the object makes it a layer of that Keras, by changing its class: Keras looks with
`isinstance`, which reads `__class__` of an object whose type does not suffice.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf

from tfhub_cache.keras_layer import choosing
from tfhub_cache.keras_layer.model import as_tensors

_ARGUMENTS = {
    *("activity_regularizer", "autocast", "batch_input_shape", "batch_size", "dtype", "dynamic"),
    *("implementation", "input_dim", "input_shape", "name", "weights"),
}
"""The arguments of layers of Keras."""
_NOTES = ("_arguments_of_layer", "_loss_functions", "_trainable_weights", "_non_trainable_weights")
"""The attributes that note what the layer is made with."""
_OF_OBJECTS = {"activity_regularizer", "built"}
"""What objects of Keras have, and their classes have not."""
_becoming = threading.RLock()
"""Held by the thread that makes an object a layer of a Keras."""
_made: dict[int, Any] = {}
"""The layer that is being made of an object, by its id. Not an attribute, as tf.Module, in another
thread, looks for variables in all attributes one after the other."""


class Base(tf.Module):  # type: ignore[misc]
    """The base class of layers for which no Keras has asked.

    It notes what the layer is made with, so that the same layer of Keras can be made of it.
    """

    _model: Any

    def __init__(self, trainable: bool = True, **kwargs: Any) -> None:
        if unknown := kwargs.keys() - _ARGUMENTS:
            raise TypeError(f"hub.KerasLayer does not know the arguments {sorted(unknown)}.")
        given = set(self.__dict__)  # by a subclass
        tf.Module.__init__(self)
        self.trainable = trainable
        # tf.Module finds variables there. As attributes that are set, checkpoints would have them,
        # too, which have those of `_func`.
        self.__dict__.update(zip(_NOTES, (kwargs, [], [], []), strict=True))
        self.__dict__["_own"] = {"_own", *self.__dict__} - given

    def _adopt(self, variable: Any, trainable: bool) -> None:
        (self._trainable_weights if trainable else self._non_trainable_weights).append(variable)

    def add_loss(self, loss: Callable[[], Any]) -> None:
        """Notes a loss of the model."""
        self._loss_functions.append(loss)

    # What a program without Keras uses.

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        values = tf.nest.flatten([inputs, args, kwargs])
        keras = choosing.of_values(values) or choosing.nearest(sys._getframe())
        if keras:
            return self._become(keras)(inputs, *args, **kwargs)
        if hasattr(type(self), "build"):  # of a subclass, which expects a Keras to call it
            return self._guess(sys._getframe())(inputs, *args, **kwargs)
        # Another thread may make it a layer meanwhile.
        cast = functools.partial(_cast, self.__dict__.get("_arguments_of_layer", {}).get("dtype"))
        return self.call(tf.nest.map_structure(cast, as_tensors(inputs)), *args, **kwargs)

    def _training_by_default(self) -> bool:
        return False

    @property
    def name(self) -> str:
        """The argument `name`, or what Keras names it, or else TensorFlow."""
        asker = sys._getframe(1)
        keras = None if choosing.is_tensorflow(asker) else choosing.guessed(asker)
        if keras and not self._arguments_of_layer.get("name"):  # a name that no other layer has
            return str(self._become(keras).name)
        return str(self._arguments_of_layer.get("name") or self._name)

    @property
    def losses(self) -> list[Any]:
        """The regularization losses of the model."""
        return [loss() for loss in self._loss_functions]

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """The variables that training changes."""
        frozen = {id(variable) for variable in self._non_trainable_weights}
        found = [one for one in self.weights if one.trainable and id(one) not in frozen]
        return found if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """The other variables."""
        trained = {id(variable) for variable in self.trainable_weights}
        return [variable for variable in self.weights if id(variable) not in trained]

    @property
    def weights(self) -> list[tf.Variable]:
        """The variables of the model, and those of attributes of a subclass."""
        found = tf.Module.variables.fget(self)
        every = [*self._trainable_weights, *self._non_trainable_weights, *found]
        return list({id(variable): variable for variable in every}.values())

    variables, trainable_variables = weights, trainable_weights
    non_trainable_variables = non_trainable_weights

    # How it becomes a layer of Keras.

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        asker = sys._getframe(1)
        if keras := choosing.running(asker):
            # `isinstance` does not take the present class of the object as an answer.
            kind: Any = type(self._become(keras))
            return choosing.derived(kind)
        keras = choosing.named(asker)  # such as isinstance(layer, tf_keras.layers.Layer)
        return self._class_for(keras) if keras else type(self)

    def __getattr__(self, name: str) -> Any:
        with _becoming:
            if not issubclass(type(self), Base):  # another thread has made it a layer
                return getattr(self, name)
        if hasattr(type(self), name):  # a property has raised the AttributeError: raise it again
            return object.__getattribute__(self, name)
        asker = sys._getframe(1)
        if keras := choosing.running(asker):
            return getattr(self._become(keras), name)
        if not name.startswith("_") and not choosing.is_tensorflow(asker):
            base = choosing.base_for(choosing.guessed(asker) or choosing.OF_TF)
            if hasattr(base, name) or name in _OF_OBJECTS:
                return getattr(self._guess(asker), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def get_config(self) -> dict[str, Any]:
        """The config of a layer of Keras, which this becomes."""
        return dict(self._guess(sys._getframe(1)).get_config())

    def _class_for(self, keras: str) -> Any:
        return choosing.class_for(type(self).__bases__[0], choosing.base_for(keras))

    def _guess(self, asker: FrameType) -> Any:
        """Makes this object a layer of the Keras that seems to be meant."""
        layer = self._become(choosing.guessed(asker) or choosing.OF_TF)
        layer.__dict__["_is_guess"] = True
        return layer

    def _become(self, keras: str) -> Any:
        """Makes this object a layer of a Keras, with all that it was made with and was given.

        Other threads see it as it was, or as the whole layer.
        """
        kind = self._class_for(keras)
        with _becoming:
            if not issubclass(type(self), Base):  # another thread was first
                return self
            if (made := _made.get(id(self))) is not None:  # an attribute leads to the object itself
                return made
            made = _made[id(self)] = kind.__new__(kind)
            try:
                self._make(made, choosing.base_for(keras))
            except AttributeError as error:  # which `isinstance` would hide
                raise RuntimeError(f"hub.KerasLayer can't become a layer of {keras}.") from error
            finally:
                del _made[id(self)]
            # What Keras keeps of `made` leads to the same attributes.
            object.__setattr__(self, "__dict__", made.__dict__)
            vars(object)["__class__"].__set__(self, kind)
        return self

    def _make(self, layer: Any, base: Any) -> None:
        attributes = dict(self.__dict__)
        arguments, losses, trained, others = (attributes[name] for name in _NOTES)
        own = attributes["_own"] | {"_model"}
        layer.__dict__["_model"] = attributes["_model"]
        base.__init__(layer, attributes["trainable"], **arguments)
        for variable in trained:
            layer._adopt(variable, True)
        for variable in others:
            layer._adopt(variable, False)
        for loss in losses:
            layer.add_loss(loss)
        for name, value in attributes.items():
            if name not in own and not name.startswith("_self_"):
                setattr(layer, name, value)


def _cast(dtype: Any, value: Any) -> Any:
    """Converts arrays, and casts numbers with a fraction, as layers of Keras do."""
    if isinstance(value, np.ndarray):
        value = tf.convert_to_tensor(value)
    if not tf.is_tensor(value) or not value.dtype.is_floating:
        return value
    try:
        to = tf.as_dtype(dtype or tf.float32)
    except TypeError:  # a policy of Keras
        to = tf.float32
    return tf.cast(value, to) if to.is_floating else value
