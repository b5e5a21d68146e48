"""A worker that does not see this machine's disk, as a TPU in Colab doesn't.

The worker is a process with a mount namespace of its own, in which the cache folder is empty.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import models
import pytest
from servers import Host

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("worker")]

# An empty file system over the cache, which only this process and its children see.
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
local = tf.saved_model.LoadOptions(experimental_io_device="/job:localhost")
seen = {"path": hub.resolve(handle)}

def failure(load, handle):
    try:
        load(handle)
    except Exception as error:
        return {
            "type": type(error).__name__,
            "text": str(error),
            "notes": getattr(error, "__notes__", []),
        }

with tf.device("/job:worker/replica:0/task:0/device:CPU:0"):
    seen["tensorflow"] = failure(tf.saved_model.load, seen["path"])
    seen["blind"] = failure(hub.load, handle)
    seen["nothing"] = failure(hub.load, seen["path"] + "-nothing")
    seen["file://"] = failure(hub.load, "file://" + os.path.abspath(seen["path"]))
    model = hub.load(handle, options=local)
    seen["devices"] = sorted({weight.device for weight in model.weights})
    seen["answer"] = model().numpy().tolist()
print(json.dumps(seen))
"""


def _refusal() -> str | None:
    """Why a process can't have mounts of its own here; None if it can."""
    if shutil.which("unshare") is None:
        return "there is no unshare here"
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", BLIND, "sh", "/tmp", "true"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        _, message = process.communicate(timeout=30)
    return f"mounts of its own need root: {message.strip()}" if process.returncode else None


@pytest.fixture(scope="module")
def small_model(built) -> Path:
    """A model with variables and without a vocabulary, which the worker would look for."""
    return built("small", lambda folder: models.large(folder, 1))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> dict:
    """What a client sees that loads a model under a worker that is blind to the cache."""
    refusal = _refusal()
    if refusal is not None:
        pytest.skip(refusal)
    folder = tmp_path_factory.mktemp("worker")
    cache = folder / "cache"
    cache.mkdir()
    with Host() as host, _worker(folder, cache) as address:
        handle = host.publish("/small/1", models.pack(small_model))
        client = subprocess.run(
            [sys.executable, "-c", CLIENT, address, handle],
            env={**os.environ, "TFHUB_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert client.returncode == 0, client.stderr[-5000:]
    assert len(host.requests) == 1
    return json.loads(client.stdout.splitlines()[-1])


class _worker:  # noqa: N801 - a context manager
    """A server of TensorFlow that sees an empty folder in place of the cache."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._messages = (folder / "worker.stderr").open("w+")
        self._process = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", BLIND, "sh", str(cache), sys.executable, "-c", WORKER],
            stdout=subprocess.PIPE,
            stderr=self._messages,
            text=True,
        )

    def __enter__(self) -> str:
        target = self._process.stdout.readline().strip()  # ready, or gone
        if not target:
            self.__exit__()
            pytest.fail("the worker did not start")
        return "127.0.0.1:" + target.rpartition(":")[2]

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._messages.close()


def test_without_options_the_error_is_tensorflows_own(seen: dict) -> None:
    assert seen["blind"]["type"] == seen["tensorflow"]["type"]
    # TensorFlow adds the operation's name at times, which depends on how the failure reaches it.
    blind, own = (
        re.sub(r" \[Op:\w+\]( name: )?", "", seen[how]["text"]) for how in ("blind", "tensorflow")
    )
    assert blind == own
    assert "Failed to find any matching files" in seen["blind"]["text"]
    assert seen["tensorflow"]["notes"] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
@pytest.mark.parametrize("form", ["blind", "file://"])
def test_without_options_a_note_on_the_error_names_both_ways_out(seen: dict, form: str) -> None:
    [note] = seen[form]["notes"]
    assert seen["path"] in note
    for words in (
        "TFHUB_MODEL_LOAD_FORMAT=UNCOMPRESSED",
        "TFHUB_CACHE_DIR=gs://",
        'tf.saved_model.LoadOptions(experimental_io_device="/job:localhost")',
    ):
        assert words in note


def test_a_model_that_is_not_there_gets_no_such_note(seen: dict) -> None:
    assert seen["nothing"]["text"].endswith("-nothing does not exist.")
    assert seen["nothing"]["notes"] == []


def test_with_the_io_device_the_model_is_on_the_worker_and_answers(
    seen: dict, small_model: Path
) -> None:
    import tensorflow as tf

    assert seen["devices"] == ["/job:worker/replica:0/task:0/device:CPU:0"]
    expected = tf.saved_model.load(str(small_model))().numpy()
    assert seen["answer"] == pytest.approx(expected.tolist(), abs=1e-5)
