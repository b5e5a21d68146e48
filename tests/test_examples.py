"""The examples run as they are, and print what they should."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import models
import pytest
from entries import key_of
from servers import Host, bucket_server
from storage import Storage, google_proxy

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("examples")]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WORKERS = 2


def test_the_quickstart_loads_a_model_twice_and_downloads_it_once(run_python) -> None:
    lines = run_python(EXAMPLES / "quickstart.py").check().stdout.splitlines()
    assert sum("tf-hub-format=compressed" in line for line in lines) == 1
    first, again = (line for line in lines if line.strip().startswith("hello world"))
    assert first == again


KERASES = pytest.mark.parametrize("legacy", ["0", "1"], ids=["Keras 3", "Keras 2"])


def skip_without(legacy: str) -> None:
    if legacy == "1":
        pytest.importorskip("tf_keras", reason="there is no Keras 2")


@KERASES
def test_the_tutorial_on_text_classification_learns(run_python, legacy: str) -> None:
    skip_without(legacy)
    done = run_python(EXAMPLES / "text_classification.py", env={"TF_USE_LEGACY_KERAS": legacy})
    text = done.check().stdout
    assert "(3, 50)\n" in text
    assert re.search(r"keras_layer \(KerasLayer\).*\(None, 50\).*1,?000", text)
    assert re.search(r"^test: loss 0\.\d+, accuracy 1\.000$", text, re.M)


@KERASES
def test_the_tutorial_on_transfer_learning_learns_and_is_reloaded(run_python, legacy: str) -> None:
    skip_without(legacy)
    done = run_python(EXAMPLES / "transfer_learning.py", env={"TF_USE_LEGACY_KERAS": legacy})
    text = done.check().stdout
    assert "classifier: (4, 1001)\nfeatures: (4, 64)\n" in text
    assert re.search(r"Non-trainable params: 8,?224 ", text)
    assert "validation: accuracy 1.000\nreloaded: differs by 0.0\n" in text, text


@pytest.mark.timeout(200)
def test_workers_of_a_cluster_train_with_one_model_from_a_bucket(
    host: Host, text_embedding: Path, ca, ca_pem: Path, tmp_path: Path
) -> None:
    handle = host.publish("/acme/text-embedding/1", models.pack(text_embedding))
    with (
        bucket_server("my-bucket") as emulator,
        Storage(emulator) as bucket,  # for gcsfs
        google_proxy(emulator, ca, ca_pem) as (proxy, seen_by_tensorflow),  # for TensorFlow
    ):
        storage = {
            **proxy,
            "STORAGE_EMULATOR_HOST": bucket.url,
            "TFHUB_CACHE_DIR": "gs://my-bucket/tfhub-modules-cache",
        }
        texts = run_cluster("cluster.py", handle, storage, tmp_path)

    assert len(host.requests) == 1  # who comes second waits for the first
    entry = rf"tfhub-modules-cache/{key_of(handle)}\.[\w-]+"
    assert any(re.match(f"{entry}/variables/", call.name) for call in seen_by_tensorflow.calls)
    losses, paths = [], set()
    for number, text in enumerate(texts):
        paths |= set(re.findall(rf"^worker {number}: (gs://my-bucket/{entry})$", text, re.M))
        found = re.findall(rf"^worker {number}: step (\d+), loss (\d+\.\d+)$", text, re.M)
        assert [step for step, _ in found] == ["1", "5", "10", "15", "20"]
        losses.append([float(loss) for _, loss in found])
    assert len(paths) == 1
    assert losses[0] == losses[1]
    assert losses[0] == sorted(losses[0], reverse=True)
    assert losses[0][0] == pytest.approx(0.6931, abs=1e-4)  # it knows nothing yet
    assert losses[0][-1] < 0.6


def run_cluster(
    example: str, handle: str, storage: Mapping[str, str | Path], folder: Path
) -> list[str]:
    """What each worker printed. None of them sees another's files."""
    with contextlib.ExitStack() as ending:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(WORKERS)]
        workers = []
        for index in range(WORKERS):
            task = {"type": "worker", "index": index}
            own = folder / f"worker-{index}"
            own.mkdir()
            environment = {
                **os.environ,
                **{name: str(value) for name, value in storage.items()},
                "HOME": str(own),
                "TMPDIR": str(own),
                "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
            }
            command = [sys.executable, str(EXAMPLES / example), handle]
            workers.append(ending.enter_context(process(command, environment, own / "output")))
        for worker in workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                if worker.wait(80) != 0:
                    break  # the others would wait for it
    texts = [(folder / f"worker-{index}" / "output").read_text() for index in range(WORKERS)]
    assert [worker.returncode for worker in workers] == [0] * WORKERS, "\n\n".join(texts)
    return texts


@contextlib.contextmanager
def process(
    command: list[str], environment: Mapping[str, str], output: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has ended when the context does."""
    with (
        output.open("wb") as file,
        subprocess.Popen(command, env=environment, stdout=file, stderr=file) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


def free_ports(count: int) -> list[int]:
    """Ports on which no server listens; different ones."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
