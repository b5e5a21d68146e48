"""A process that is killed at each request to a bucket in turn: while it fills, refreshes, removes.

A reader then has the old model or the new one, whole, and a prune leaves nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import models
import pytest
from buckets import FILES, ROOT, Bucket
from entries import as_another_process
from servers import Host, archive, status
from storage import Call, Storage

import tfhub_cache as hub

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

PATH = "/demo/latest"
NEW = models.fake_model(size=21_000, seed=5)

PROGRAM = """
import os, sys
import gcsfs.core, requests
import tfhub_cache as hub
import tfhub_cache.fetching.download, tfhub_cache.source.http, tfhub_cache.store.bucket.store

for line in sys.stdin:
    what, handle = line.split()
    pid = os.fork()  # one for each, as it takes a second to import what is above
    if pid == 0:
        act = {"resolve": hub.resolve, "refresh": hub.cache.refresh}
        act.get(what, lambda handle: hub.cache.remove([handle]))(handle)
        sys.exit()  # after what it does in the background
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


class Processes:
    """Makes processes, one after the other."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._parent = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "TFHUB_BUCKET_GRACE": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, what: str, handle: str, killed_at: int) -> bool:
        """Runs a process and kills it at its so manieth request; whether it came to that."""
        assert self._parent.stdin is not None
        pids: list[int] = []

        def kill(call: Call) -> None:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            call.request.cut()

        fault = self._storage.fault(lambda call: True, kill, every=killed_at, times=1)
        started = self._storage.hold()  # its number is known before its first request is answered
        self._parent.stdin.write(f"{what} {handle}\n")
        self._parent.stdin.flush()
        pids.append(self._read())
        started.set()
        ended = self._read()
        self._storage.mend()
        self._storage.settle()
        assert ended == (signal.SIGKILL if fault.met else 0)
        return bool(fault.met)

    def close(self) -> None:
        self._parent.communicate("")

    def _read(self) -> int:
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())


@pytest.fixture
def processes(storage: Storage) -> Iterator[Processes]:
    processes = Processes(storage)
    yield processes
    processes.close()


@pytest.mark.parametrize("what", ["resolve", "refresh", "remove"])
def test_killed_at_any_request_it_leaves_the_old_model_or_the_new_one_and_a_prune_nothing_else(
    host: Host,
    storage: Storage,
    objects: Bucket,
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """Promises 1, 7, 9 and 12."""
    monkeypatch.setenv("TFHUB_BUCKET_GRACE", "0")
    new = archive(models.pack_files(NEW))
    old = archive(models.pack_files(FILES))
    handle = host.publish(PATH, old)
    may_be: tuple[Any, ...] = {
        "resolve": (None, NEW),
        "refresh": (FILES, NEW),
        "remove": (FILES, None),
    }[what]
    kills = 0
    while True:
        for name in objects.names():
            del objects[name]
        as_another_process()
        if what != "resolve":
            host.publish(PATH, old)
            hub.resolve(handle)
        host.publish(PATH, new)
        if not processes.run(what, handle, kills + 1):
            break
        kills += 1
        as_another_process()
        host.publish(PATH, status(404))
        seen = _what_a_reader_gets(handle, objects)
        assert seen in may_be, f"killed at request {kills}"
        hub.cache.prune()
        assert objects.model(handle) == seen
        if seen is None:
            assert objects.names() == set(), f"killed at request {kills}"
        else:
            objects.check_whole(handle, seen)
        host.publish(PATH, new)
        as_another_process()
        hub.cache.refresh(handle)
        assert objects.model(handle) == NEW
    assert kills >= {"resolve": 9, "refresh": 9, "remove": 6}[what]


def _what_a_reader_gets(handle: str, objects: Bucket) -> dict[str, bytes] | None:
    try:
        folder = hub.resolve(handle).removeprefix(ROOT).strip("/") + "/"
    except OSError:
        return None
    names = [name for name in objects.names() if name.startswith(folder)]
    return {name.removeprefix(folder): objects[name] for name in names}
