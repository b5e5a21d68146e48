"""A cache in a bucket, ended before each request in turn: by a kill, or by Ctrl-C.

Whatever is left: a part is no model, nobody waits, and the next one, or a prune, tidies up.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import models
import pytest
from buckets import FILES, HERE, ROOT, Bucket
from entries import as_another_process, key_of
from processes import dead_pid
from servers import Host, archive, cut, in_turn, status
from storage import Storage

import tfhub_cache as hub
from tfhub_cache import settings
from tfhub_cache.clients import gcs
from tfhub_cache.store.bucket.store import BucketStore

pytestmark = [pytest.mark.once, pytest.mark.timeout(300)]

PATH = "/demo/model/1"
NEW = models.fake_model(size=21_000, seed=5)
PART = {name: content for name, content in FILES.items() if not name.startswith("assets/")}
PACKED, PACKED_NEW = models.pack_files(FILES), models.pack_files(NEW)
TENSORFLOW_HUB = "0123456789abcdef0123456789abcdef"
DEAD = dead_pid()
ASKS = ("find", "cat_file", "cat", "open", "cp_file", "pipe_file", "put_file", "info", "rm_file")


class Killed(BaseException):
    """The process is no more: whatever it would still do does not happen."""


class Client:
    """A file system that ends the program before one of its calls.

    Calls are told by what they are about, and not by their number: some are made by threads.
    """

    def __init__(self, point: tuple[Any, ...] | None, end: type[BaseException]) -> None:
        self._real = gcs.file_system(settings.STORAGE_EMULATOR_HOST.value(), 60)
        self._point, self._end = point, end
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._is_dead = False
        self.points: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._real, name)
        if name not in (*ASKS, "call"):
            return function

        def call(*args: Any, **kwargs: Any) -> Any:
            about = f"{args} {kwargs.get('name')} {kwargs.get('prefix')}"
            about = re.sub("cache-[0-9a-f]{32}|'/[^']*'", "UID", about)
            with self._lock:
                if self._is_dead:
                    raise Killed
                self._counts[name, about] += 1
                point = (name, about, self._counts[name, about])
                self.points.append(point)
                self._is_dead = point == self._point and self._end is Killed
            is_main = threading.current_thread() is threading.main_thread()
            if point == self._point and (is_main or self._end is Killed):
                raise self._end
            return function(*args, **kwargs)

        return call


def a_newer_one(host: Host, objects: Bucket, handle: str) -> None:
    hub.resolve(handle)
    host.publish(PATH, archive(PACKED_NEW))


def a_broken_one(host: Host, objects: Bucket, handle: str) -> None:
    host.publish(PATH, in_turn(cut(PACKED, after=len(PACKED) * 9 // 10), status(404)))


def a_dead_tensorflow_hub(host: Host, objects: Bucket, handle: str) -> None:
    objects.put(key_of(handle), PART)
    objects[f"{key_of(handle)}.{TENSORFLOW_HUB}.tmp/saved_model.pb"] = b"x"
    objects[f"{key_of(handle)}.lock"] = f"{HERE}.{DEAD}.{TENSORFLOW_HUB}".encode()


def prune(handle: str) -> None:
    hub.cache.prune()


def fail(handle: str) -> None:
    with contextlib.suppress(OSError):
        hub.resolve(handle)


# It takes about a second for two requests, so these are those in which most can go wrong.
SCENARIOS = [
    (a_dead_tensorflow_hub, prune, Killed),
    (a_newer_one, hub.cache.refresh, Killed),
    (a_broken_one, fail, KeyboardInterrupt),
]


@pytest.mark.parametrize(
    ("there", "act", "end"), SCENARIOS, ids=[f"{s.__name__}-{a.__name__}" for s, a, _ in SCENARIOS]
)
def test_ended_at_any_request_it_leaves_no_part_that_looks_whole_and_nothing_that_stays(
    host: Host,
    storage: Storage,
    objects: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    there: Callable[[Host, Bucket, str], None],
    act: Callable[[str], Any],
    end: type[BaseException],
) -> None:
    """Promises 1, 7 and 9."""
    # One after the other, so that each run makes the same requests in the same order.
    monkeypatch.setattr("tfhub_cache.store.bucket.uploads.UPLOADS", 1)
    monkeypatch.setattr("tfhub_cache.store.bucket.claim.UPLOADS", 1)
    wrong: list[str] = []

    def run(point: tuple[Any, ...] | None) -> Client:
        for name in objects.names():
            del objects[name]
        handle = host.publish(PATH, archive(PACKED))
        entry = key_of(handle)
        as_another_process()
        there(host, objects, handle)
        as_another_process()
        client = Client(point, end)
        with monkeypatch.context() as patch:
            # A kill of this process, which goes on afterwards, can only be played.
            patch.setattr(gcs, "file_system_of", lambda *_: client)
            with contextlib.suppress(KeyboardInterrupt, Killed):
                act(handle)
        lock = f"{entry}.lock"
        if lock in objects.names():
            content = objects[lock].decode()
            is_living = f".{os.getpid()}." in content
            # Where the lock itself can't be removed, nothing is to be done.
            if is_living and end is KeyboardInterrupt and point and ".lock" not in point[1]:
                wrong.append(f"{point}: the lock of somebody living")
            objects[lock] = content.replace(f".{os.getpid()}.", f".{DEAD}.").encode()

        def check(when: str) -> None:
            as_another_process()
            flaw = BucketStore(ROOT).flaw(entry)
            files = {name[41:]: objects[name] for name in objects.names() if name[40:41] == "/"}
            if flaw is None and files not in (FILES, NEW):
                wrong.append(f"{point}: {when} a part looks whole: {sorted(files)}")

        check("afterwards")
        host.publish(PATH, status(404))
        as_another_process()
        if act is not prune:
            fail(handle)
            check("after a download that fails")
        hub.cache.prune()
        check("after a prune")
        rest = {name for name in objects.names() if name[40:41] != "/"}
        rest -= {f"{entry}.manifest.json", f"{entry}.descriptor.txt"}
        if rest:
            wrong.append(f"{point}: a prune leaves {rest}")
        host.publish(PATH, archive(PACKED))
        as_another_process()
        hub.resolve(handle)
        check("after the next")
        if not {f"{entry}.manifest.json", f"{entry}/saved_model.pb"} <= objects.names():
            wrong.append(f"{point}: the next does not make it")
        return client

    for point in run(None).points:
        run(point)
    assert not wrong, "\n".join(wrong)
