"""Makes Keras know `hub.KerasLayer` by name, while neither is imported for it.

A saved model names the classes of its layers, and Keras finds the class of a name only if it was
registered before. So that `import tfhub_cache` is enough for `load_model`, a stand-in is
registered as soon as this library and Keras are both imported, in either order. It imports the
layer when a model that has one is loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "tfhub_cache"
"""The package under which the layer is registered: it is `tfhub_cache>KerasLayer`."""
_KERAS = ("keras", "tf_keras")


def register() -> None:
    """Registers the layer with each Keras: those imported now, the others when they are."""
    for name in _KERAS:
        if keras := sys.modules.get(name):
            _register_with(keras)
        else:
            sys.meta_path.insert(0, _WhenImported(name))


def is_keras_3(keras: ModuleType) -> bool:
    """Whether it is Keras 3. Not each Keras 2 tells its version."""
    return str(getattr(keras, "__version__", "2")).startswith("3.")


def _register_with(keras: ModuleType) -> None:
    layer = "keras3" if is_keras_3(keras) else "keras2"

    class KerasLayer:
        """Stands in for the layer until that is imported, which registers itself instead."""

        @staticmethod
        def from_config(config: dict[str, Any]) -> Any:
            module = importlib.import_module(f"tfhub_cache.keras_layer.{layer}")
            return module.KerasLayer.from_config(config)

    keras.utils.get_custom_objects().setdefault(f"{PACKAGE}>KerasLayer", KerasLayer)


class _WhenImported:
    """Registers with a module once it is imported; how to import it, it leaves to the others."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asks_the_others = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name or self._asks_the_others:
            return None
        self._asks_the_others = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asks_the_others = False
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:  # till then, as some look for a module and don't import it
                sys.meta_path.remove(self)
            _register_with(module)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
