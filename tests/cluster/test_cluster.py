"""Machines that share one cache in a bucket, and nothing else.

Each is a process with a host name, a home and a temporary folder of its own. They meet in the
bucket only, where each request takes 30 ms.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import pytest
import requests
from entries import key_of
from servers import Host, archive, bucket_server, in_turn, stall
from storage import Storage, google_proxy
from waiting import until

pytestmark = [pytest.mark.once, pytest.mark.timeout(120), pytest.mark.xdist_group("cluster")]
posix = pytest.mark.skipif(os.name != "posix", reason="SIGKILL and SIGSTOP are POSIX's")

ROOT = "gs://test-bucket/models"
LATENCY = 0.03
SOON = 60.0

PROGRAM = """
import json, os, socket, sys

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
                "TFHUB_CACHE_DIR": ROOT,
                "NO_GCE_CHECK": "true",
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
    """The bucket and the machines.

    Attributes:
        storage: the bucket, as the machines see it.
        client: gcsfs, past the front.
        folder: where the machines' folders are.
        machines: all that were made.
    """

    storage: Storage
    client: Any
    folder: Path
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
            settings = {
                "STORAGE_EMULATOR_HOST": self.storage.url,
                "TFHUB_DOWNLOAD_CONNECTIONS": "1",  # these tests count requests
                **env,
            }
            folder = self.folder / f"machine-{number}"
            added.append(Machine(folder, handle, name, what, settings))
            self.machines.append(added[-1])
        for machine in added:
            machine.wait_for_start()
        return added

    def names(self) -> set[str]:
        root = ROOT.removeprefix("gs://") + "/"
        return {name.removeprefix(root) for name in self.client.find(ROOT)}

    def check_whole(self, handle: str, files: dict[str, bytes]) -> None:
        """Fails unless the entry is there, whole, and there is nothing else."""
        entry = key_of(handle)
        assert self.names() == {
            *(f"{entry}/{name}" for name in files),
            f"{entry}.descriptor.txt",
            f"{entry}.manifest.json",
        }
        for name, content in files.items():
            assert self.client.cat_file(f"{ROOT}/{entry}/{name}") == content, name


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture
def cluster(emulator: str, tmp_path: Path) -> Iterator[Cluster]:
    from gcsfs.core import GCSFileSystem

    requests.get(f"{emulator}/wipe", params={"keep-buckets": "true"}, timeout=10).raise_for_status()
    client = GCSFileSystem(
        endpoint_url=emulator, token="anon", skip_instance_cache=True, use_listings_cache=False
    )
    with Storage(emulator) as storage:
        storage.latency = LATENCY
        cluster = Cluster(storage, client, tmp_path)
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
    cluster: Cluster, host: Host, packed: bytes, record_property: Callable[[str, object], None]
) -> None:
    """Promise 6, on an empty cache in a bucket."""
    handle = host.publish("/demo/model/1", packed)
    machines = cluster.add(handle, 8)
    started = time.monotonic()
    for machine in machines:
        machine.start()
    seen = [machine.outcome() for machine in machines]
    took = time.monotonic() - started
    record_property("seconds until all eight were done", round(took, 2))
    print(f"eight machines at 30 ms a request: {took:.2f} s")
    assert seen == [{"path": f"{ROOT}/{key_of(handle)}"}] * 8
    assert len(host.requests) == 1
    cluster.check_whole(handle, FILES)
    assert [list(machine.temporary.iterdir()) for machine in machines] == [[]] * 8


def _kill_the_downloader(
    cluster: Cluster, host: Host, packed: bytes, others: int, **options: Any
) -> tuple[str, float]:
    """Kills whoever downloads in the middle, while others wait; until they are all done."""
    never = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(packed, 3_000_000, never), archive(packed))
    )
    [first] = cluster.add(handle, 1, **options)
    waiting = cluster.add(handle, others, **options)
    first.start()
    host.wait_for_requests(1)
    until(lambda: f"{key_of(handle)}/saved_model.pb" in cluster.names(), "the first upload")
    for machine in waiting:
        machine.start()
    lock = f"models/{key_of(handle)}.lock"
    until(
        lambda: (
            sum(call.name == lock and call.status == 412 for call in cluster.storage.calls)
            >= others
        ),
        "the others' waiting",
    )
    assert not any(machine.process.poll() for machine in waiting)
    assert len(host.requests) == 1
    first.process.send_signal(signal.SIGKILL)
    first.process.wait(SOON)
    killed = time.monotonic()
    seen = [machine.outcome() for machine in waiting]
    assert seen == [{"path": f"{ROOT}/{key_of(handle)}"}] * others
    return handle, time.monotonic() - killed


@posix
def test_when_the_downloader_is_killed_another_machine_takes_over(
    cluster: Cluster, host: Host, packed: bytes
) -> None:
    """Promise 7: no more signs of life for TFHUB_LOCK_TIMEOUT, and one of the others goes on."""
    handle, seconds = _kill_the_downloader(cluster, host, packed, others=4, TFHUB_LOCK_TIMEOUT="3")
    print(f"with a lock timeout of 3 s: {seconds:.2f} s")
    cluster.check_whole(handle, FILES)
    assert len(host.requests) == 2  # the dead one's, and one of the others'


@posix
def test_when_the_downloader_is_killed_others_on_the_same_machine_know_at_once(
    cluster: Cluster, host: Host, packed: bytes
) -> None:
    """Promise 7: the lock timeout, ten minutes, does not matter."""
    handle, seconds = _kill_the_downloader(
        cluster, host, packed, others=4, one_host=True, TFHUB_LOCK_TIMEOUT="600"
    )
    print(f"with a lock timeout of 600 s: {seconds:.2f} s")
    cluster.check_whole(handle, FILES)
    assert len(host.requests) == 2


@posix
def test_a_machine_that_was_asleep_and_wakes_up_ends_with_the_same_model(
    cluster: Cluster, host: Host, packed: bytes
) -> None:
    """Promise 7: it was taken for dead, and nothing that it still does breaks the entry."""
    release = threading.Event()
    handle = host.publish(
        "/demo/model/1", in_turn(stall(packed, 3_000_000, release), archive(packed))
    )
    asleep, awake = cluster.add(handle, 2, TFHUB_LOCK_TIMEOUT="1.5")
    asleep.start()
    host.wait_for_requests(1)
    until(lambda: f"{key_of(handle)}/saved_model.pb" in cluster.names(), "the first upload")
    asleep.process.send_signal(signal.SIGSTOP)
    try:
        awake.start()
        seen = awake.outcome()
        cluster.check_whole(handle, FILES)
    finally:
        asleep.process.send_signal(signal.SIGCONT)
    release.set()
    assert asleep.outcome() == seen
    cluster.check_whole(handle, FILES)
    assert len(host.requests) == 2


def test_machines_that_come_later_only_look(cluster: Cluster, host: Host, packed: bytes) -> None:
    """Cost: two requests each, nothing downloaded, nothing written."""
    handle = host.publish("/demo/model/1", packed)
    [first] = cluster.add(handle, 1)
    first.start()
    first.outcome()
    cluster.storage.forget()
    later = cluster.add(handle, 3)
    for machine in later:
        machine.start()
    for machine in later:
        machine.outcome()
    assert len(host.requests) == 1
    assert [call.kind for call in cluster.storage.calls if call.is_upload] == []
    assert len(cluster.storage.calls) == 2 * 3


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
    assert {one["path"] for one in seen} == {f"{ROOT}/{key_of(handle)}"}
    assert seen[0]["answer"] == pytest.approx([0.5] * 8, abs=0.01)
    assert all(one["answer"] == seen[0]["answer"] for one in seen)
