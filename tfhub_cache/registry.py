"""The chain of resolvers: the newest that supports a handle serves it.

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
    """An ordered collection of resolvers that is called like one of them."""

    def __init__(self, name: str, implementations: Iterable[Resolver] = ()) -> None:
        self._name = name
        self._implementations = list(implementations)

    def add_implementation(self, impl: Resolver) -> None:
        """Adds a resolver, which is asked before all that were added earlier.

        Args:
            impl: anything with `is_supported(handle)` and `__call__(handle)`, as described by
                `tfhub_cache.resolver.Resolver`.
        """
        self._implementations.append(impl)

    def clear_implementations(self) -> None:
        """Removes all resolvers, the built-in ones included."""
        self._implementations.clear()

    def __call__(self, handle: str) -> str:
        """Resolves `handle` with the newest resolver that supports it.

        Args:
            handle: the handle as the user wrote it. White space around a URL is left out.

        Returns:
            The path that the resolver returns.

        Raises:
            RuntimeError: if no resolver supports the handle; it names those that were tried.
        """
        meant = as_meant(handle)
        implementation = self._implementation(meant)
        as_written = None if meant == handle else cached_as_written(implementation, handle)
        return as_written or implementation(meant)

    def refresh(self, handle: str) -> str:
        """Resolves `handle` and fetches anew what would otherwise come from the cache.

        Args:
            handle: the handle as the user wrote it.

        Returns:
            The path that the resolver returns. The model there is replaced when the new one is
            complete.

        Raises:
            RuntimeError: if no resolver supports the handle.
            OSError: if it can't be fetched. What was cached can still be used.
        """
        meant = as_meant(handle)
        implementation = self._implementation(meant)
        # Resolvers that were written for tensorflow_hub know nothing of it.
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
