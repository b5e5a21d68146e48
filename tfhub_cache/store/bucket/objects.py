"""The objects of a cache in an object store, and what can be done to them in one step."""

from __future__ import annotations

import contextlib
import datetime
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from tfhub_cache import offline, settings
from tfhub_cache.clients import gcs
from tfhub_cache.errors import CacheError, ResolveError
from tfhub_cache.urls import redact

if TYPE_CHECKING:
    import fsspec

_FRACTION = re.compile(r"\.[0-9]+")
_SIGNS = ("generation", "etag", "ETag", "created", "mtime", "LastModified")


class Listed(NamedTuple):
    """An object as a listing has it: its bytes, when it was written, its generation."""

    size: int
    written: float | None
    generation: int


class Version(NamedTuple):
    """An object as it was at one time.

    Attributes:
        content: its bytes, which may be newer than the rest, but never older.
        generation: its generation, 0 where the store has none.
        sign: what changes whenever it is written.
        written: when that was.
    """

    content: bytes
    generation: int
    sign: object
    written: float


class Objects:
    """The objects below the cache's root, by their names relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root
        if settings.OFFLINE.value():
            offline.check_path(root)
        emulator, timeout = settings.STORAGE_EMULATOR_HOST.value(), settings.HTTP_TIMEOUT.value()
        with self.errors_told():  # some connect at once
            self._file_system: fsspec.AbstractFileSystem = gcs.file_system_of(
                root, emulator, timeout
            )
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
            shown = redact(self.root)
            raise CacheError(
                f"Could not use the cache {shown}: {gcs.reason(error)}. {gcs.remedy(shown)}"
            ) from error

    def sizes(self, prefix: str) -> dict[str, int]:
        """The objects whose names begin with `prefix`, and their sizes: one request."""
        return {name: found.size for name, found in self.listed(prefix).items()}

    def listed(self, prefix: str) -> dict[str, Listed]:
        """The objects whose names begin with `prefix`: one request for each 1000."""
        try:
            found = self._file_system.find(self._prefix, prefix=prefix, detail=True)
        except FileNotFoundError:
            return {}
        return {
            name[len(self._prefix) + 1 :]: Listed(
                info["size"], _written(info), int(info.get("generation") or 0)
            )
            for name, info in found.items()
            if name.startswith(f"{self._prefix}/{prefix}")
        }

    def read(self, name: str) -> bytes:
        return cast(bytes, self._file_system.cat_file(self._full(name)))

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Reads objects, several at a time; those that are gone are left out."""
        if not names:
            return {}
        paths = [self._full(name) for name in names]
        found = self._file_system.cat(paths, on_error="return")
        contents = {}
        for name, path in zip(names, paths, strict=True):
            content = found[path]
            if isinstance(content, bytes):
                contents[name] = content
            elif not isinstance(content, FileNotFoundError):
                raise content
        return contents

    def open(self, name: str) -> BinaryIO:
        """Opens an object for reading; it can seek."""
        return cast(BinaryIO, self._file_system.open(self._full(name), "rb"))

    def copy(self, name: str, to: str) -> None:
        """Copies an object inside the store."""
        self._file_system.cp_file(self._full(name), self._full(to))

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

    def rewrite(self, name: str, was: bytes, generation: int, content: bytes) -> int | None:
        """Writes an object if it is still of a generation, which had the content `was`.

        Returns:
            The object's new generation, or None if it was another, or gone.
        """
        if self._has_generations:
            try:
                return gcs.write_if(self._file_system, self._full(name), content, generation)
            except FileExistsError:
                return None
        if not self._is_still(name, was):
            return None
        self.write(name, content)
        return 0

    def remove(self, *names: str) -> None:
        """Removes objects; those that are gone already are no error."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._file_system.rm_file(self._full(name))

    def version(self, name: str) -> Version:
        """Looks at an object: what is decided by its content can be done to its generation.

        Raises:
            FileNotFoundError: if there is none.
        """
        # In this order: the other way round, what was read could be taken for a newer generation.
        info = self._file_system.info(self._full(name))
        content = self.read(name)
        written = _written(info)
        return Version(
            content,
            generation=int(info.get("generation") or 0),
            sign=tuple(str(info.get(key)) for key in _SIGNS),
            # Where it is unknown, nothing is assumed.
            written=time.time() if written is None else written,
        )

    def remove_version(self, name: str, content: bytes, generation: int) -> bool:
        """Removes an object if it is still of a generation, which had that content.

        Returns:
            Whether it is gone.
        """
        try:
            if self._has_generations:
                gcs.remove_if(self._file_system, self._full(name), generation)
            elif self._is_still(name, content):
                self._file_system.rm_file(self._full(name))
            else:
                return False
        except FileNotFoundError:
            return True
        except FileExistsError:
            return False
        return True

    def remove_listed(self, name: str, listed: Listed) -> None:
        """Removes an object that is still as it was listed, where the store has generations."""
        if not self._has_generations:
            self.remove(name)
            return
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            gcs.remove_if(self._file_system, self._full(name), listed.generation)

    def _is_still(self, name: str, content: bytes) -> bool:
        try:
            return self.read(name) == content
        except FileNotFoundError:
            return False

    def _full(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def _written(info: Mapping[str, Any]) -> float | None:
    """When an object was written, as far as its file system tells."""
    for key in "updated", "LastModified", "last_modified", "mtime", "created":
        told = info.get(key)
        if isinstance(told, float):
            return told
        try:
            if isinstance(told, datetime.datetime):
                return told.timestamp()
            # Python 3.10 knows no Z, and no fractions but of 3 or 6 digits.
            text = _FRACTION.sub(lambda match: f"{match[0]:0<7.7}", str(told))
            text = text.replace("Z", "+00:00")
            return datetime.datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            continue
    return None
