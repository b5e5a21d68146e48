"""What the tests of a cache in a bucket share: what they look for in it, and how they wait."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import models
from storage import Call

from tfhub_cache.clients import gcs
from tfhub_cache.fetching import lookup as fetching

ROOT = "gs://test-bucket/models"
FILES = models.fake_model(size=20_000)
SHARD = "variables/variables.data-00000-of-00001"
LONG = models.fake_model(size=6_000_000, seed=1)
HERE = socket.gethostname()
SOON = 20.0


def key(handle: str) -> str:
    return hashlib.sha1(handle.encode()).hexdigest()


def as_another_process() -> None:
    """Forgets what this process remembers, so that the next resolve is like another process's."""
    from gcsfs.core import GCSFileSystem

    fetching._open_cache.cache_clear()
    gcs._file_system.cache_clear()
    GCSFileSystem.clear_instance_cache()


class Bucket:
    """What is in the cache, seen past the front and past the library."""

    def __init__(self, endpoint: str) -> None:
        from gcsfs.core import GCSFileSystem

        self.client = GCSFileSystem(
            endpoint_url=endpoint, token="anon", skip_instance_cache=True, use_listings_cache=False
        )

    def __getitem__(self, name: str) -> bytes:
        return self.client.cat_file(f"{ROOT}/{name}")

    def __setitem__(self, name: str, content: bytes) -> None:
        self.client.pipe_file(f"{ROOT}/{name}", content)

    def __delitem__(self, name: str) -> None:
        self.client.rm_file(f"{ROOT}/{name}")

    def names(self) -> set[str]:
        root = ROOT.removeprefix("gs://") + "/"
        return {name.removeprefix(root) for name in self.client.find(ROOT)}

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self[f"{folder}/{name}"] = content

    def generation(self, name: str) -> str | None:
        try:
            return str(self.client.info(f"{ROOT}/{name}")["generation"])
        except FileNotFoundError:
            return None

    def check_whole(self, handle: str, files: dict[str, bytes]) -> None:
        """Fails unless the entry is there, whole, and all that there is of it."""
        entry = key(handle)
        assert {name for name in self.names() if name.startswith(entry)} == {
            *(f"{entry}/{name}" for name in files),
            f"{entry}.descriptor.txt",
            f"{entry}.manifest.json",
        }
        listed = json.loads(self[f"{entry}.manifest.json"])["files"]
        assert {file["path"]: file["sha256"] for file in listed} == {
            name: hashlib.sha256(content).hexdigest() for name, content in files.items()
        }
        for name, content in files.items():
            assert self[f"{entry}/{name}"] == content, name


def until(condition: Callable[[], Any], what: str = "it") -> None:
    """Waits for a condition, with a bound."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        time.sleep(0.005)


def in_background(function: Callable[..., Any], *args: Any) -> concurrent.futures.Future[Any]:
    """Runs a function in a thread of its own."""
    done: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def run() -> None:
        try:
            done.set_result(function(*args))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return done


def is_file_of(handle: str) -> Callable[[Call], bool]:
    """Whether a call is about a file of the model."""
    prefix = f"models/{key(handle)}/"
    return lambda call: call.name.startswith(prefix)


def is_upload_of(handle: str, name: str = "") -> Callable[[Call], bool]:
    """Whether a call uploads a file of the model, or this one."""
    wanted = f"models/{key(handle)}/{name}"
    return lambda call: call.is_upload and call.name.startswith(wanted)


def dead_pid() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid
