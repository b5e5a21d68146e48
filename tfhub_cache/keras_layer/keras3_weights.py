"""A model's variables as weights of Keras 3: the variables themselves, not copies.

Keras identifies a weight by its object. So all layers of the process share one weight for each
variable, and one more that frozen layers list in its place.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from weakref import WeakValueDictionary

import keras
import tensorflow as tf


class _Weight(keras.Variable):  # type: ignore[misc]
    """A weight of Keras whose value is a variable of the model itself."""

    def __init__(self, variable: tf.Variable, **kwargs: Any) -> None:
        self._variable = variable
        shape = variable.shape
        if not shape.is_fully_defined():  # Keras needs one: the present shape
            with tf.init_scope():
                shape = variable.read_value().shape
        super().__init__(
            lambda shape, dtype: variable, shape, variable.dtype, autocast=False, **kwargs
        )
        if self.value is not variable:
            raise NotImplementedError(
                f"Keras {keras.__version__} has copied a variable of the model, so training would "
                "not reach it. Use another version of Keras."
            )

    # Keras would make its own variable in one of these methods; in which depends on its version.

    def _initialize(self, value: Any) -> None:
        self._value = self._variable

    def _initialize_with_initializer(self, initializer: Any) -> None:
        self._value = self._variable


_weights: WeakValueDictionary[tuple[int, bool], _Weight] = WeakValueDictionary()
"""By the variable's id and whether it is trained: Keras trains a weight once, however many layers
list it. A weight keeps its variable alive, so the id is not reused while the weight exists."""


def weight_of(variable: Any, name: str, trainable: bool) -> Any:
    """The weight for this variable, the same one in all layers."""
    if isinstance(variable, keras.Variable):
        if variable.trainable == trainable:
            return variable
        variable = variable.value
    if not isinstance(variable, tf.Variable):
        raise ValueError(
            f"hub.KerasLayer can't make a weight of {variable!r}. The variables and "
            "trainable_variables of a callable must be tf.Variables, or variables of Keras."
        )
    key = id(variable), trainable
    weight = _weights.get(key)
    if weight is None:
        weight = _weights[key] = _Weight(variable, name=name, trainable=trainable)
    return weight


class Weights:
    """The weights that a layer has made of variables, hidden from Keras's tracking."""

    def __init__(self) -> None:
        self._of: dict[int, Any] = {}
        self._names: Counter[str] = Counter()
        self._frozen: dict[int, Any] = {}

    def add(self, variable: Any, trainable: bool) -> Any:
        """The weight for a variable, or None if the layer has one already."""
        if id(variable) in self._of:
            return None
        name = getattr(variable, "name", "variable").partition(":")[0].replace("/", "_")
        self._names[name] += 1
        if self._names[name] > 1:
            name = f"{name}_{self._names[name] - 1}"
        weight = self._of[id(variable)] = weight_of(variable, name, trainable)
        return weight

    def frozen(self, weight: Any) -> Any:
        """What a layer lists for a weight while it is frozen."""
        if id(weight) not in self._frozen:
            self._frozen[id(weight)] = weight_of(weight.value, weight.name, False)
        return self._frozen[id(weight)]
