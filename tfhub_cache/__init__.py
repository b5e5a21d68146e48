"""tfhub_cache: TensorFlow Hub models by their handles, from a cache that looks after itself.

A drop-in replacement for `tensorflow_hub`'s `resolve` and `load`:

    import tfhub_cache as hub

    model = hub.load("https://tfhub.dev/google/nnlm-en-dim128/2")

`hub.cache` looks after what was downloaded.

Importing it is cheap: TensorFlow, requests and gcsfs are imported when they are first needed.
"""

from tfhub_cache import cache, errors, registry, resolver
from tfhub_cache.loading import load, resolve
from tfhub_cache.stand_in import install_as_tensorflow_hub
from tfhub_cache.version import __version__

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
