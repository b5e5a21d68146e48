"""A cache in an object store: a `gs://` bucket, or whatever else fsspec has a file system for.

An object store has no rename, so an entry appears object by object. What tells that it is whole
is its manifest, which is written last, and only if there is none (`ifGenerationMatch=0`). What
tells that somebody is at work is a lock object made in the same way, and rewritten every few
seconds as a sign of life. If two ever work at once, both put the same files, and one manifest.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import io
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from tfhub_cache import gcs
from tfhub_cache.errors import CacheError, ResolveError
from tfhub_cache.manifest import Manifest, UnknownFormat
from tfhub_cache.store import ABSENT, Claim, Contender, Store, descriptor, saved_model
from tfhub_cache.store.owner import TENSORFLOW_HUB_TIMEOUT, Owner, Silence

if TYPE_CHECKING:
    import fsspec

SEEN_SECONDS = 60.0
"""For how long a whole entry of a versioned handle is not looked at again in a process."""
UPLOADS = 8
"""How many files are uploaded at once."""
UPLOADING_BYTES = 64 << 20
"""How many bytes may wait for their upload, unless a single file is larger."""


class BucketStore(Store):
    """Entries are objects below a common prefix."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")
        self._seen: dict[str, float] = {}

    def path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def flaw(self, key: str) -> str | None:
        if time.monotonic() - self._seen.get(key, float("-inf")) < SEEN_SECONDS:
            return None
        bucket = _Bucket(self._root)
        with bucket.errors_told():
            sizes = bucket.sizes(key)
            if f"{key}.manifest.json" not in sizes:
                return _flaw_without_manifest(key, sizes)
            try:
                manifest = Manifest.from_json(bucket.read(f"{key}.manifest.json"))
            except UnknownFormat:
                return _flaw_without_manifest(key, sizes)
            except ValueError:
                return "its manifest can't be read"
        for file in manifest.files:
            found = sizes.get(f"{key}/{file.path}")
            if found is None:
                return f"{file.path} is missing"
            if found != file.size:
                return f"{file.path} has {found} bytes instead of {file.size}"
        if _is_versioned(manifest.handle):
            self._seen[key] = time.monotonic()
        return None

    def is_claimed(self, key: str) -> bool:
        return False  # to ask would cost a request, and nothing but the lock can be left over

    def contend(self, key: str, lock_timeout: float, keep_free: int) -> Contender:
        return _BucketContender(_Bucket(self._root), key, lock_timeout)


class _Bucket:
    """The objects below the cache's root, by their names relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.file_system: fsspec.AbstractFileSystem = gcs.file_system_of(root)
        self._prefix = str(self.file_system._strip_protocol(root)).rstrip("/")

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

    def full(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def sizes(self, prefix: str) -> dict[str, int]:
        """The objects whose names begin with `prefix`, and their sizes: one request."""
        try:
            found = self.file_system.find(self._prefix, prefix=prefix, detail=True)
        except FileNotFoundError:
            return {}
        names = {name[len(self._prefix) + 1 :]: info["size"] for name, info in found.items()}
        return {name: size for name, size in names.items() if name.startswith(prefix)}

    def read(self, name: str) -> bytes:
        return cast(bytes, self.file_system.cat_file(self.full(name)))

    def write(self, name: str, content: bytes) -> None:
        self.file_system.pipe_file(self.full(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Writes an object if there is none of that name; the store decides who is first."""
        try:
            self.file_system.pipe_file(self.full(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def upload(self, name: str, file: str) -> None:
        self.file_system.put_file(file, self.full(name))

    def remove(self, names: list[str]) -> None:
        """Removes objects; those that are gone already are no error."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self.file_system.rm_file(self.full(name))

    def version(self, name: str) -> tuple[object, float]:
        """What changes whenever the object is written, and when that was."""
        info = self.file_system.info(self.full(name))
        sign = tuple(
            str(info.get(key)) for key in ("generation", "etag", "ETag", "created", "mtime")
        )
        try:
            updated = datetime.datetime.fromisoformat(info["updated"].replace("Z", "+00:00"))
        except (KeyError, ValueError, AttributeError):
            return sign, time.time()  # unknown: nothing is assumed
        return sign, updated.timestamp()


class _BucketContender(Contender):
    poll_seconds = 1.0
    holder = ""

    def __init__(self, bucket: _Bucket, key: str, lock_timeout: float) -> None:
        self._bucket = bucket
        self._key = key
        self._lock_timeout = lock_timeout
        self._silence = Silence()

    def attempt(self) -> Claim | None:
        lock = f"{self._key}.lock"
        with self._bucket.errors_told():
            while True:
                owner = Owner.new()
                if self._bucket.create(lock, str(owner).encode()):
                    return _BucketClaim(self._bucket, self._key, owner, self._lock_timeout)
                try:
                    self.holder = self._bucket.read(lock).decode("utf-8", "replace")
                    dead = self._is_dead(lock, Owner.parse(self.holder))
                except FileNotFoundError:  # released at this very moment
                    return None
                if not dead:
                    return None
                self._bucket.remove([lock])

    def _is_dead(self, lock: str, holder: Owner | None) -> bool:
        if holder is not None and holder.is_here and not holder.process_exists():
            return True
        sign, touched = self._bucket.version(lock)
        if holder is not None and holder.is_ours:
            return self._silence.exceeds(self._lock_timeout, (self.holder, sign), touched)
        growing = self._bucket.sizes(f"{self._key}.{holder.uid}.tmp/") if holder else {}
        return self._silence.exceeds(
            TENSORFLOW_HUB_TIMEOUT, (self.holder, sign, sum(growing.values())), touched
        )


class _BucketClaim(Claim):
    """Uploads files while the archive is still being received."""

    def __init__(self, bucket: _Bucket, key: str, owner: Owner, lock_timeout: float) -> None:
        self._bucket = bucket
        self._key = key
        self._lock = f"{key}.lock"
        self._owner = str(owner).encode()
        self._uploads = _Uploads(bucket)
        self._begun = False
        self._published = False
        self._released = threading.Event()
        self._heartbeat = threading.Thread(
            target=self._beat, args=(min(5.0, lock_timeout / 4),), daemon=True
        )
        self._heartbeat.start()

    def make_folder(self, path: str) -> None:
        pass  # an object store has no empty folders

    def create_file(self, path: str, size: int, *, replace: bool) -> BinaryIO:
        with self._bucket.errors_told():
            if not self._begun:
                self._check_not_lost()
                # From here on what is there is neither the old model nor the new one.
                self._bucket.remove([f"{self._key}.manifest.json"])
                self._begun = True
            return self._uploads.open(f"{self._key}/{path}", size)

    def clear(self) -> None:
        with self._bucket.errors_told():
            self._uploads.discard()

    def is_lost(self) -> bool:
        with self._bucket.errors_told():
            try:
                return self._bucket.read(self._lock) != self._owner
            except FileNotFoundError:
                return True

    def _check_not_lost(self) -> None:
        # Whoever took over may have put its files, and they must not be touched any more.
        if self.is_lost():
            raise CacheError(f"Somebody took over the download into {self._bucket.root}.")

    def publish(self, manifest: Manifest) -> None:
        with self._bucket.errors_told():
            self._uploads.finish()
            self._check_not_lost()
            files = {f"{self._key}/{file.path}" for file in manifest.files}
            there = self._bucket.sizes(f"{self._key}/")
            self._bucket.remove([name for name in there if name not in files])
            self._bucket.write(f"{self._key}.descriptor.txt", descriptor(manifest).encode())
            # If there is one by now, somebody else took over and has put the same files.
            self._bucket.create(f"{self._key}.manifest.json", manifest.to_json().encode())
            self._published = True

    def release(self) -> None:
        self._released.set()
        self._heartbeat.join()
        # As far as it goes: what is left has no manifest, and the next download replaces it.
        with contextlib.suppress(Exception):
            if not self._published and not self.is_lost():
                self._uploads.discard()
        with contextlib.suppress(Exception):
            if self._bucket.read(self._lock) == self._owner:
                self._bucket.remove([self._lock])

    def _beat(self, seconds: float) -> None:
        while not self._released.wait(seconds):
            with contextlib.suppress(Exception):  # tried again at the next beat
                if self._bucket.read(self._lock) != self._owner:
                    return
                self._bucket.write(self._lock, self._owner)


class _Uploads:
    """Files on their way into the bucket, several at a time."""

    def __init__(self, bucket: _Bucket) -> None:
        self._bucket = bucket
        self._executor = concurrent.futures.ThreadPoolExecutor(UPLOADS)
        self._pending: dict[concurrent.futures.Future[None], int] = {}
        self._uploaded: list[str] = []

    def open(self, name: str, size: int) -> BinaryIO:
        """A file that is uploaded when it is closed. Waits for room on this machine's disk."""
        while self._pending and sum(self._pending.values()) + size > UPLOADING_BYTES:
            done, _ = concurrent.futures.wait(
                self._pending, return_when=concurrent.futures.FIRST_COMPLETED
            )
            self._collect(done)
        return cast(BinaryIO, _Upload(self, name, size))

    def submit(self, name: str, size: int, upload: Any) -> None:
        self._uploaded.append(name)
        self._pending[self._executor.submit(upload, self._bucket, name)] = size

    def finish(self) -> None:
        """Waits for all uploads; raises what any of them failed with."""
        self._collect(concurrent.futures.wait(self._pending).done)
        self._executor.shutdown()

    def discard(self) -> None:
        """Waits for all uploads, and removes what they put."""
        concurrent.futures.wait(self._pending)
        self._pending.clear()
        self._bucket.remove(self._uploaded)
        self._uploaded.clear()

    def _collect(self, done: set[concurrent.futures.Future[None]]) -> None:
        for future in done:
            del self._pending[future]
            future.result()


class _Upload:
    """One file on its way: in memory if it is small, otherwise in the temporary folder."""

    def __init__(self, uploads: _Uploads, name: str, size: int) -> None:
        self._uploads = uploads
        self._name = name
        self._size = size
        self._path: str | None = None
        self._file: BinaryIO = io.BytesIO()
        if size > 1 << 20:
            descriptor, self._path = tempfile.mkstemp(prefix="tfhub_cache-")
            self._file = os.fdopen(descriptor, "wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def __enter__(self) -> _Upload:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._file.flush()
            self._uploads.submit(self._name, self._size, self._upload)
        else:
            self._discard()

    def _upload(self, bucket: _Bucket, name: str) -> None:
        try:
            if self._path is None:
                bucket.write(name, cast(io.BytesIO, self._file).getvalue())
            else:
                bucket.upload(name, self._path)
        finally:
            self._discard()

    def _discard(self) -> None:
        self._file.close()
        if self._path is not None:
            os.unlink(self._path)


def _flaw_without_manifest(key: str, sizes: dict[str, int]) -> str | None:
    """Judges what tensorflow_hub, or somebody by hand, has put there."""
    files = [name[len(key) + 1 :] for name in sizes if name.startswith(f"{key}/")]
    if not files or f"{key}.lock" in sizes:
        return ABSENT
    variables = [name.removeprefix("variables/") for name in files if name.startswith("variables/")]
    return saved_model.flaw_of([name for name in files if "/" not in name], variables)


def _is_versioned(handle: str) -> bool:
    """Whether a handle names a version, which never changes."""
    return re.search(r"/[0-9]+(\.tar|\.tgz|\.tar\.gz)?/?$", handle.partition("?")[0]) is not None
