"""Makes Keras know `hub.KerasLayer` by name, while neither is imported for it.

A saved model names the classes of its layers, and Keras finds the class of a name only if it was
registered before. So that `import tfhub_cache` is enough for `load_model`, a stand-in is
registered as soon as this library and Keras are both imported, in either order. It imports the
layer when a model that has one is loaded.
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
"""The package under which the layer is registered: it is `tfhub_cache>KerasLayer`."""
_KERAS = ("keras", "tf_keras")


def register() -> None:
    """Registers the layer with each Keras: those imported now, the others when they are."""
    for name in _KERAS:
        keras = sys.modules.get(name)
        if getattr(getattr(keras, "__spec__", None), "_initializing", False):
            # Another thread is importing it, or this one is, and it came to import this library.
            threading.Thread(target=_register_soon, args=[name], daemon=True).start()
        elif keras is not None and _register_with(keras):
            continue
        elif not any(isinstance(one, _WhenImported) and one.name == name for one in sys.meta_path):
            sys.meta_path.insert(0, _WhenImported(name))


def is_keras_3(keras: ModuleType) -> bool:
    """Whether it is Keras 3. Not each Keras 2 tells its version."""
    return str(getattr(keras, "__version__", "2")).startswith("3.")


def _register_soon(name: str) -> None:
    with contextlib.suppress(ImportError):  # it is told where the import began
        _register_with(importlib.import_module(name))  # waits for the import that goes on


def _register_with(keras: ModuleType) -> bool:
    """Whether that is done. A module of the same name need not be Keras."""
    layer = "keras3" if is_keras_3(keras) else "keras2"

    class KerasLayer:
        """Stands in for the layer until that is imported, which registers itself instead."""

        @staticmethod
        def from_config(config: dict[str, Any]) -> Any:
            module = importlib.import_module(f"tfhub_cache.keras_layer.{layer}")
            return module.KerasLayer.from_config(config)

    try:
        keras.utils.get_custom_objects().setdefault(f"{PACKAGE}>KerasLayer", KerasLayer)
    except Exception:  # whatever it is: nobody's import may fail of this
        return False
    return True


class _WhenImported:
    """Registers with a module once it is imported; how to import it, it leaves to the others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._asks_the_others = False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self.name or self._asks_the_others:
            return None
        self._asks_the_others = True
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:  # it is to be reloaded, and has no spec
            return None
        finally:
            self._asks_the_others = False
        if spec is None or not hasattr(spec.loader, "exec_module"):
            return None
        spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec


class _Loader:
    """Loads a module as its own loader does, and then registers with it."""

    def __init__(self, loader: Any, finder: _WhenImported) -> None:
        self._loader = loader
        self._finder = finder

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        # Till then the finder stays, as some look for a module and don't import it.
        if _register_with(module) and self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
