"""The objects of a cache in an object store, and what can be done to them in one step."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from tfhub_cache import gcs
from tfhub_cache.errors import CacheError, ResolveError

if TYPE_CHECKING:
    import fsspec

_SIGNS = ("generation", "etag", "ETag", "created", "mtime", "LastModified")


class Objects:
    """The objects below the cache's root, by their names relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._file_system: fsspec.AbstractFileSystem = gcs.file_system_of(root)
        self._prefix = str(self._file_system._strip_protocol(root)).rstrip("/")
        self._has_generations = root.startswith("gs://")

    @contextlib.contextmanager
    def errors_told(self) -> Iterator[None]:
        """Turns what the file system raises into a `CacheError` that says what to do."""
        try:
            yield
        except ResolveError:
            raise
        except Exception as error:  # file systems have errors of many kinds
            raise CacheError(
                f"Could not use the cache {self.root}: {gcs.reason(error)}. {gcs.remedy(self.root)}"
            ) from error

    def sizes(self, prefix: str) -> dict[str, int]:
        """The objects whose names begin with `prefix`, and their sizes: one request."""
        try:
            found = self._file_system.find(self._prefix, prefix=prefix, detail=True)
        except FileNotFoundError:
            return {}
        names = {name[len(self._prefix) + 1 :]: info["size"] for name, info in found.items()}
        return {name: size for name, size in names.items() if name.startswith(prefix)}

    def read(self, name: str) -> bytes:
        return cast(bytes, self._file_system.cat_file(self._full(name)))

    def write(self, name: str, content: bytes) -> None:
        self._file_system.pipe_file(self._full(name), content)

    def upload(self, name: str, file: str) -> None:
        self._file_system.put_file(file, self._full(name))

    def create(self, name: str, content: bytes) -> int | None:
        """Writes an object if there is none of that name; the store decides who is first.

        Returns:
            The object's generation, or None if there is one already.
        """
        try:
            if self._has_generations:
                return gcs.write_if(self._file_system, self._full(name), content, 0)
            self._file_system.pipe_file(self._full(name), content, mode="create")
        except FileExistsError:
            return None
        return 0

    def rewrite(self, name: str, content: bytes, generation: int) -> int | None:
        """Writes an object if it is still of a generation.

        Returns:
            The object's new generation, or None if it was another, or gone.
        """
        if self._has_generations:
            try:
                return gcs.write_if(self._file_system, self._full(name), content, generation)
            except FileExistsError:
                return None
        try:
            if self.read(name) != content:
                return None
        except FileNotFoundError:
            return None
        self.write(name, content)
        return 0

    def remove(self, *names: str) -> None:
        """Removes objects; those that are gone already are no error."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._file_system.rm_file(self._full(name))

    def remove_version(self, name: str, generation: int) -> None:
        """Removes an object if it is still of a generation, where the store knows them."""
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            if self._has_generations:
                gcs.remove_if(self._file_system, self._full(name), generation)
            else:
                self._file_system.rm_file(self._full(name))

    def version(self, name: str) -> tuple[int, object, float]:
        """An object's generation, what changes whenever it is written, and when that was."""
        info = self._file_system.info(self._full(name))
        generation = int(info.get("generation") or 0)
        sign = tuple(str(info.get(key)) for key in _SIGNS)
        try:
            updated = datetime.datetime.fromisoformat(info["updated"].replace("Z", "+00:00"))
        except (KeyError, ValueError, AttributeError):
            return generation, sign, time.time()  # unknown: nothing is assumed
        return generation, sign, updated.timestamp()

    def _full(self, name: str) -> str:
        return f"{self._prefix}/{name}"
