"""The objects of a cache in an object store, and what each kind of store can do to them.

`Objects` is any file system of fsspec. Its subclasses know more: to replace an object only if it is
still a given version, to check what has arrived, and the store's clock.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import datetime
import email.utils
import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, cast

from fsspec.spec import AbstractBufferedFile

from tfhub_cache import offline, settings
from tfhub_cache.clients import gcs
from tfhub_cache.errors import CacheError, ResolveError
from tfhub_cache.urls import redact

AT_ONCE = 64
"""How many requests are in flight, where a file system takes several."""
_READ_AHEAD = 4 << 20


class Listed(NamedTuple):
    """An object as a listing has it.

    Attributes:
        size: its bytes.
        written: when it was written, by the store's clock; 0 if that is not known.
        version: what changes when it is written; empty if there is no such thing.
    """

    size: int
    written: float
    version: str

    @staticmethod
    def expected(there: Listed | None) -> str | None:
        """The version to expect when an object is written, as `Objects.write` takes it."""
        return (there.version or None) if there else ""


class Objects:
    """The objects below the cache's root, by their names relative to it.

    A store of this class creates an object only if there is none, as far as its file system can,
    and replaces whatever is there. Its clock is this machine's.
    """

    def __init__(self, root: str, files: Any) -> None:
        self.root = root
        self.files = files
        self._prefix = str(files._strip_protocol(root)).rstrip("/")
        self._clock: tuple[float, float] | None = None  # the store's, and ours at that moment

    def list(self, prefix: str) -> dict[str, Listed]:
        """The objects whose names begin with `prefix`."""
        found = self.files.find(self._prefix, prefix=prefix, detail=True)
        return {
            name[len(self._prefix) + 1 :]: _listed(info)
            for name, info in found.items()
            if name.startswith(self.full(prefix))
        }

    def now(self) -> float:
        """The time by the store's clock."""
        if self._clock is None:
            self._clock = self._ask_time(), time.monotonic()
        theirs, ours = self._clock
        return theirs + time.monotonic() - ours

    def _ask_time(self) -> float:
        return time.time()

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Reads objects, many at a time; those that are gone are left out."""
        return self._many("cat_file", names)

    def open(self, name: str, size: int) -> BinaryIO:
        """Opens an object of known size for reading; it can seek."""
        # Not by the file system's `open`, which asks for the size first, in several requests.
        file = AbstractBufferedFile(
            self.files, self.full(name), block_size=_READ_AHEAD, cache_type="readahead", size=size
        )
        return cast(BinaryIO, file)

    def write(self, name: str, content: bytes, version: str | None = None) -> None:
        """Writes an object.

        Args:
            name: the object.
            content: its bytes.
            version: which version must be there, empty: none; None: whatever there is. Where the
                store can't compare, it is replaced.

        Raises:
            FileExistsError: if another version is there.
        """
        mode = "create" if version == "" else "overwrite"
        self.files.pipe_file(self.full(name), content, mode=mode)

    def upload(self, name: str, content: bytes) -> concurrent.futures.Future[Any]:
        """Begins to write an object. What arrives is compared with what was sent, if possible."""
        return self.start("pipe_file", name, content)

    def check_upload(self, name: str, crc32c: int) -> None:
        """Compares an object that was sent in parts with what was sent, if the store can.

        Raises:
            OSError: if it is another.
        """

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, many at a time; those that are gone already are no error.

        Raises:
            Exception: the first, after all that can be removed is.
        """
        self._many("rm_file", names)

    def remove_version(self, name: str, version: str) -> None:
        """Removes an object if it is still of a version, as far as the store can compare.

        Raises:
            FileExistsError: if it is another.
        """
        self.remove([name])

    def start(
        self, method: str, name: str, *args: Any, **kw: Any
    ) -> concurrent.futures.Future[Any]:
        """Calls a method of the file system for an object: in the background, if it has that."""
        if self.files.async_impl:
            coroutine = getattr(self.files, f"_{method}")(self.full(name), *args, **kw)
            return asyncio.run_coroutine_threadsafe(coroutine, self.files.loop)
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            done.set_result(getattr(self.files, method)(self.full(name), *args, **kw))
        except Exception as error:
            done.set_exception(error)
        return done

    def full(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _many(self, method: str, names: Iterable[str]) -> dict[str, Any]:
        """Calls a method for many objects, except those that are gone; fails after all are done."""
        pending: deque[tuple[str, concurrent.futures.Future[Any]]] = deque()
        outcomes: dict[str, Any] = {}
        failures: list[BaseException] = []

        def take() -> None:
            name, future = pending.popleft()
            if (error := future.exception()) is None:
                outcomes[name] = future.result()
            elif not isinstance(error, FileNotFoundError):
                failures.append(error)

        for name in names:
            if len(pending) >= AT_ONCE:
                take()
            pending.append((name, self.start(method, name)))
        while pending:
            take()
        if failures:
            raise failures[0]
        return outcomes


class GoogleObjects(Objects):
    """Google Cloud Storage: versions are generations."""

    def list(self, prefix: str) -> dict[str, Listed]:
        # Not by gcsfs's `find`: it asks twice where there is nothing, and hides the answer's time.
        bucket, begin, _ = self.files.split_path(self.full(prefix))
        found: dict[str, Listed] = {}
        token = None
        while True:
            headers, content = self.files.call(
                *("GET", "b/{}/o", bucket),
                prefix=begin,
                pageToken=token,
                fields="items(name,size,updated,generation),nextPageToken",
            )
            page = json.loads(content)
            for item in page.get("items", ()):
                name = item["name"][len(begin) - len(prefix) :]
                written = datetime.datetime.fromisoformat(item["updated"].replace("Z", "+00:00"))
                found[name] = Listed(int(item["size"]), written.timestamp(), item["generation"])
            if date := headers.get("Date"):
                self._clock = _timestamp(date), time.monotonic()
            token = page.get("nextPageToken")
            if not token:
                return found

    def write(self, name: str, content: bytes, version: str | None = None) -> None:
        if version is None:
            super().write(name, content)
        else:
            gcs.write_if(self.files, self.full(name), content, int(version or 0))

    def upload(self, name: str, content: bytes) -> concurrent.futures.Future[Any]:
        return self.start("pipe_file", name, content, consistency="md5")

    def check_upload(self, name: str, crc32c: int) -> None:
        bucket, path, _ = self.files.split_path(self.full(name))
        info = self.files.call("GET", "b/{}/o/{}", bucket, path, json_out=True)
        if base64.b64decode(info["crc32c"]) != crc32c.to_bytes(4, "big"):
            raise OSError(f"{name} arrived damaged in the bucket")

    def remove_version(self, name: str, version: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            gcs.remove_if(self.files, self.full(name), int(version))


class S3Objects(Objects):
    """S3 and what speaks its protocol: versions are ETags."""

    def _ask_time(self) -> float:
        bucket, _, _ = self.files.split_path(self._prefix)
        answer = self.files.call_s3("head_bucket", Bucket=bucket)
        return _timestamp(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    def write(self, name: str, content: bytes, version: str | None = None) -> None:
        try:
            if version:
                self.files.pipe_file(self.full(name), content, IfMatch=version)
            else:
                super().write(name, content, version)
        except OSError as error:
            answer: Any = getattr(error.__cause__, "response", None) or {}
            if answer.get("Error", {}).get("Code") in _S3_CONFLICTS and version is not None:
                raise FileExistsError(name) from error
            raise

    def upload(self, name: str, content: bytes) -> concurrent.futures.Future[Any]:
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        return self.start("pipe_file", name, content, ContentMD5=base64.b64encode(digest).decode())


_S3_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")


class AzureObjects(Objects):
    """Azure Blob Storage: versions are ETags."""

    def write(self, name: str, content: bytes, version: str | None = None) -> None:
        if not version:
            super().write(name, content, version)
            return
        from azure.core import MatchConditions, exceptions  # adlfs depends on it

        condition = {"etag": version, "match_condition": MatchConditions.IfNotModified}
        try:
            self.files.pipe_file(self.full(name), content, **condition)
        except exceptions.ResourceModifiedError as error:
            raise FileExistsError(name) from error

    def _ask_time(self) -> float:
        container, _, _ = self.files.split_path(self._prefix)
        dates: list[str] = []

        async def ask() -> None:  # for what it may list anyhow
            async with self.files.service_client.get_container_client(container) as client:
                found = client.list_blobs(
                    results_per_page=1,
                    raw_response_hook=lambda got: dates.append(got.http_response.headers["Date"]),
                )
                await anext(found, None)

        asyncio.run_coroutine_threadsafe(ask(), self.files.loop).result()
        return _timestamp(dates[0])


_KINDS = {
    "gs": GoogleObjects,
    **dict.fromkeys(("s3", "s3a"), S3Objects),
    **dict.fromkeys(("az", "abfs", "abfss"), AzureObjects),
}


def open_objects(root: str) -> Objects:
    """The objects below a cache's root.

    Raises:
        CacheError: if there is no file system for it, or it can't be reached.
        OfflineError: if it must not be reached.
    """
    if settings.OFFLINE.value():
        offline.check_path(root)
    with errors_explained(root):  # some connect at once
        files = gcs.file_system_of(root, *settings.google_storage())
    return _KINDS.get(root.partition("://")[0], Objects)(root, files)


@contextlib.contextmanager
def errors_explained(root: str) -> Iterator[None]:
    """Turns what a file system raises into a `CacheError` that says what to do."""
    try:
        yield
    except ResolveError:
        raise
    except Exception as error:  # file systems have errors of many kinds
        shown = redact(root)
        raise CacheError(
            f"Could not use the cache {shown}: {gcs.reason(error)}. {gcs.remedy(shown, error)}"
        ) from error


def _listed(info: Mapping[str, Any]) -> Listed:
    """An object as fsspec's file systems list it, each with names of its own."""
    written = 0.0
    for key in "LastModified", "last_modified", "mtime", "created":
        value = info.get(key)
        if isinstance(value, datetime.datetime):
            value = value.timestamp()
        if isinstance(value, float):
            written = value
            break
    return Listed(int(info["size"]), written, str(info.get("ETag") or info.get("etag") or ""))


def _timestamp(date: str) -> float:
    """The time in a `Date` header."""
    return email.utils.parsedate_to_datetime(date).timestamp()
