"""What entries consist of, for lock files: from their manifests, or from their files."""

from __future__ import annotations

import hashlib

from tfhub_cache.manifest import File, digest_of
from tfhub_cache.pins import Pin
from tfhub_cache.store.contract import Store

_CHUNK = 1 << 20


class Contents:
    """What the entries of a store consist of.

    The files of an entry without a manifest, as tensorflow_hub makes them, are read once in a
    process, and again when the size or the time of one has changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[object, Pin]] = {}

    def pin(self, key: str) -> Pin:
        """The pin of an entry that `Store.flaw` has just found intact.

        Raises:
            OSError: if a file can't be read.
        """
        manifest = self._store.manifest(key)
        if manifest is not None:
            return Pin.of(manifest)
        stamps = self._store.files(key)
        known = self._read.get(key)
        if known is None or known[0] != stamps:
            files = [self._file(key, path) for path in stamps]
            pin = Pin(sum(file.size for file in files), digest_of(files))
            known = self._read[key] = (stamps, pin)
        return known[1]

    def _file(self, key: str, path: str) -> File:
        digest, size = hashlib.sha256(), 0
        with self._store.open_file(key, path) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return File(path, size, digest.hexdigest())
