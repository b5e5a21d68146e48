"""What the tests of a cache in a bucket share: the bucket, and a client that is impatient."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator

import models
import pytest
import requests
from buckets import FILES, ROOT, Bucket
from servers import Host, bucket_server
from storage import Storage

SPELLINGS = itertools.count(1)


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture
def storage(emulator: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """The bucket, empty, and the cache in it."""
    from google.auth.compute_engine import _metadata

    requests.get(f"{emulator}/wipe", params={"keep-buckets": "true"}, timeout=10).raise_for_status()
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True, raising=False)
    with Storage(emulator) as front:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", front.url)
        # Another spelling for each test: the process remembers caches by it.
        monkeypatch.setenv("TFHUB_CACHE_DIR", ROOT + "/" * next(SPELLINGS))
        yield front


@pytest.fixture(autouse=True)
def _impatient_gcsfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcsfs tries six times, over half a minute: here at once."""
    import asyncio

    import gcsfs.retry

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=sleep))


@pytest.fixture
def objects(emulator: str, storage: Storage) -> Bucket:
    return Bucket(emulator)


@pytest.fixture
def handle(host: Host, storage: Storage) -> str:
    return host.publish("/demo/model/1", models.pack_files(FILES))
