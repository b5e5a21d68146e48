"""The objects of a cache in an object store, and what each kind of store can do to them.

`Objects` is any file system of fsspec. Its subclasses know more: to replace an object only if it is
still a given version, to check what has arrived, and the store's clock.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import datetime
import email.utils
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import quote

from fsspec.asyn import sync
from fsspec.spec import AbstractBufferedFile

from tfhub_cache import offline, settings
from tfhub_cache.clients import gcs
from tfhub_cache.errors import CacheError
from tfhub_cache.manifest import MOST_BYTES

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
    and replaces whatever is there. Its clock is this machine's. Whatever fails is a `CacheError`
    that says what to do.
    """

    _checked: Mapping[str, str] = {}

    def __init__(self, root: str, files: Any) -> None:
        self.root = root
        self.files = files
        self._prefix = str(files._strip_protocol(root)).rstrip("/")
        self._clock: tuple[float, float] | None = None  # the store's, and ours at that moment

    def list(self, prefix: str) -> dict[str, Listed]:
        """The objects whose names begin with `prefix`."""
        with self.errors_explained():
            return self._list(prefix)

    def now(self) -> float:
        """The time by the store's clock."""
        if self._clock is None:
            with self.errors_explained():
                self._clock = self._ask_time(), time.monotonic()
        theirs, ours = self._clock
        return theirs + time.monotonic() - ours

    def read(self, listed: Mapping[str, Listed], *names: str) -> dict[str, bytes]:
        """Reads small objects, many at a time, without those that are not there or too large."""
        wanted = [name for name in names if name in listed and listed[name].size <= MOST_BYTES]
        return self.results(self._many("cat_file", wanted))

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
        with self.errors_explained():
            self._write(self.full(name), content, version)

    def upload(self, name: str, content: bytes) -> concurrent.futures.Future[Any]:
        """Begins to write an object. What arrives is compared with what was sent, if possible."""
        return self.start("pipe_file", name, content, **self._checked)

    def create(self, name: str, part: int) -> Any:
        """Opens an object for writing, in parts of so many bytes; compared as in `upload`."""
        with self.errors_explained():
            return self.files.open(self.full(name), "wb", block_size=part, **self._checked)

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, many at a time; those that are gone already are no error.

        Raises:
            CacheError: the first, after all that can be removed is.
        """
        self.results(self._many("rm_file", names))

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

    def results(
        self, started: Iterable[tuple[str, concurrent.futures.Future[Any]]]
    ) -> dict[str, Any]:
        """What came of calls, by their names, except of objects that are gone.

        Raises:
            CacheError: the first, after all have ended.
        """
        found: dict[str, Any] = {}
        failures: list[BaseException] = []
        for name, future in started:
            if (error := future.exception()) is None:
                found[name] = future.result()
            elif not isinstance(error, FileNotFoundError):
                failures.append(error)
        with self.errors_explained():
            for failure in failures:
                raise failure
        return found

    def full(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def errors_explained(self) -> contextlib.AbstractContextManager[None]:
        return gcs.errors_explained(self.root, CacheError)

    def _many(
        self, method: str, names: Iterable[str]
    ) -> Iterator[tuple[str, concurrent.futures.Future[Any]]]:
        """Calls a method for many objects, so many at a time."""
        pending: deque[tuple[str, concurrent.futures.Future[Any]]] = deque()
        for name in names:
            if len(pending) >= AT_ONCE:
                yield pending.popleft()
            pending.append((name, self.start(method, name)))
        yield from pending

    def _list(self, prefix: str) -> dict[str, Listed]:
        found = self.files.find(self._prefix, prefix=prefix, detail=True)
        return {
            name[len(self._prefix) + 1 :]: _listed(info)
            for name, info in found.items()
            if name.startswith(self.full(prefix))
        }

    def _ask_time(self) -> float:
        return time.time()

    def _write(self, path: str, content: bytes, version: str | None) -> None:
        condition = {"mode": "create"} if version == "" else {}
        condition |= self._if_still(version) if version else {}
        try:
            self.files.pipe_file(path, content, **condition)
        except Exception as error:
            # Where nothing must be there, 404 means that there is no bucket.
            conflicts = (404, 409, 412) if version else (409, 412)
            if version is not None and _status_of(error) in conflicts:
                raise FileExistsError(path) from error
            raise

    def _if_still(self, version: str) -> dict[str, Any]:
        """What makes `pipe_file` replace only that version."""
        return {}


class GoogleObjects(Objects):
    """Google Cloud Storage: versions are generations."""

    _checked: Mapping[str, str] = {"consistency": "md5"}

    def _list(self, prefix: str) -> dict[str, Listed]:
        # Not by gcsfs's `find`: it asks twice where there is nothing, and hides the answer's time.
        bucket, begin, _ = self.files.split_path(self.full(prefix))
        found: dict[str, Listed] = {}
        page: dict[str, Any] = {"nextPageToken": None}
        while "nextPageToken" in page:
            headers, content = self.files.call(
                *("GET", "b/{}/o", bucket),
                prefix=begin,
                pageToken=page["nextPageToken"],
                fields="items(name,size,updated,generation),nextPageToken",
            )
            self._clock = _timestamp(headers["Date"]), time.monotonic()
            page = json.loads(content)
            items = page.get("items", ())
            found |= {it["name"][len(begin) - len(prefix) :]: _listed(it) for it in items}
        return found

    def _write(self, path: str, content: bytes, version: str | None) -> None:
        if not version:
            super()._write(path, content, version)
            return
        # gcsfs has a condition for creations only.
        bucket, name, _ = self.files.split_path(path)
        self.files.call(
            *("POST", f"{self.files._location}/upload/storage/v1/b/{quote(bucket)}/o"),
            uploadType="media",
            name=name,
            ifGenerationMatch=version,
            headers={"Content-Type": "application/octet-stream"},
            data=content,
        )


class S3Objects(Objects):
    """S3 and what speaks its protocol: versions are ETags."""

    def _if_still(self, version: str) -> dict[str, Any]:
        return {"IfMatch": version}

    def _ask_time(self) -> float:
        bucket, _, _ = self.files.split_path(self._prefix)
        answer = self.files.call_s3("head_bucket", Bucket=bucket)
        return _timestamp(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


class AzureObjects(Objects):
    """Azure Blob Storage: versions are ETags."""

    def _if_still(self, version: str) -> dict[str, Any]:
        from azure.core import MatchConditions  # adlfs depends on it

        return {"etag": version, "match_condition": MatchConditions.IfNotModified}

    def _ask_time(self) -> float:
        container, _, _ = self.files.split_path(self._prefix)
        dates: list[str] = []
        listing = self.files.service_client.get_container_client(container).list_blobs(
            results_per_page=1,
            raw_response_hook=lambda got: dates.append(got.http_response.headers["Date"]),
        )
        sync(self.files.loop, listing.by_page().__anext__)  # it may list anyhow
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
    with gcs.errors_explained(root, CacheError):  # some connect at once
        files = gcs.file_system_of(root, settings.google_storage())
    return _KINDS.get(root.partition("://")[0], Objects)(root, files)


def _listed(info: Mapping[str, Any]) -> Listed:
    """An object as Google and fsspec's file systems list it, each with names of its own."""
    keys = "updated", "LastModified", "last_modified", "mtime", "created"
    written = next((info[key] for key in keys if info.get(key)), 0.0)
    if isinstance(written, str):
        written = datetime.datetime.fromisoformat(written.replace("Z", "+00:00"))
    if isinstance(written, datetime.datetime):
        written = written.timestamp()
    version = info.get("generation") or info.get("ETag") or info.get("etag") or ""
    return Listed(int(info["size"]), float(written), str(version))


def _status_of(error: Exception) -> object:
    """The HTTP status of an error of adlfs or s3fs, if it has one."""
    answer = getattr(error.__cause__, "response", None)
    if isinstance(answer, dict):
        return answer["ResponseMetadata"]["HTTPStatusCode"]
    return getattr(error, "status_code", None)


def _timestamp(date: str) -> float:
    """The time in a `Date` header."""
    return email.utils.parsedate_to_datetime(date).timestamp()
