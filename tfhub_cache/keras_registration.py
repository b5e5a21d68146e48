"""Registers `hub.KerasLayer` with Keras by name, without importing either.

A saved model names the classes of its layers, and Keras finds only classes that are registered. So
that `import tfhub_cache` suffices for `load_model`, a placeholder is registered as soon as this
library and Keras are both imported, in either order. It imports the layer when Keras loads a model
that has one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PACKAGE = "tfhub_cache"
"""The package in the registered name, `tfhub_cache>KerasLayer`."""
_KERAS = ("keras", "tf_keras")


def register() -> None:
    """Registers the layer with each Keras that is imported, now or later."""
    for name in _KERAS:
        keras = sys.modules.get(name)
        if getattr(getattr(keras, "__spec__", None), "_initializing", False):
            # Another thread is importing it, or it imports this library.
            threading.Thread(target=_register_soon, args=[name], daemon=True).start()
        elif keras is not None and _register_with(keras):
            continue
        elif not any(isinstance(one, _WhenImported) and one.name == name for one in sys.meta_path):
            sys.meta_path.insert(0, _WhenImported(name))


def is_keras_3(keras: ModuleType) -> bool:
    """Whether the module is Keras 3. Some versions of Keras 2 don't have a `__version__`."""
    return str(getattr(keras, "__version__", "2")).startswith("3.")


def _register_soon(name: str) -> None:
    with contextlib.suppress(ImportError):  # raised in the thread that began the import
        _register_with(importlib.import_module(name))  # waits for that thread


def _register_with(keras: ModuleType) -> bool:
    """Registers the layer; returns False if the module of this name is not Keras."""

    class KerasLayer:
        """A placeholder; once the layer is imported, it registers itself instead."""

        @staticmethod
        def from_config(config: dict[str, Any]) -> Any:
            module = importlib.import_module("tfhub_cache.keras_layer")
            return module.KerasLayer.from_config(config)  # which finds out which Keras loads it

    try:
        keras.utils.get_custom_objects().setdefault(f"{PACKAGE}>KerasLayer", KerasLayer)
    except Exception:  # an unknown module may raise anything, and its import must not fail
        return False
    return True


class _WhenImported:
    """A finder that registers the layer with a module once another finder has imported it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._is_searching = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or self._is_searching:
            return None
        self._is_searching = True
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:  # a reload of a module without a spec
            return None
        finally:
            self._is_searching = False
        if spec is None or not hasattr(spec.loader, "exec_module"):
            return None
        spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads a module with its own loader, and then registers the layer with it."""

    def __init__(self, loader: Any, finder: _WhenImported) -> None:
        self._loader = loader
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        # Not earlier, since a program may look for a module without importing it.
        if _register_with(module) and self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
