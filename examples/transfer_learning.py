"""Teaches an image model, which stays as it is, classes of one's own; then saves and reloads it.

It follows TensorFlow's tutorial "Transfer learning with TensorFlow Hub", whose models are used as
they were published. Three things differ: the line that imports hub; the handles, which here are
small models that are made first, with the interface of
https://tfhub.dev/google/tf2-preview/mobilenet_v2/feature_vector/4 and its classifier; and the name
of the saved model, which for Keras 3 has to end in `.keras`. Run it with
`python examples/transfer_learning.py`.
"""

import os
import tempfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported: it is talkative

import numpy as np
import tensorflow as tf

import tfhub_cache as hub

FLOWERS = {"roses": (200, 30, 60), "sunflowers": (230, 200, 30), "violets": (120, 60, 200)}
IMAGE_SHAPE = (224, 224)


def make_model(folder: Path, outputs: int) -> str:
    """Saves a small convolutional net, which takes images with values from 0 to 1."""
    model = tf.train.Checkpoint()
    model.kernel = tf.Variable(tf.random.stateless_normal([8, 8, 3, 32], seed=[1, 2]) / 8)
    model.dense = tf.Variable(tf.random.stateless_normal([32, outputs], seed=[3, 4]))
    model.mean = tf.Variable(tf.zeros([32]), trainable=False)
    model.trainable_variables = [model.kernel, model.dense]
    model.variables = [model.kernel, model.dense, model.mean]

    @tf.function(autograph=False)
    def net(images: tf.Tensor, training: bool = False) -> tf.Tensor:
        patches = tf.nn.conv2d(images, model.kernel, strides=8, padding="VALID")
        if training:  # as batch normalisation: it watches the data, and uses what it has seen later
            model.mean.assign(0.9 * model.mean + 0.1 * tf.reduce_mean(patches, axis=[0, 1, 2]))
        features = tf.reduce_mean(tf.nn.relu(patches - model.mean), axis=[1, 2])
        return tf.tanh(features @ model.dense)

    for training in (True, False):
        net.get_concrete_function(tf.TensorSpec([None, *IMAGE_SHAPE, 3]), training=training)
    model.__call__ = net
    tf.saved_model.save(model, str(folder))
    return str(folder)


def make_photos(folder: Path, count: int) -> Path:
    """Writes noisy pictures in the colours of flowers, in a folder for each class."""
    chance = np.random.default_rng(0)
    for name, colour in FLOWERS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            noise = chance.normal(0, 30, (*IMAGE_SHAPE, 3))
            photo = tf.cast(np.clip(noise + colour, 0, 255), tf.uint8)
            tf.io.write_file(str(folder / name / f"{number}.png"), tf.io.encode_png(photo))
    return folder


def main() -> None:
    tf.keras.utils.set_random_seed(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        classifier_model = make_model(folder / "classification", 1001)
        feature_extractor_model = make_model(folder / "feature_vector", 64)
        data_root = make_photos(folder / "flower_photos", 16)

        # From here on, it is the tutorial's.
        classifier = tf.keras.Sequential(
            [hub.KerasLayer(classifier_model, input_shape=(*IMAGE_SHAPE, 3))]
        )

        train_ds, val_ds = tf.keras.utils.image_dataset_from_directory(
            str(data_root),
            validation_split=0.25,
            subset="both",
            seed=123,
            image_size=IMAGE_SHAPE,
            batch_size=4,
        )
        class_names = np.array(train_ds.class_names)

        normalization_layer = tf.keras.layers.Rescaling(1.0 / 255)
        train_ds = train_ds.map(lambda x, y: (normalization_layer(x), y))
        val_ds = val_ds.map(lambda x, y: (normalization_layer(x), y))
        # Before the cache: of a cache, TensorFlow discards what an iterator leaves half read.
        image_batch, labels_batch = next(iter(train_ds))
        train_ds = train_ds.cache().prefetch(buffer_size=tf.data.AUTOTUNE)
        val_ds = val_ds.cache().prefetch(buffer_size=tf.data.AUTOTUNE)

        print(f"classifier: {classifier.predict(image_batch, verbose=0).shape}")

        feature_extractor_layer = hub.KerasLayer(
            feature_extractor_model, input_shape=(224, 224, 3), trainable=False
        )
        print(f"features: {feature_extractor_layer(image_batch).shape}")

        num_classes = len(class_names)
        model = tf.keras.Sequential([feature_extractor_layer, tf.keras.layers.Dense(num_classes)])
        model.summary()

        model.compile(
            optimizer=tf.keras.optimizers.Adam(),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["acc"],
        )
        model.fit(train_ds, validation_data=val_ds, epochs=10, verbose=2)

        predicted_id = tf.math.argmax(model.predict(image_batch, verbose=0), axis=-1)
        print(f"the first is of {class_names[predicted_id[0]]}: {class_names[labels_batch[0]]}")
        print(f"validation: accuracy {model.evaluate(val_ds, verbose=0)[1]:.3f}")

        export_path = folder / "flowers.keras"
        model.save(export_path)
        reloaded = tf.keras.models.load_model(export_path)
        result_batch = model.predict(image_batch, verbose=0)
        reloaded_result_batch = reloaded.predict(image_batch, verbose=0)
        difference = abs(reloaded_result_batch - result_batch).max()
        print(f"reloaded: differs by {difference}")


if __name__ == "__main__":
    main()
