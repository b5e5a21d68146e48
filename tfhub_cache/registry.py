"""The chain of resolvers: the one added last, of those that support a handle, resolves it.

Programs written for tensorflow_hub add their own with `registry.resolver.add_implementation`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from absl import logging

from tfhub_cache.errors import ProtocolError, ResolveError, UnsafeArchiveError
from tfhub_cache.resolvers.archives import GcsArchiveResolver, HttpArchiveResolver
from tfhub_cache.resolvers.folders import HttpFolderResolver
from tfhub_cache.resolvers.paths import PathResolver
from tfhub_cache.urls import as_meant, redact


class MultiImplRegister:
    """A list of implementations that is called like one of them; the name is tensorflow_hub's."""

    def __init__(self, name: str, implementations: Iterable[Any] = ()) -> None:
        self._name = name
        self._impls = list(implementations)

    def add_implementation(self, impl: Any) -> None:
        """Adds an implementation, which comes before all that were added earlier.

        Args:
            impl: an object with `is_supported` and `__call__`, which take the same arguments; for
                handles, see `tfhub_cache.resolver.Resolver`.
        """
        self._impls.append(impl)

    def clear_implementations(self) -> None:
        """Removes all implementations, including the built-in ones."""
        self._impls.clear()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the implementation that was added last of those that support the arguments.

        Raises:
            RuntimeError: if none supports them; the message lists those that were asked.
        """
        return self._supporting(*args, **kwargs)(*args, **kwargs)

    def _supporting(self, *args: Any, **kwargs: Any) -> Any:
        for implementation in reversed(self._impls):
            if implementation.is_supported(*args, **kwargs):
                return implementation
        tried = [type(implementation).__name__ for implementation in reversed(self._impls)]
        raise RuntimeError(
            f"Missing implementation that supports: {self._name}(*{args!r}, **{kwargs!r}). "
            f"Tried {tried!r}"
        )


class Registry(MultiImplRegister):
    """A list of resolvers that is called like a resolver."""

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
        return self._resolve(handle)

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
        return self._resolve(handle, refresh=True)

    def _resolve(self, handle: str, *, refresh: bool = False) -> str:
        meant = as_meant(handle)
        resolver = self._supporting(meant)
        try:
            path: str | None = None
            if refresh:  # resolvers written for tensorflow_hub don't have the method
                resolver = getattr(resolver, "refresh", resolver)
            elif meant != handle and isinstance(resolver, HttpArchiveResolver):
                path = resolver.cached_as_written(handle)
            return path or resolver(meant)
        except (ResolveError, UnsafeArchiveError, ProtocolError) as error:
            if isinstance(error, ResolveError):
                error.handle = error.handle or redact(meant)
            # Its text says all. The stacks would be some fifty lines above it, in a notebook 130.
            logging.debug("Resolving a handle failed.", exc_info=True)
            if cause := error.__cause__:
                cause.__cause__ = cause.__context__ = cause.__traceback__ = None
            raise error.with_traceback(None) from cause


BUILT_IN = (PathResolver(), HttpFolderResolver(), GcsArchiveResolver(), HttpArchiveResolver())
resolver = Registry("resolver", BUILT_IN)
