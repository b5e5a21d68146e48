r"""Embeds a column of sentences with Apache Beam, on several workers that share one cache.

Beam's own TensorflowHubTextEmbeddings says `import tensorflow_hub`, in each of its workers. So this
library has to stand in for it in their whole environment:

    pip install tfhub-cache apache-beam tensorflow
    pip install --no-deps tensorflow-text  # of the same version as TensorFlow
    tfhub-cache stand-in enable

    export TFHUB_CACHE_DIR=gs://my-bucket/tfhub-modules-cache
    python examples/beam_embeddings.py https://tfhub.dev/google/nnlm-en-dim128/2 embeddings.txt \
        --direct_num_workers=2 --direct_running_mode=multi_processing

The cache need not be filled beforehand: one worker downloads the model, and the others wait for it.
"""

import argparse
import json
import os
import tempfile

import apache_beam as beam
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.ml.transforms.embeddings.tensorflow_hub import TensorflowHubTextEmbeddings
from apache_beam.options.pipeline_options import PipelineOptions

SENTENCES = ["the cat sat on a mat", "a cat", "on the mat", "a mat"] * 4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("handle", help="the model")
    parser.add_argument("output", help="a file: a line of JSON for each sentence")
    parser.add_argument("--preprocessing", help="the model that makes its input of sentences")
    parser.add_argument(
        "--large-model", action="store_true", help="one for all the processes of a machine"
    )
    arguments, more = parser.parse_known_args()

    embeddings = TensorflowHubTextEmbeddings(
        columns=["embedding"],
        hub_url=arguments.handle,
        preprocessing_url=arguments.preprocessing,
        large_model=arguments.large_model,
    )
    with (
        # On a cluster it is a folder that all workers reach, such as gs://my-bucket/artifacts.
        tempfile.TemporaryDirectory() as artifacts,
        beam.Pipeline(options=PipelineOptions(more)) as pipeline,
    ):
        (
            pipeline
            | beam.Create([{"sentence": each, "embedding": each} for each in SENTENCES])
            | beam.Reshuffle()  # among the workers
            | MLTransform(write_artifact_location=artifacts).with_transform(embeddings)
            | beam.Map(
                lambda row: json.dumps(
                    {
                        "sentence": row["sentence"],
                        "embedding": [float(number) for number in row["embedding"]],
                        "process": os.getpid(),
                    }
                )
            )
            | beam.io.WriteToText(arguments.output, shard_name_template="")
        )


if __name__ == "__main__":
    main()
