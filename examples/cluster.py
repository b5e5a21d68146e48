"""Trains on several workers that share one cache in a bucket.

The model turns sentences into vectors, and a layer behind it learns which ones are about a cat. Run
the same program on each worker, with the same TFHUB_CACHE_DIR, and with TF_CONFIG saying who else
takes part and which of them this one is:

    export TFHUB_CACHE_DIR=gs://my-bucket/tfhub-modules-cache
    export TF_CONFIG='{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]},
                       "task": {"type": "worker", "index": 0}}'
    python examples/cluster.py https://tfhub.dev/google/nnlm-en-dim128/2

The cache need not be filled beforehand: one worker downloads the model, and the others wait for it.
"""

import sys

import tensorflow as tf

import tfhub_cache as hub

EXAMPLES = [
    ("the cat sat on a mat", 1.0),
    ("a cat", 1.0),
    ("on the mat", 0.0),
    ("a mat", 0.0),
    ("the cat sat", 1.0),
    ("the cat on the mat", 1.0),
    ("the mat", 0.0),
    ("on a mat on a mat", 0.0),
]
STEPS = 20
LEARNING_RATE = 1.0


def examples_of(worker: tf.distribute.InputContext) -> tf.data.Dataset:
    """One worker's share of the examples, as batches."""
    sentences, labels = zip(*EXAMPLES, strict=True)
    return (
        tf.data.Dataset.from_tensor_slices((list(sentences), list(labels)))
        .shard(worker.num_input_pipelines, worker.input_pipeline_id)
        .repeat()
        .batch(worker.get_per_replica_batch_size(len(EXAMPLES)))
    )


def main(handle: str) -> None:
    # First of all: TensorFlow wants to know its cluster before it does anything else.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id or 0

    print(f"worker {worker}: {hub.resolve(handle)}", flush=True)
    embed = hub.load(handle)  # not trained, so each worker has it for itself
    size = embed(tf.constant(["how long is a vector?"])).shape[-1]

    with strategy.scope():
        # What the workers want to change is averaged, so they all keep the same numbers.
        mean = tf.VariableAggregation.MEAN
        weights = tf.Variable(tf.zeros([size, 1]), aggregation=mean)
        bias = tf.Variable(0.0, aggregation=mean)

    def learn(sentences: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            answers = tf.squeeze(embed(sentences) @ weights, axis=1) + bias
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=answers)
            )
        for variable, gradient in zip(
            (weights, bias), tape.gradient(loss, (weights, bias)), strict=True
        ):
            variable.assign_sub(LEARNING_RATE * gradient)
        return loss

    @tf.function
    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        losses = strategy.run(learn, args=batch)
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    batches = iter(strategy.distribute_datasets_from_function(examples_of))
    for number in range(1, STEPS + 1):
        loss = step(next(batches))
        if number == 1 or number % 5 == 0:
            print(f"worker {worker}: step {number}, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
