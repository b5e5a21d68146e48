"""The contract of a resolver, for those built in and those that programs add.

The names are tensorflow_hub's, so that a custom resolver written for it only needs another import
line.
"""

from __future__ import annotations

import abc
import functools
import os
from typing import TYPE_CHECKING, Any

from tfhub_cache import settings
from tfhub_cache.settings import ModelLoadFormat

if TYPE_CHECKING:
    import ssl

__all__ = [
    "HttpResolverBase",
    "ModelLoadFormat",
    "Resolver",
    "create_local_module_dir",
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

    def is_supported(self, handle: str) -> bool:
        """Whether this resolver can resolve handles of this form; by default, none.

        Args:
            handle: the handle as the user wrote it.

        Returns:
            True if `__call__` takes the handle, whether or not the model exists.
        """
        return False

    @abc.abstractmethod
    def __call__(self, handle: str) -> str:
        """The path of the model behind a handle.

        Args:
            handle: a handle for which `is_supported` returned True.

        Returns:
            A path that TensorFlow can load from.

        Raises:
            OSError: if there is no such model, or it is unavailable.
        """

    def refresh(self, handle: str) -> str:
        """The path of the model behind a handle, downloaded again even if it is in the cache.

        For a resolver without a cache it is the same as `__call__`.

        Args:
            handle: a handle for which `is_supported` returned True.

        Returns:
            A path that TensorFlow can load from.

        Raises:
            OSError: see `__call__`. The cached model stays usable.
        """
        return self(handle)


class HttpResolverBase(Resolver):
    """A resolver of http:// and https:// handles.

    Attributes:
        _context: the TLS context of `_call_urlopen`. Where a program has made it one that checks no
            certificates, the built-in resolvers check none either. The name is tensorflow_hub's.
    """

    def is_http_protocol(self, handle: str) -> bool:
        """Whether the handle is an http(s) URL."""
        return handle[:8].lower().startswith(("http://", "https://"))

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        import ssl

        return ssl.create_default_context()

    def _set_url_context(self, context: ssl.SSLContext) -> None:
        self._context = context

    def _call_urlopen(self, request: Any) -> Any:
        """Opens a URL, for subclasses of programs.

        The built-in resolver of archives downloads with it if a program has replaced it.
        """
        import urllib.request

        return urllib.request.urlopen(request, context=self._context)  # noqa: S310


def tfhub_cache_dir(default_cache_dir: str | None = None, use_temp: bool = False) -> str | None:
    """The cache folder; compatible with `tensorflow_hub.resolver.tfhub_cache_dir`.

    Args:
        default_cache_dir: the result if neither the environment nor the flag names a folder.
        use_temp: whether the result is otherwise the folder in the system's temporary folder.

    Returns:
        The folder as the user wrote it, or None.
    """
    if settings.CACHE_DIR.value() or (use_temp and not default_cache_dir):
        return settings.cache_dir()
    return default_cache_dir


def model_load_format() -> str:
    """The load format; compatible with `tensorflow_hub.resolver.model_load_format`.

    Raises:
        ValueError: if it is unknown.
    """
    return settings.LOAD_FORMAT.value().value


def create_local_module_dir(cache_dir: str, module_name: str) -> str:
    """Makes the cache folder, and returns the path of a folder in it, which is not made."""
    os.makedirs(cache_dir, exist_ok=True)
    return os.path.join(cache_dir, module_name)
