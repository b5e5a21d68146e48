"""Machines that share one cache in an object store, and nothing else.

Each is a process with a host name, a home and a temporary folder of its own. They meet in the
store only: Google's, with preconditions and without, where each request takes 30 ms, and S3.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import pytest
import requests
from entries import key_of
from servers import Host, archive, bucket_server, in_turn, s3_server, stall
from storage import Storage, google_proxy
from waiting import SOON, until

pytestmark = [pytest.mark.once, pytest.mark.timeout(120), pytest.mark.xdist_group("cluster")]
posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and SIGSTOP are POSIX's")

FOLDER = "test-bucket/models"
LATENCY = 0.03

PROGRAM = """
import json, os, socket, sys, threading, time

if "FAKETIME" in os.environ:  # with it, Python's own sleep fails: "Invalid argument"
    time.sleep = lambda seconds: threading.Event().wait(seconds)
name = sys.argv[1]
if name:
    socket.gethostname = lambda: name
import tfhub_cache as hub

load = sys.argv[3] == "load"
if load:
    import tensorflow

print("ready", flush=True)
sys.stdin.readline()
try:
    if load:
        model = hub.load(sys.argv[2])
        seen = {"path": hub.resolve(sys.argv[2]), "answer": model().numpy().tolist()}
    elif sys.argv[3] == "prune":
        seen = {"path": str(hub.cache.prune())}
    else:
        seen = {"path": hub.resolve(sys.argv[2])}
except Exception as error:
    seen = {"error": repr(error)}
print(json.dumps(seen), flush=True)
"""


class Machine:
    """A process with nothing of the others': `start` tells it to go."""

    def __init__(
        self, folder: Path, handle: str, name: str, what: str, env: dict[str, str]
    ) -> None:
        home, temporary = folder / "home", folder / "tmp"
        home.mkdir(parents=True)
        temporary.mkdir()
        self._messages = (folder / "stderr").open("w+")
        self.temporary = temporary
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TFHUB_")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name, handle, what],
            env={
                **kept,
                "HOME": str(home),
                "TMPDIR": str(temporary),
                "NO_GCE_CHECK": "true",
                "TFHUB_DOWNLOAD_CONNECTIONS": "1",  # these tests count requests
                **env,
            },
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
        )

    def wait_for_start(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self._told()

    def start(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def outcome(self) -> dict[str, Any]:
        """What came of it; fails unless it succeeded."""
        out, _ = self.process.communicate(timeout=SOON)
        assert out, self._told()
        seen: dict[str, Any] = json.loads(out)
        assert "error" not in seen, f"{seen}\n{self._told()}"
        return seen

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._messages.close()

    def _told(self) -> str:
        self._messages.flush()
        self._messages.seek(0)
        return self._messages.read()[-3000:]


@dataclasses.dataclass
class Cluster:
    """A store and the machines.

    Attributes:
        scheme: of the store's addresses.
        files: fsspec's file system for it.
        env: what a process needs to reach it.
        holds: whether it creates an object only if there is none.
        folder: where the machines' folders are.
        storage: the store as the machines see it, if it is Google's.
        machines: all that were made.
    """

    scheme: str
    files: Any
    env: dict[str, str]
    holds: bool
    folder: Path
    storage: Storage | None = None
    machines: list[Machine] = dataclasses.field(default_factory=list)

    def add(
        self,
        handle: str,
        count: int,
        *,
        one_host: bool = False,
        what: str = "resolve",
        **env: str,
    ) -> list[Machine]:
        """Makes machines, which wait until they are started."""
        added = []
        for _ in range(count):
            number = len(self.machines)
            name = "" if one_host else f"machine-{number}.example"
            settings = {"TFHUB_CACHE_DIR": f"{self.scheme}://{FOLDER}", **self.env, **env}
            folder = self.folder / f"machine-{number}"
            added.append(Machine(folder, handle, name, what, settings))
            self.machines.append(added[-1])
        for machine in added:
            machine.wait_for_start()
        return added

    def names(self) -> set[str]:
        return {name.removeprefix(f"{FOLDER}/") for name in self.files.find(FOLDER)}

    def check_whole(self, handle: str, files: dict[str, bytes], paths: set[str]) -> None:
        """Fails unless each of the paths has the model, and the manifest names one of them."""
        manifest = json.loads(self.files.cat_file(f"{FOLDER}/{key_of(handle)}.manifest.json"))
        assert f"{self.scheme}://{FOLDER}/{manifest['folder']}" in paths
        for path in paths:
            folder = path.partition("://")[2] + "/"
            there = {name.removeprefix(folder) for name in self.files.find(folder)}
            assert there == set(files)
            for name, content in files.items():
                assert self.files.cat_file(folder + name) == content, name
        if self.holds:
            assert len(paths) == 1
            assert {name.partition("/")[0] for name in self.names()} == {
                manifest["folder"],
                f"{key_of(handle)}.manifest.json",
            }


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@contextlib.contextmanager
def google(emulator: str, folder: Path, *, holds: bool) -> Iterator[Cluster]:
    from gcsfs.core import GCSFileSystem

    requests.get(f"{emulator}/wipe", params={"keep-buckets": "true"}, timeout=10).raise_for_status()
    files = GCSFileSystem(
        endpoint_url=emulator, token="anon", skip_instance_cache=True, use_listings_cache=False
    )
    with Storage(emulator) as storage:
        storage.latency = LATENCY
        storage.preconditions = holds
        yield Cluster("gs", files, {"STORAGE_EMULATOR_HOST": storage.url}, holds, folder, storage)


@contextlib.contextmanager
def amazon(folder: Path) -> Iterator[Cluster]:
    s3fs = pytest.importorskip("s3fs")
    with s3_server("test-bucket") as endpoint:
        env = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name, value in env.items():
                monkeypatch.setenv(name, value)
            files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
            yield Cluster("s3", files, env, True, folder)


@pytest.fixture
def cluster(emulator: str, tmp_path: Path) -> Iterator[Cluster]:
    with google(emulator, tmp_path, holds=True) as cluster:
        yield cluster
        for machine in cluster.machines:
            machine.close()


@pytest.fixture(params=["gs", "gs without preconditions", "s3"])
def any_store(request: pytest.FixtureRequest, emulator: str, tmp_path: Path) -> Iterator[Cluster]:
    store = (
        amazon(tmp_path)
        if request.param == "s3"
        else google(emulator, tmp_path, holds=request.param == "gs")
    )
    with store as cluster:
        yield cluster
        for machine in cluster.machines:
            machine.close()


FILES = {
    **models.fake_model(size=6_000_000, seed=1),
    **{f"assets/part-{number:02}.txt": b"%d" % number * 100 for number in range(20)},
}


@pytest.fixture(scope="module")
def packed() -> bytes:
    return models.pack_files(FILES)


def test_eight_machines_that_start_at_once_download_once_and_all_get_the_model(
    any_store: Cluster, host: Host, packed: bytes
) -> None:
    """Promise 6, on an empty cache. Without preconditions, each downloads once at most."""
    cluster = any_store
    handle = host.publish("/demo/model/1", packed)
    machines = cluster.add(handle, 8)
    started = time.monotonic()
    for machine in machines:
        machine.start()
    paths = {machine.outcome()["path"] for machine in machines}
    print(f"eight machines: {time.monotonic() - started:.2f} s, {len(host.requests)} downloads")
    assert len(host.requests) <= (1 if cluster.holds else 8)
    cluster.check_whole(handle, FILES, paths)
    assert [list(machine.temporary.iterdir()) for machine in machines] == [[]] * 8


@posix
@pytest.mark.parametrize("where", ["elsewhere", "on the same machine"])
def test_when_the_downloader_is_killed_another_one_takes_over(
    cluster: Cluster, host: Host, packed: bytes, where: str
) -> None:
    """Promise 7: after TFHUB_LOCK_TIMEOUT without a heartbeat; on the same machine at once."""
    never = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(packed, 3_000_000, never), archive(packed))
    )
    is_here = where == "on the same machine"
    env = {"TFHUB_LOCK_TIMEOUT": "600" if is_here else "15"}
    [first] = cluster.add(handle, 1, one_host=is_here, **env)
    waiting = cluster.add(handle, 3, one_host=is_here, **env)
    first.start()
    until(lambda: any(name.endswith("/saved_model.pb") for name in cluster.names()), "an upload")
    assert cluster.storage is not None
    cluster.storage.forget()
    for machine in waiting:
        machine.start()
    _until_listed(cluster.storage, 2 * len(waiting))
    assert len(host.requests) == 1
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(SOON)
    paths = {machine.outcome()["path"] for machine in waiting}
    assert len(host.requests) == 2
    [cleaner] = cluster.add(handle, 1, what="prune", TFHUB_BUCKET_GRACE="0")
    cleaner.start()
    cleaner.outcome()
    cluster.check_whole(handle, FILES, paths)


@posix
def test_a_machine_that_was_asleep_and_wakes_up_ends_with_the_model_of_the_others(
    cluster: Cluster, host: Host, packed: bytes
) -> None:
    """Promise 7: it was taken for crashed, and nothing that it still does breaks the entry."""
    release = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(packed, 3_000_000, release), archive(packed))
    )
    asleep, awake = cluster.add(handle, 2, TFHUB_LOCK_TIMEOUT="5")
    asleep.start()
    until(lambda: any(name.endswith("/saved_model.pb") for name in cluster.names()), "an upload")
    asleep.process.send_signal(signal.SIGSTOP)
    try:
        awake.start()
        seen = awake.outcome()
    finally:
        asleep.process.send_signal(signal.SIGCONT)
    release.set()
    assert asleep.outcome() == seen
    cluster.check_whole(handle, FILES, {seen["path"]})
    assert len(host.requests) == 2


FAKETIME = [os.environ.get("TFHUB_TEST_FAKETIME", "")]
FAKETIME += glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
FAKETIME = [path for path in FAKETIME if os.path.exists(path)]


@posix
@pytest.mark.skipif(not FAKETIME, reason="libfaketime is not installed (in Debian: libfaketime)")
@pytest.mark.parametrize("hours", [-3, 3])
def test_machines_whose_clocks_are_wrong_wait_for_each_other_and_take_over_in_time(
    cluster: Cluster, host: Host, packed: bytes, hours: int
) -> None:
    """Promises 6 and 7: the store's clock decides."""
    never = threading.Event()
    env = {
        "LD_PRELOAD": FAKETIME[0],
        "FAKETIME": f"{hours:+}h",
        "DONT_FAKE_MONOTONIC": "1",
        "TFHUB_LOCK_TIMEOUT": "20",
    }
    handle = host.publish(
        "/demo/model/1", in_turn(stall(packed, 3_000_000, never), archive(packed))
    )
    [right] = cluster.add(handle, 1)
    wrong = cluster.add(handle, 2, **env)
    right.start()
    until(lambda: any(name.endswith("/saved_model.pb") for name in cluster.names()), "an upload")
    assert cluster.storage is not None
    cluster.storage.forget()
    for machine in wrong:
        machine.start()
    _until_listed(cluster.storage, 4 * len(wrong))
    assert len(host.requests) == 1
    right.process.send_signal(signal.SIGKILL)
    paths = {machine.outcome()["path"] for machine in wrong}
    assert len(paths) == 1
    assert len(host.requests) == 2


def test_machines_that_come_later_only_look(cluster: Cluster, host: Host, packed: bytes) -> None:
    """Cost: two requests each, nothing downloaded, nothing written."""
    handle = host.publish("/demo/model/1", packed)
    [first] = cluster.add(handle, 1)
    first.start()
    first.outcome()
    assert cluster.storage is not None
    cluster.storage.forget()
    later = cluster.add(handle, 3)
    for machine in later:
        machine.start()
    for machine in later:
        machine.outcome()
    assert len(host.requests) == 1
    assert [call.kind for call in cluster.storage.calls if call.is_upload] == []
    assert len(cluster.storage.calls) == 2 * 3


def _until_listed(storage: Storage, times: int) -> None:
    """Waits until the machines have looked so often."""
    until(lambda: sum(call.kind == "list" for call in storage.calls) >= times, "the waiting", SOON)


@pytest.mark.tensorflow
@pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow can't read gs:// on Windows")
def test_machines_that_start_at_once_all_load_the_same_model(
    cluster: Cluster, host: Host, emulator: str, built, ca, ca_pem: Path
) -> None:
    """Promise 6, with TensorFlow reading from the bucket through its own client."""
    small = built("small", lambda folder: models.large(folder, 1))
    handle = host.publish("/small/1", models.pack(small))
    with google_proxy(emulator, ca, ca_pem) as (env, theirs):
        theirs.latency = LATENCY
        machines = cluster.add(handle, 2, what="load", **env)
        for machine in machines:
            machine.start()
        seen = [machine.outcome() for machine in machines]
    assert len(host.requests) == 1
    [path] = {one["path"] for one in seen}
    assert path.startswith(f"gs://{FOLDER}/{key_of(handle)}")
    assert seen[0]["answer"] == pytest.approx([0.5] * 8, abs=0.01)
    assert all(one["answer"] == seen[0]["answer"] for one in seen)
