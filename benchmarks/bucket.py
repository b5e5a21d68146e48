"""What fills a cache in a bucket, beside gcsfs: `python -m benchmarks.bucket HANDLE ARCHIVE`.

The bucket is this machine's, by STORAGE_EMULATOR_HOST; see bucket_server. A small model is resolved
beforehand, so that both find all imported and their connections open. The figures are in JSON.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator

from benchmarks.contestants import ROOT
from benchmarks.memory import peak, resident


@contextlib.contextmanager
def serve(seconds: float) -> Iterator[str]:
    """A bucket whose requests take so long each; its address."""
    command = [sys.executable, "-m", "benchmarks.bucket_server", str(seconds)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.communicate("")


def main() -> None:
    from gcsfs.core import GCSFileSystem

    import tfhub_cache as hub

    first, handle, archive = sys.argv[1:]
    hub.resolve(first)
    files = GCSFileSystem(token="anon", use_listings_cache=False)
    files.exists("gs://bucket/nothing")
    seconds = {}

    @contextlib.contextmanager
    def timed(name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - begun

    before = resident()
    with timed("fill"):
        hub.resolve(handle)
    growth = peak() - before
    for thread in threading.enumerate():  # one removes the lock
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    with timed("remove"):
        hub.cache.remove([handle])
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        with timed("put"):
            files.put(folder, "gs://bucket/put/model", recursive=True)
    with timed("rm"):
        files.rm("gs://bucket/put", recursive=True)
    print(json.dumps({**seconds, "growth": growth}))


if __name__ == "__main__":
    main()
