"""SavedModels that a layer can train, and others for what a layer can be asked to do.

Each follows the interface of reusable SavedModels, as TensorFlow Hub's models do. TensorFlow is
imported by the functions that need it.
"""

from __future__ import annotations

import math
from pathlib import Path

import models

CLASSES = 3
IMAGE = (8, 8, 3)


def sentences(folder: Path) -> Path:
    """A text embedding with a vocabulary table, to be trained: `models.embedding` at first."""
    import tensorflow as tf

    vocabulary = models.write_vocabulary(folder)
    root = tf.train.Checkpoint()  # a Module's list of variables would not be saved
    root.table = models.lookup_table(tf, str(vocabulary))
    root.embedding = tf.Variable(models.vectors(), dtype=tf.float32, name="embedding/table")
    root.variables = root.trainable_variables = [root.embedding]
    root.regularization_losses = []

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="sentences")])
    def embed(sentences):
        return models.embed(tf, root.table, root.embedding, sentences)

    root.__call__ = embed
    tf.saved_model.save(root, str(folder), signatures=embed)
    return models.without_vocabulary(folder)


def images(folder: Path) -> Path:
    """A convolutional net of tf_keras: batch normalisation, L2 losses, takes `training`."""
    import tf_keras as keras

    keras.utils.set_random_seed(1)
    l2 = keras.regularizers.l2(0.01)
    net = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, kernel_regularizer=l2, input_shape=IMAGE, name="conv"),
            keras.layers.BatchNormalization(momentum=0.5, name="normalisation"),
            keras.layers.ReLU(),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(6, kernel_regularizer=l2, name="features"),
        ]
    )
    net.save(str(folder), save_format="tf")
    return folder


def tf_keras_export(folder: Path) -> Path:
    """What `model.export` of tf_keras writes: an endpoint `serve`, which doubles and adds one."""
    import tf_keras as keras

    model = keras.Sequential(
        [
            keras.layers.Dense(
                3,
                kernel_initializer=keras.initializers.Identity(2.0),
                bias_initializer="ones",
                input_shape=(3,),
                name="features",
            )
        ]
    )
    model.export(str(folder))
    return folder


def plain_module(folder: Path) -> Path:
    """A `tf.Module` as everybody writes it: callable, and its variables are not listed."""
    import tensorflow as tf

    class Scale(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(3.0, name="factor")

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 3], tf.float32, name="x"),
                tf.TensorSpec([], tf.float32, name="offset"),
            ]
        )
        def __call__(self, x, offset=0.0):
            return self.factor * x + offset

    tf.saved_model.save(Scale(), str(folder))
    return folder


def two_towers(folder: Path) -> Path:
    """Takes a dict of a text and numbers, or a list of them, and answers with a dict of vectors."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    root.weight = tf.Variable([[math.sin(i + j) for j in range(2)] for i in range(3)], name="w")
    root.variables = root.trainable_variables = [root.weight]

    def towers(text, numbers):
        length = tf.strings.length(text)[:, tf.newaxis]
        return {"text": tf.cast(length, tf.float32), "numbers": numbers @ root.weight}

    text, numbers = tf.TensorSpec([None], tf.string), tf.TensorSpec([None, 3], tf.float32)

    @tf.function
    def call(inputs):
        if isinstance(inputs, dict):
            return towers(inputs["text"], inputs["numbers"])
        return towers(*inputs)

    call.get_concrete_function({"text": text, "numbers": numbers})
    call.get_concrete_function([text, numbers])
    root.__call__ = call
    signature = tf.function(towers).get_concrete_function(
        tf.TensorSpec([None], tf.string, name="text"),
        tf.TensorSpec([None, 3], tf.float32, name="numbers"),
    )
    tf.saved_model.save(root, str(folder), signatures={"towers": signature})
    return folder


def ragged(folder: Path) -> Path:
    """Takes ragged words, and answers with their ragged lengths."""
    import tensorflow as tf

    root = tf.train.Checkpoint()

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.string)])
    def lengths(words):
        return tf.cast(tf.strings.length(words), tf.float32)

    root.__call__ = lengths
    tf.saved_model.save(root, str(folder))
    return folder


def of_unknown_shape(folder: Path) -> Path:
    """Doubles three numbers, but TensorFlow can't tell the shape of what comes out."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    root.target = tf.Variable([-1, 3], shape=[None], trainable=False, name="target")
    root.variables = [root.target]

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)])
    def call(x):
        return tf.reshape(2 * x, root.target)

    root.__call__ = call
    tf.saved_model.save(root, str(folder))
    return folder


def token_ids(folder: Path) -> Path:
    """Takes three batches of integers, as BERT does, and takes `training`."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    root.table = tf.Variable(tf.reshape(tf.range(40.0), [10, 4]), name="table")
    root.variables = root.trainable_variables = [root.table]
    batch = {
        name: tf.TensorSpec([None, None], tf.int32, name=name)
        for name in ("input_word_ids", "input_mask", "input_type_ids")
    }

    @tf.function
    def call(inputs, training=False):
        vectors = tf.gather(root.table, inputs["input_word_ids"] + inputs["input_type_ids"])
        shown = tf.cast(inputs["input_mask"], tf.float32)[..., tf.newaxis]
        return {"pooled": tf.reduce_mean(vectors * shown, axis=1)}

    for training in (False, True):
        call.get_concrete_function(batch, training=training)
    root.__call__ = call
    tf.saved_model.save(root, str(folder))
    return folder


def half_plus_one(folder: Path) -> Path:
    """Computes x / 2 + 1, lists only the half as trainable, and has an L2 loss."""
    import tensorflow as tf

    root = tf.train.Checkpoint()
    root.kernel, root.bias = tf.Variable([[0.5]], name="kernel"), tf.Variable([1.0], name="bias")
    root.variables, root.trainable_variables = [root.kernel, root.bias], [root.kernel]
    root.regularization_losses = [tf.function(lambda: 0.01 * tf.reduce_sum(root.kernel**2), [])]
    root.__call__ = tf.function(
        lambda x: x @ root.kernel + root.bias, [tf.TensorSpec([None, 1], tf.float32)]
    )
    tf.saved_model.save(root, str(folder))
    return folder
