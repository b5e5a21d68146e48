"""The chain of resolvers: the one added last, of those that support a handle, resolves it.

Programs written for tensorflow_hub add their own with `registry.resolver.add_implementation`.
"""

from __future__ import annotations

from collections.abc import Iterable

from tfhub_cache.resolver import Resolver
from tfhub_cache.resolvers.archives import (
    GcsArchiveResolver,
    HttpArchiveResolver,
    cached_as_written,
)
from tfhub_cache.resolvers.folders import HttpFolderResolver
from tfhub_cache.resolvers.paths import PathResolver
from tfhub_cache.urls import as_meant


class Registry:
    """A list of resolvers that is called like a resolver."""

    def __init__(self, name: str, implementations: Iterable[Resolver] = ()) -> None:
        self._name = name
        self._implementations = list(implementations)

    def add_implementation(self, impl: Resolver) -> None:
        """Adds a resolver, which comes before all that were added earlier.

        Args:
            impl: an object with `is_supported(handle)` and `__call__(handle)`; see
                `tfhub_cache.resolver.Resolver`.
        """
        self._implementations.append(impl)

    def clear_implementations(self) -> None:
        """Removes all resolvers, including the built-in ones."""
        self._implementations.clear()

    def __call__(self, handle: str) -> str:
        """Resolves `handle` with the resolver that was added last of those that support it.

        Args:
            handle: the handle as the user wrote it. White space around a URL is ignored.

        Returns:
            The path that the resolver returns.

        Raises:
            RuntimeError: if no resolver supports the handle; the message lists the resolvers.
            OSError, ValueError: see `tfhub_cache.resolve`.
        """
        meant = as_meant(handle)
        implementation = self._implementation(meant)
        as_written = None if meant == handle else cached_as_written(implementation, handle)
        return as_written or implementation(meant)

    def refresh(self, handle: str) -> str:
        """Resolves `handle`, and downloads the model again even if it is in the cache.

        Args:
            handle: the handle as the user wrote it.

        Returns:
            The path that the resolver returns. The cached model is replaced once the new one is
            complete.

        Raises:
            RuntimeError: if no resolver supports the handle.
            OSError: if the download fails. The cached model stays usable.
        """
        meant = as_meant(handle)
        implementation = self._implementation(meant)
        # Resolvers written for tensorflow_hub don't have the method.
        return getattr(implementation, "refresh", implementation)(meant)

    def _implementation(self, handle: str) -> Resolver:
        for implementation in reversed(self._implementations):
            if implementation.is_supported(handle):
                return implementation
        tried = [type(implementation).__name__ for implementation in self._implementations[::-1]]
        raise RuntimeError(
            f"Missing implementation that supports: {self._name}({handle!r}). Tried {tried}"
        )


resolver = Registry(
    "resolver",
    [PathResolver(), HttpFolderResolver(), GcsArchiveResolver(), HttpArchiveResolver()],
)
