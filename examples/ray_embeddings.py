"""Embeds a column of sentences with Ray Data, in two actors that share one cache.

    export TFHUB_CACHE_DIR=gs://my-bucket/tfhub-modules-cache
    python examples/ray_embeddings.py https://tfhub.dev/google/nnlm-en-dim128/2

The cache need not be filled beforehand: one actor downloads the model, and the others wait for it.
On a cluster, the nodes need tfhub_cache and TensorFlow (in their image, or by `pip` of the runtime
environment), and RAY_ADDRESS leads there.
"""

import json
import os
import sys

import numpy as np
import ray

SENTENCES = ["the cat sat on a mat", "a cat", "on the mat", "a mat"] * 4
ACTORS = 2


class Embed:
    """An actor, which has the model in memory."""

    def __init__(self, handle: str) -> None:
        import tfhub_cache as hub

        self.model = hub.load(handle)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        import tensorflow as tf

        sentences = tf.constant(batch["sentence"].tolist())
        processes = np.full(len(batch["sentence"]), os.getpid())
        return {**batch, "embedding": self.model(sentences).numpy(), "process": processes}


def main(handle: str) -> None:
    # The workers get the settings of this program, wherever they are.
    settings = {name: value for name, value in os.environ.items() if name.startswith("TFHUB_")}
    ray.init(runtime_env={"env_vars": settings})
    ray.data.DataContext.get_current().wait_for_min_actors_s = 600  # so that all take part
    rows = ray.data.from_items([{"sentence": each} for each in SENTENCES], override_num_blocks=8)
    embedded = rows.map_batches(
        Embed,
        fn_constructor_args=[handle],
        compute=ray.data.ActorPoolStrategy(size=ACTORS),
        num_cpus=0.5,
        batch_size=2,
    )
    for row in embedded.take_all():
        print(json.dumps({**row, "embedding": row["embedding"].tolist()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
