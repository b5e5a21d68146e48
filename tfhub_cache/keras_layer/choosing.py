"""Which Keras a layer is for, and the class of a layer for it.

The evidence is the code that runs: a function of a Keras that asks about the layer, or a function
that names a Keras. What is imported elsewhere in the process is no evidence. In this order:

1. If `tf.keras` is Keras 2, each layer is one of it from the beginning.
2. A function of a Keras asks (`running`), is on the stack of a call (`nearest`), or an input is of
   a Keras (`of_values`): that Keras.
3. A function that names one Keras asks `isinstance` (`named`): it is answered for that Keras, and
   nothing is decided.
4. A program reads what only a layer of Keras has: the Keras that the nearest code names
   (`guessed`), or else that of `tf.keras`. If tf_keras then asks for a layer that was taken for one
   of Keras 3, that is an error which names the ways out.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable, Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any, cast

from tfhub_cache.keras_registration import is_keras_3
from tfhub_cache.loading import check_tensorflow

KERAS_2, KERAS_3 = _BASES = {"tf_keras": "keras2", "keras": "keras3"}
"""The packages, and the modules here that hold the base class of layers for them."""
_OF_THE_OTHER = (
    "This hub.KerasLayer is a layer of {mine}, and {other} asks for it. A layer is of one Keras: "
    "make another for {other}. hub.keras_layer.keras2.KerasLayer is always a layer of tf_keras, "
    "and so is hub.KerasLayer if TF_USE_LEGACY_KERAS=1 is set before TensorFlow is imported."
)


def _of_tf() -> str:
    check_tensorflow("hub.KerasLayer")
    import tensorflow as tf

    try:
        return KERAS_3 if is_keras_3(tf.keras) else KERAS_2
    except ImportError as error:
        raise ImportError(
            "hub.KerasLayer needs the Keras that TensorFlow uses, which can't be imported. If "
            "TF_USE_LEGACY_KERAS=1 is set, that is Keras 2: install it with pip install tf_keras, "
            "or unset TF_USE_LEGACY_KERAS for Keras 3. Otherwise install Keras 3: pip install "
            "keras."
        ) from error


OF_TF = _of_tf()
"""The Keras that `tf.keras` is; it depends on the environment and on what is installed."""


def base_for(keras: str) -> type:
    """The base class of layers for a Keras, which imports it."""
    return cast("type", importlib.import_module(f"{__package__}.{_BASES[keras]}").Base)


@functools.cache
def class_for(layer: Any, base: Any) -> Any:
    """The class for layers that a program makes of a class: on a base class, with its names."""
    names = {name: getattr(layer, name) for name in ("__module__", "__qualname__", "__doc__")}
    made = type(layer.__name__, (layer, base), names)
    if keras := sys.modules.get(getattr(base, "_keras", "")):
        # As what the program has registered its class.
        package, _, name = keras.utils.get_registered_name(layer).rpartition(">")
        if package:
            keras.utils.register_keras_serializable(package, name)(made)
    return made


@functools.cache
def derived(kind: Any) -> Any:
    """A class that is derived from a class, and looks like it."""
    return type(kind.__name__, (kind,), dict(vars(kind)))


def refuse_the_other(mine: str, other: str | None) -> None:
    """Raises a TypeError with the way out if another Keras than a layer's own asks for it."""
    if other not in (None, mine):
        names = {KERAS_2: "tf_keras", KERAS_3: "Keras 3"}
        raise TypeError(_OF_THE_OTHER.format(mine=names[mine], other=names[other]))


def adding(frame: FrameType) -> str | None:
    """The Keras that asks whether a layer can be added to a model."""
    return running(frame) if frame.f_code.co_name == "add" else None


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame and its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def running(frame: FrameType) -> str | None:
    """The Keras that a frame is in."""
    if frame.f_back and _module(frame.f_back) == "tensorflow.python.saved_model.revived_types":
        return None  # it saves, and asks each Keras that is imported whether it knows the object
    return _keras_at(_module(frame))


def is_tensorflow(frame: FrameType, module: str = "") -> bool:
    """Whether a frame is in TensorFlow, which looks at attributes before it sets them."""
    return _module(frame).startswith(f"tensorflow.{module}")


def nearest(frame: FrameType | None) -> str | None:
    """The Keras that has called, if one has."""
    return next(filter(None, map(running, stack(frame))), None)


def named(frame: FrameType, module: bool = False) -> str | None:
    """The only Keras that the code of a frame names; or all of its module, if it names none."""
    code = frame.f_code
    names = {*code.co_names, *code.co_varnames, *code.co_freevars}
    values = [frame.f_locals.get(name, frame.f_globals.get(name)) for name in names]
    found = _kerases_of(values)
    if not found and "keras" in names and "tensorflow" in map(_name_of, values):
        found = {OF_TF}
    if not found and module:
        found = _kerases_of(frame.f_globals.values())
    return found.pop() if len(found) == 1 else None


def guessed(frame: FrameType | None) -> str | None:
    """The Keras of the nearest code that is of a Keras or names one."""
    seen = (running(one) or named(one, module=True) for one in stack(frame))
    return next(filter(None, seen), None)


def of_values(values: Iterable[Any]) -> str | None:
    """The Keras of the first value that is of one, such as an input of a model."""
    return next(filter(None, map(_keras_of, values)), None)


def _kerases_of(values: Iterable[Any]) -> set[str]:
    return set(filter(None, map(_keras_of, values)))


def _keras_of(value: Any) -> str | None:
    """The Keras of a module, a function, a class, an object, or of one of the base classes."""
    if name := _name_of(value):
        return _keras_at(name)
    kind = value if issubclass(type(value), type) else type(value)
    return next(filter(None, (_keras_at(str(one.__module__)) for one in kind.__mro__)), None)


def _name_of(value: Any) -> str | None:
    """The name of a module, or of the module of a function."""
    # `isinstance` would ask a layer that waits for a Keras to ask.
    if issubclass(type(value), ModuleType):
        return str(vars(value).get("__name__"))
    return str(value.__module__) if type(value) is FunctionType else None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _keras_at(module: str) -> str | None:
    package = module.partition(".")[0]
    return package if package in _BASES else None
