"""A program that loads what others have saved: `python loading.py TASK FOLDER [TASK FOLDER...]`.

It writes what each task sees as JSON to the last line of stdout. The first task imports in the
order that it is about, so nothing is imported up here.
"""

import json
import sys
import tempfile
from pathlib import Path

TEXTS = ["the cat sat", "a mat", "cat", "on the mat", "the cat on a mat", "mat", "sat a cat", ""]


def answers(model):
    import tensorflow as tf

    return model(tf.constant(TEXTS)).numpy().tolist()


def load(tf, path, **options):
    """What loading gives, or the error."""
    try:
        return answers(tf.keras.models.load_model(path, **options))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def tfhub_cache_first(folder):
    import tfhub_cache  # noqa: F401, I001 - the order matters
    import tensorflow as tf

    return {
        "no module of the layer": "tfhub_cache.keras_layer" not in sys.modules,
        "by default": load(tf, folder / "model.keras"),
        "not safe": load(tf, folder / "model.keras", safe_mode=False),
        # Now this program has made a layer of the handle itself.
        "by default, then": load(tf, folder / "model.keras"),
        "h5": load(tf, folder / "model.h5", safe_mode=False),
    }


def tensorflow_first(folder):
    import tensorflow as tf

    import tfhub_cache  # noqa: F401 - the order matters

    return {
        "no module of the layer": "tfhub_cache.keras_layer" not in sys.modules,
        "by default": load(tf, folder / "model.h5"),
    }


def keras_2(folder):
    """The formats of Keras 2, in a program that names nothing of this library."""
    import tfhub_cache  # noqa: F401, I001 - the order matters
    import tensorflow as tf

    return {
        name: load(tf, folder / name) for name in ("model.keras", "model.h5", "keras2_saved_model")
    }


def saved_by_tensorflow_hub(folder):
    """As programs for tensorflow_hub load: with the class by its name."""
    import tensorflow as tf

    import tfhub_cache as hub

    options = {"custom_objects": {"KerasLayer": hub.KerasLayer}}
    if hasattr(tf.keras, "Operation"):
        # Keras 3 does not know the loss of Keras 2; the layers it knows.
        return {
            "model.h5": load(tf, folder / "model.h5", safe_mode=False, compile=False, **options)
        }
    seen = {name: load(tf, folder / name, **options) for name in ("model.keras", "model.h5")}
    model = tf.keras.models.load_model(folder / "model.h5", **options)
    for weight in model.weights:
        weight.assign(tf.zeros_like(weight))
    tf.train.Checkpoint(model=model).read(str(folder / "checkpoint"))
    return seen | {"checkpoint": answers(model)}


def made_from_a_url(folder):
    import tensorflow as tf

    import tfhub_cache as hub

    url = (folder / "url").read_text()
    model = tf.keras.Sequential([hub.KerasLayer(url, input_shape=[], dtype=tf.string)])
    before = answers(model)
    model.layers[0].weights[0].assign_add(tf.ones([9, 4]))
    model.save(folder / "model.keras")
    return [before, answers(model)]


def loaded_from_the_cache(folder):
    import tensorflow as tf

    import tfhub_cache  # noqa: F401

    tf.keras.config.enable_unsafe_deserialization()
    return load(tf, folder / "model.keras")


def another_backend(folder):
    import keras

    import tfhub_cache as hub

    try:
        hub.KerasLayer(str(folder / "sentences"))
    except NotImplementedError as error:
        return [keras.backend.backend(), str(error)]


def tf_keras_beside_keras_3(folder):
    """A program that takes its Keras from tf_keras, where tf.keras is Keras 3."""
    import tensorflow as tf
    import tf_keras

    import tfhub_cache as hub
    from tfhub_cache.keras_layer.keras2 import KerasLayer

    handle = str(folder / "sentences")
    layer = KerasLayer(handle, input_shape=[], dtype=tf.string, trainable=True)
    model = tf_keras.Sequential([layer, tf_keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile("sgd", "mse")
    before = answers(model)
    model.fit(tf.constant(TEXTS), tf.ones([len(TEXTS), 1]), verbose=0)
    return [issubclass(hub.KerasLayer, tf_keras.layers.Layer), answers(model) != before]


def trained_export(folder):
    """What Keras 3 exported, in the wrapper of the documentation: trained, and exported again."""
    import tensorflow as tf

    import tfhub_cache as hub

    class Served(tf.Module):
        def __init__(self, path):
            super().__init__()
            self.model = hub.load(path)

        @property
        def variables(self):
            return self.model.variables

        @property
        def trainable_variables(self):
            return self.model.trainable_variables

        def __call__(self, inputs):
            return self.model.serve(inputs)

    inputs = tf.keras.Input((), dtype=tf.string)
    layer = hub.KerasLayer(Served(str(folder / "export")), trainable=True)
    model = tf.keras.Model(inputs, layer(inputs))
    before = answers(model)
    model.compile("sgd", "mse")
    model.fit(tf.constant(TEXTS), tf.ones([len(TEXTS), 1]), verbose=0)
    with tempfile.TemporaryDirectory() as exported:
        model.export(exported, verbose=False)
        served = tf.saved_model.load(exported)
        return {"before": before, "after": answers(model), "served": answers(served.serve)}


tasks, folders = sys.argv[1::2], sys.argv[2::2]
seen = [globals()[task](Path(folder)) for task, folder in zip(tasks, folders, strict=True)]
print(json.dumps(seen))
