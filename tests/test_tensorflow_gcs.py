"""TensorFlow's own client of Google Cloud Storage: it loads what this library resolves and fills.

Each program here is a process of its own, since TensorFlow reads its settings when it is loaded.
It reaches the emulator through a proxy that stands for Google's servers; the library's own client
goes through a front of its own.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import pytest
import requests
from entries import key_of
from servers import Host, bucket_server
from storage import Storage, google_proxy

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.xdist_group("gcs"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="TensorFlow can't read gs:// on Windows"),
]

SENTENCES = ["the cat sat on a mat", "größe 犬", "unknown", ""]

TEXT = """
import json, sys
import tensorflow as tf
import tfhub_cache as hub

model = hub.load(sys.argv[1])
answer = model(json.loads(sys.argv[2])).numpy().tolist()
signature = model.signatures["serving_default"](sentences=tf.constant(json.loads(sys.argv[2])))
print(json.dumps({
    "path": hub.resolve(sys.argv[1]),
    "answer": answer,
    "signature": signature["embeddings"].numpy().tolist(),
    "v1": model._is_hub_module_v1,
}))
"""

RESOLVE = """
import json, sys
import tfhub_cache as hub

print(json.dumps({"path": hub.resolve(sys.argv[1])}))
"""

LARGE = """
import json, sys
import tensorflow as tf
import tfhub_cache as hub

model = hub.load(sys.argv[1])
print(json.dumps({
    "path": hub.resolve(sys.argv[1]),
    "bytes": sum(weight.numpy().nbytes for weight in model.weights),
    "answer": model().numpy().tolist(),
}))
"""


@dataclasses.dataclass
class Google:
    """The bucket, from both sides.

    Attributes:
        ours: what gcsfs asks.
        theirs: what TensorFlow asks.
        env: the environment of a program that uses both.
        client: gcsfs, past the fronts.
    """

    ours: Storage
    theirs: Storage
    env: dict[str, str]
    client: Any

    def put(self, folder: str, local: Path) -> str:
        """Copies a folder of this machine's into the bucket."""
        for name, content in models.read_files(local).items():
            self.client.pipe_file(f"{folder}/{name}", content)
        return folder

    def run(self, program: str, *args: str, **env: str) -> dict[str, Any]:
        """Runs a program; what it printed."""
        done = subprocess.run(
            [sys.executable, "-c", program, *args],
            env={**os.environ, **self.env, **env},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-5000:]
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return seen


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    with bucket_server("test-bucket") as endpoint:
        yield endpoint


@pytest.fixture
def google(emulator: str, ca, ca_pem: Path, tmp_path: Path) -> Iterator[Google]:
    from gcsfs.core import GCSFileSystem

    requests.get(f"{emulator}/wipe", params={"keep-buckets": "true"}, timeout=10).raise_for_status()
    client = GCSFileSystem(
        endpoint_url=emulator, token="anon", skip_instance_cache=True, use_listings_cache=False
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with Storage(emulator) as ours, google_proxy(emulator, ca, ca_pem) as (env, theirs):
        env |= {"STORAGE_EMULATOR_HOST": ours.url, "TMPDIR": str(temporary)}
        yield Google(ours, theirs, env, client)


@pytest.fixture(scope="module")
def expected() -> list[list[float]]:
    return [models.embedding(sentence) for sentence in SENTENCES]


def check_text(seen: dict[str, Any], expected: list[list[float]]) -> None:
    for answer in (seen["answer"], seen["signature"]):
        for row, wanted in zip(answer, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-5)


def test_in_uncompressed_mode_a_model_is_loaded_from_its_bucket_and_no_file_is_written(
    google: Google, host: Host, text_embedding: Path, expected: list[list[float]], tmp_path: Path
) -> None:
    """Variables and assets are read straight from where the host says that they are."""
    folder = google.put("gs://test-bucket/demo/text/1/uncompressed", text_embedding)
    handle = host.publish("/demo/text/1", b"", gcs=folder)
    cache = tmp_path / "cache"
    seen = google.run(
        TEXT,
        handle,
        json.dumps(SENTENCES),
        TFHUB_MODEL_LOAD_FORMAT="UNCOMPRESSED",
        TFHUB_CACHE_DIR=str(cache),
    )
    check_text(seen, expected)
    assert seen["path"] == folder
    assert seen["v1"] is False
    assert not cache.exists()
    assert list((tmp_path / "temporary").iterdir()) == []
    read = {call.name for call in google.theirs.calls if call.kind == "read"}
    assert {name.rpartition("/")[2] for name in read} >= {
        "saved_model.pb",
        "variables.index",
        "variables.data-00000-of-00001",
        "vocab.txt",
    }


def test_a_model_is_loaded_from_a_gs_cache_that_the_library_filled(
    google: Google,
    host: Host,
    text_embedding: Path,
    archive_of: Callable[[Path], bytes],
    expected: list[list[float]],
    tmp_path: Path,
) -> None:
    """TFHUB_CACHE_DIR=gs://...: the first process fills it, the others only read."""
    handle = host.publish("/demo/text/1", archive_of(text_embedding))
    env = {"TFHUB_CACHE_DIR": "gs://test-bucket/models"}
    first = google.run(RESOLVE, handle, **env)
    assert first["path"].startswith("gs://test-bucket/models/" + key_of(handle))
    google.ours.forget()
    for seen in (
        google.run(TEXT, handle, json.dumps(SENTENCES), **env),
        google.run(TEXT, first["path"], json.dumps(SENTENCES)),
    ):
        check_text(seen, expected)
        assert seen["path"] == first["path"]
    assert len(host.requests) == 1
    assert not any(call.is_upload or call.kind == "delete" for call in google.ours.calls)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_module_in_the_tf1_hub_format_is_loaded_from_a_gs_cache(
    google: Google, host: Host, tf1_hub_module: Path, archive_of: Callable[[Path], bytes]
) -> None:
    """Its mark is an object beside the others."""
    handle = host.publish("/demo/v1/1", archive_of(tf1_hub_module))
    program = """
import json, sys
import tensorflow as tf
import tfhub_cache as hub

model = hub.load(sys.argv[1])
answer = model.signatures["default"](tf.constant(json.loads(sys.argv[2])))["default"]
print(json.dumps({"v1": model._is_hub_module_v1, "answer": answer.numpy().tolist()}))
"""
    sentences = ["the cat", "a mat"]
    seen = google.run(
        program, handle, json.dumps(sentences), TFHUB_CACHE_DIR="gs://test-bucket/models"
    )
    assert seen["v1"] is True
    for row, sentence in zip(seen["answer"], sentences, strict=True):
        assert row == pytest.approx(models.embedding(sentence), abs=1e-5)


@pytest.fixture(scope="module")
def variable(built) -> Path:
    """A model with one variable of 64 MB."""

    def make(folder: Path) -> None:
        import numpy as np
        import tensorflow as tf

        class Large(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                numbers = np.random.default_rng(0).random((4000, 4000), np.float32)
                self.weights = [tf.Variable(numbers, name="weight")]

            @tf.function(input_signature=[])
            def __call__(self):
                return tf.reduce_sum(self.weights[0], axis=0)[:5]

        tf.saved_model.save(Large(), str(folder))

    return built("variable", make)


def test_a_variable_of_64_mb_arrives_in_tensorflow_by_way_of_the_bucket(
    google: Google, host: Host, variable: Path
) -> None:
    """Uploaded in several requests by the library, read in several by TensorFlow."""
    import numpy as np

    handle = host.publish("/demo/large/1", models.pack(variable, compression=None))
    seen = google.run(LARGE, handle, TFHUB_CACHE_DIR="gs://test-bucket/models")
    assert seen["bytes"] == 64_000_000
    numbers = np.random.default_rng(0).random((4000, 4000), np.float32)
    assert seen["answer"] == pytest.approx(numbers.sum(axis=0)[:5].tolist(), rel=1e-4)


# A worker that does not see this machine's disk, as a TPU in Colab doesn't.

BLIND = 'mount -t tmpfs none "$1" && shift && exec "$@"'

WORKER = """
import tensorflow as tf

server = tf.distribute.Server({"worker": ["127.0.0.1:0"]}, job_name="worker", task_index=0)
print(server.target, flush=True)
server.join()
"""

CLIENT = """
import json, os, sys
import tensorflow as tf
import tfhub_cache as hub

address, handle = sys.argv[1:]
tf.config.experimental_connect_to_host(address, job_name="worker")
seen = []
for os.environ["TFHUB_MODEL_LOAD_FORMAT"] in ("COMPRESSED", "UNCOMPRESSED"):
    with tf.device("/job:worker/replica:0/task:0/device:CPU:0"):
        model = hub.load(handle)
        answer = model().numpy().tolist()
    seen.append({
        "path": hub.resolve(handle),
        "devices": sorted({weight.device for weight in model.weights}),
        "answer": answer,
    })
print(json.dumps({"models": seen}))
"""


@pytest.fixture
def worker(google: Google, tmp_path: Path) -> Iterator[str]:
    """The address of a worker that sees an empty folder in place of this test's."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    blind = ["unshare", "-m", "sh", "-c", BLIND, "sh", str(tmp_path)]
    tried = subprocess.run(
        [*blind, "true"], capture_output=True, text=True, timeout=30, check=False
    )
    if tried.returncode:
        pytest.skip(f"mounts of its own need root: {tried.stderr.strip()}")
    home = {"TMPDIR": "/tmp", "HOME": "/tmp"}
    with (
        (tmp_path / "worker.stderr").open("w") as messages,
        subprocess.Popen(
            [*blind, sys.executable, "-c", WORKER],
            env={**os.environ, **google.env, **home},
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            target = process.stdout.readline().strip()  # ready, or gone
            assert target, (tmp_path / "worker.stderr").read_text()[-3000:]
            yield "127.0.0.1:" + target.rpartition(":")[2]
        finally:
            process.kill()


def test_a_worker_without_this_machines_disk_loads_the_model_from_a_bucket(
    google: Google, host: Host, worker: str, built
) -> None:
    """The first answer to Colab's TPU: TFHUB_CACHE_DIR=gs://..., or UNCOMPRESSED."""
    import tensorflow as tf

    model = built("small", lambda folder: models.large(folder, 1))
    folder = google.put("gs://test-bucket/small/1/uncompressed", model)
    handle = host.publish("/small/1", models.pack(model), gcs=folder)
    seen = google.run(CLIENT, worker, handle, TFHUB_CACHE_DIR="gs://test-bucket/models")
    cached, in_place = (one["path"] for one in seen["models"])
    assert cached.startswith("gs://test-bucket/models/" + key_of(handle))
    assert in_place == folder
    expected = tf.saved_model.load(str(model))().numpy()
    for one in seen["models"]:
        assert one["devices"] == ["/job:worker/replica:0/task:0/device:CPU:0"]
        assert one["answer"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert len(host.requests) == 3  # an archive, and the place of the model for load and resolve
