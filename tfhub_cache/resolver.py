"""The contract of a resolver, for those built in and for those that programs bring along.

The names are tensorflow_hub's, so that a custom resolver written for it works here after
changing its import line.
"""

from __future__ import annotations

import abc

from tfhub_cache import settings
from tfhub_cache.settings import ModelLoadFormat

__all__ = [
    "HttpResolverBase",
    "ModelLoadFormat",
    "Resolver",
    "model_load_format",
    "tfhub_cache_dir",
]


class Resolver(abc.ABC):
    """Turns one kind of handle into a path.

    Example:
        ```python
        from tfhub_cache import registry, resolver

        class TeamResolver(resolver.Resolver):
            def is_supported(self, handle):
                return handle.startswith("team://")

            def __call__(self, handle):
                return "/mnt/models/" + handle.removeprefix("team://")

        registry.resolver.add_implementation(TeamResolver())
        ```
    """

    @abc.abstractmethod
    def is_supported(self, handle: str) -> bool:
        """Whether the handle has the form that this resolver serves.

        Args:
            handle: the handle as the user wrote it.

        Returns:
            True if `__call__` is to be asked; it says nothing about whether the model exists.
        """

    @abc.abstractmethod
    def __call__(self, handle: str) -> str:
        """The path of the model behind a handle.

        Args:
            handle: a handle for which `is_supported` returned True.

        Returns:
            A path that TensorFlow can load from.

        Raises:
            OSError: if there is no such model, or it can't be had now.
        """

    def refresh(self, handle: str) -> str:
        """The path of the model behind a handle, fetched anew where it comes from a cache.

        Args:
            handle: a handle for which `is_supported` returned True.

        Returns:
            As `__call__`, which this is for resolvers without a cache.

        Raises:
            OSError: as `__call__`. What was cached can still be used.
        """
        return self(handle)


class HttpResolverBase(Resolver):
    """A resolver of http:// and https:// handles."""

    def is_http_protocol(self, handle: str) -> bool:
        """Whether the handle is an http(s) URL."""
        return handle[:8].lower().startswith(("http://", "https://"))

    def is_supported(self, handle: str) -> bool:
        """Whether the handle is an http(s) URL; subclasses narrow it down."""
        return self.is_http_protocol(handle)


def tfhub_cache_dir(default_cache_dir: str | None = None, use_temp: bool = False) -> str | None:
    """The cache folder in force, as `tensorflow_hub.resolver.tfhub_cache_dir` tells it.

    Args:
        default_cache_dir: returned when neither the environment nor the flag names a folder.
        use_temp: whether to fall back to the folder in the system's temporary folder.

    Returns:
        The folder as the user wrote it, or None.
    """
    if settings.CACHE_DIR.value() or (use_temp and not default_cache_dir):
        return settings.cache_dir()
    return default_cache_dir


def model_load_format() -> str:
    """The load format in force, as text, as `tensorflow_hub.resolver.model_load_format`."""
    return settings.LOAD_FORMAT.value().value
