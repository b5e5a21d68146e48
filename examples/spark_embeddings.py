"""Embeds a column of sentences with Spark, in Python workers that share one cache.

    export TFHUB_CACHE_DIR=gs://my-bucket/tfhub-modules-cache
    python examples/spark_embeddings.py https://tfhub.dev/google/nnlm-en-dim128/2

The cache need not be filled beforehand: one worker downloads the model, and the others wait for it.
It runs on this machine, or on a cluster with `spark-submit --master ...`, where the executors need
tfhub_cache and TensorFlow (in their image, or by `--archives` of a packed environment).
"""

import json
import os
import sys
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, FloatType, LongType, StringType, StructField, StructType

SENTENCES = ["the cat sat on a mat", "a cat", "on the mat", "a mat"] * 4
PARTITIONS = 2
SCHEMA = StructType(
    [
        StructField("sentence", StringType()),
        StructField("embedding", ArrayType(FloatType())),
        StructField("process", LongType()),
    ]
)


def main(handle: str) -> None:
    builder = SparkSession.builder  # without a master, which would come before spark-submit's
    # The executors get the settings of this program, wherever they are.
    for name, value in os.environ.items():
        if name.startswith("TFHUB_"):
            builder = builder.config(f"spark.executorEnv.{name}", value)
    spark = builder.getOrCreate()

    def embed(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Loads the model once for all batches of a partition."""
        import tensorflow as tf

        import tfhub_cache as hub

        model = hub.load(handle)
        for batch in batches:
            vectors = model(tf.constant(batch["sentence"].tolist())).numpy()
            yield batch.assign(embedding=list(vectors), process=os.getpid())

    rows = spark.createDataFrame([(each,) for each in SENTENCES], ["sentence"])
    for row in rows.repartition(PARTITIONS).mapInPandas(embed, SCHEMA).collect():
        print(json.dumps(row.asDict()), flush=True)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
