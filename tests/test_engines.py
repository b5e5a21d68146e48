"""Engines that exist, with several workers and one cold cache: one download, the same numbers.

`make engines` installs them in an environment of their own, in which this library stands in for
tensorflow_hub, and runs these tests there.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import pytest
from entries import key_of
from processes import Finished
from servers import Host, bucket_server
from storage import Storage, google_proxy

pytestmark = [
    pytest.mark.engine,
    pytest.mark.tensorflow,
    pytest.mark.once,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("engines"),
]

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
BUCKET = "gs://my-bucket/tfhub-modules-cache"


def needs(package: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed; `make engines` does it")


beam, ray, spark = needs("apache_beam"), needs("ray"), needs("pyspark")
java = pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java")


@pytest.fixture
def run(run_python: Callable[..., Finished], tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Runs an example with a cache; the rows that it made."""

    def run(
        example: str, *arguments: str | Path, output: Path | None = None, **env: str | Path
    ) -> list[dict[str, Any]]:
        args = [*arguments[:1], output, *arguments[1:]] if output else arguments
        done = run_python(EXAMPLES / example, args=args, env=env, cwd=tmp_path, timeout=500).check()
        text = output.read_text() if output else done.stdout
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    return run


@pytest.fixture
def bucket(ca, ca_pem: Path) -> Iterator[tuple[dict[str, str | Path], Storage]]:
    """The environment for a cache in a bucket, and what TensorFlow's own client asks of it."""
    with (
        bucket_server("my-bucket") as emulator,
        Storage(emulator) as front,  # for gcsfs
        google_proxy(emulator, ca, ca_pem) as (proxy, seen_by_tensorflow),
    ):
        environment = {**proxy, "STORAGE_EMULATOR_HOST": front.url, "TFHUB_CACHE_DIR": BUCKET}
        yield environment, seen_by_tensorflow


def check(rows: list[dict[str, Any]], replaced: tuple[str, str] = ("", "")) -> set[int]:
    """Fails unless each sentence has the numbers that the model gives in one process.

    Returns:
        The processes that computed them.
    """
    assert len(rows) == 16
    for row in rows:
        expected = models.embedding(row["sentence"].replace(*replaced))
        assert row["embedding"] == pytest.approx(expected, abs=1e-5)
    return {row["process"] for row in rows}


def loads(storage: Storage, handle: str) -> int:
    """How often TensorFlow opened the model in the bucket."""
    opened = [
        call
        for call in storage.calls
        if call.kind == "read"
        and call.name.endswith("/saved_model.pb")
        and key_of(handle) in call.name
    ]
    return len(opened)


TWO_PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@beam
def test_workers_of_beam_embed_with_one_download_into_a_folder(
    run, host: Host, text_embedding: Path, cache_dir: Path, tmp_path: Path
) -> None:
    handle = host.publish("/acme/text-embedding/1", models.pack(text_embedding))
    rows = run("beam_embeddings.py", handle, *TWO_PROCESSES, output=tmp_path / "rows")
    assert len(check(rows)) == 2
    assert len(host.requests) == 1


@beam
def test_workers_of_beam_share_a_large_model_and_its_preprocessing_from_a_bucket(
    run, host: Host, built, text_embedding: Path, bucket, tmp_path: Path
) -> None:
    environment, seen_by_tensorflow = bucket
    mats = host.publish("/acme/mats/1", models.pack(built("mats", mats_for_cats)))
    encoder = host.publish(
        "/acme/encoder/1",
        models.pack(built("encoder", lambda folder: pooling(folder, text_embedding))),
    )
    rows = run(
        "beam_embeddings.py",
        *(encoder, "--preprocessing", mats, "--large-model", *TWO_PROCESSES),
        output=tmp_path / "rows",
        **environment,
    )
    assert len(check(rows, replaced=("cat", "mat"))) == 2
    assert sorted(request.path for request in host.requests) == ["/acme/encoder/1", "/acme/mats/1"]
    assert loads(seen_by_tensorflow, encoder)


def mats_for_cats(folder: Path) -> None:
    """A model that makes sentences of sentences."""
    import tensorflow as tf

    class Preprocessing(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, sentences):
            return tf.strings.regex_replace(sentences, "cat", "mat")

    tf.saved_model.save(Preprocessing(), str(folder))


def pooling(folder: Path, text_embedding: Path) -> None:
    """A model with the output that encoders have, as Beam wants it after a preprocessing model."""
    import tensorflow as tf

    class Encoder(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = tf.saved_model.load(str(text_embedding))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, sentences):
            return {"pooled_output": self.embed(sentences)}

    tf.saved_model.save(Encoder(), str(folder))


@ray
def test_actors_of_ray_embed_with_one_download_into_a_bucket(
    run, host: Host, text_embedding: Path, bucket
) -> None:
    environment, seen_by_tensorflow = bucket
    handle = host.publish("/acme/text-embedding/1", models.pack(text_embedding))
    with tempfile.TemporaryDirectory() as folder:  # a short path, for Unix sockets
        here = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        check(run("ray_embeddings.py", handle, **here, **environment))
    assert len(host.requests) == 1
    assert loads(seen_by_tensorflow, handle) >= 2


@spark
@java
def test_workers_of_spark_embed_with_one_download_into_a_folder(
    run, host: Host, text_embedding: Path, cache_dir: Path
) -> None:
    handle = host.publish("/acme/text-embedding/1", models.pack(text_embedding))
    rows = run(
        "spark_embeddings.py",
        handle,
        PYSPARK_PYTHON=sys.executable,
        SPARK_LOCAL_IP="127.0.0.1",
        PYSPARK_SUBMIT_ARGS=(
            "--master local[2] "
            # Each task runs in a process of its own, even where one ends before the next begins.
            "--conf spark.python.worker.reuse=false --conf spark.ui.enabled=false "
            "--driver-java-options=-XX:TieredStopAtLevel=1 "  # it starts faster
            "pyspark-shell"
        ),
    )
    assert len(check(rows)) == 2
    assert len(host.requests) == 1
