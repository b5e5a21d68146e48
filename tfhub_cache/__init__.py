"""tfhub_cache: a drop-in replacement for TensorFlow Hub (`tensorflow_hub`).

    import tfhub_cache as hub

    model = hub.load("https://tfhub.dev/google/nnlm-en-dim128/2")
    layer = hub.KerasLayer("https://tfhub.dev/google/nnlm-en-dim128/2", trainable=True)

`hub.cache` has functions that list, check and remove the models in the cache.

TensorFlow, Keras, requests and gcsfs are imported when they are first needed.
"""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from tfhub_cache import errors, former, keras_registration, registry, resolver
from tfhub_cache.loading import load, resolve
from tfhub_cache.stand_in import install_as_tensorflow_hub
from tfhub_cache.version import __version__

if TYPE_CHECKING:
    from tfhub_cache import cache as cache
    from tfhub_cache import keras_layer as keras_layer
    from tfhub_cache.keras_layer import KerasLayer as KerasLayer

# Without the names that import TensorFlow, which `from tfhub_cache import *` would import.
__all__ = [
    "__version__",
    "cache",
    "errors",
    "install_as_tensorflow_hub",
    "load",
    "registry",
    "resolve",
    "resolver",
]

keras_registration.register()


def __getattr__(name: str) -> Any:
    if name in ("KerasLayer", "keras_layer"):
        keras_layer = importlib.import_module("tfhub_cache.keras_layer")
        return keras_layer if name == "keras_layer" else keras_layer.KerasLayer
    if name == "cache":  # a program that only resolves does not pay for it
        return importlib.import_module("tfhub_cache.cache")
    raise former.absent(__name__, name)


def __dir__() -> list[str]:
    # help() and inspect get every name in the list, so each must be importable.
    known = sys.modules.get("tensorflow") or importlib.util.find_spec("tensorflow")
    return sorted([*__all__, *(("KerasLayer", "keras_layer") if known else ())])
