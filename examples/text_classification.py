"""Trains a text classifier on top of a text embedding, and the embedding with it.

It follows TensorFlow's tutorial "Text classification with TensorFlow Hub: movie reviews", whose
model is used as it was published. Two things differ: the line that imports hub, and the handle.
Here it is a small embedding that is made first, with the interface of
https://tfhub.dev/google/nnlm-en-dim50/2, and so are the reviews. Run it with
`python examples/text_classification.py`.
"""

import os
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported: it is talkative

import numpy as np
import tensorflow as tf

import tfhub_cache as hub

GOOD = ["great", "lovely", "funny", "moving", "clever"]
BAD = ["dull", "awful", "boring", "clumsy", "slow"]
OTHER = ["a", "the", "film", "plot", "cast", "with", "and", "was", "it"]
DIMENSIONS = 50


def make_embedding(folder: Path) -> str:
    """Saves a model that takes sentences and averages the vectors of their words."""
    words = GOOD + BAD + OTHER
    vocabulary_file = folder / "vocabulary.txt"
    vocabulary_file.write_text("\n".join(words))
    entries = tf.lookup.TextFileInitializer(
        str(vocabulary_file),
        key_dtype=tf.string,
        key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
        value_dtype=tf.int64,
        value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
    )

    # What makes a SavedModel a model to build on: it can be called, and says what can be trained.
    model = tf.train.Checkpoint()
    model.vocabulary = tf.lookup.StaticVocabularyTable(entries, num_oov_buckets=1)
    numbers = tf.random.stateless_normal([len(words) + 1, DIMENSIONS], seed=[1, 2])
    model.embedding = tf.Variable(0.1 * numbers, name="embedding")
    model.variables = model.trainable_variables = [model.embedding]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def embed(sentences: tf.Tensor) -> tf.Tensor:
        rows = tf.ragged.map_flat_values(model.vocabulary.lookup, tf.strings.split(sentences))
        return tf.reduce_mean(tf.gather(model.embedding, rows), axis=1)

    model.__call__ = embed
    tf.saved_model.save(model, str(folder / "nnlm"))
    return str(folder / "nnlm")


def make_reviews(count: int, seed: int) -> tf.data.Dataset:
    """Reviews, and whether they are good."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 2, count)
    reviews = [
        " ".join(
            chance.permutation(
                [*chance.choice(GOOD if label else BAD, 2), *chance.choice(OTHER, 5)]
            )
        )
        for label in labels
    ]
    return tf.data.Dataset.from_tensor_slices((reviews, labels))


def main() -> None:
    tf.keras.utils.set_random_seed(1)
    with tempfile.TemporaryDirectory() as temporary:
        embedding = make_embedding(Path(temporary))
        train_data, validation_data, test_data = (
            make_reviews(count, seed) for seed, count in enumerate((600, 200, 200))
        )
        train_examples_batch, _ = next(iter(train_data.batch(10)))

        # From here on, it is the tutorial's.
        hub_layer = hub.KerasLayer(embedding, input_shape=[], dtype=tf.string, trainable=True)
        print(hub_layer(train_examples_batch[:3]).shape)

        model = tf.keras.Sequential()
        model.add(hub_layer)
        model.add(tf.keras.layers.Dense(16, activation="relu"))
        model.add(tf.keras.layers.Dense(1))

        model.summary()

        model.compile(
            optimizer="adam",
            loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )

        model.fit(
            train_data.shuffle(10000).batch(32),
            epochs=10,
            validation_data=validation_data.batch(512),
            verbose=2,
        )

        results = model.evaluate(test_data.batch(512), verbose=0)
        print(f"test: loss {results[0]:.3f}, accuracy {results[1]:.3f}")


if __name__ == "__main__":
    main()
