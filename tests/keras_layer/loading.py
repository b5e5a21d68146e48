"""A program that loads what others have saved: `python loading.py TASK FOLDER [TASK FOLDER...]`.

It writes what each task sees as JSON to the last line of stdout. The first task imports in the
order that it is about, so nothing is imported up here.
"""

import json
import os
import shutil
import sys
import tempfile
import zipfile
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
    names = ("model.keras", "model.h5", "keras2_saved_model")
    seen = {name: load(tf, folder / name, **options) for name in names}
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
        keras.Sequential([hub.KerasLayer(str(folder / "sentences"))])
    except NotImplementedError as error:
        return [keras.backend.backend(), str(error)]


def which_keras(folder):
    """Layers that are given to either Keras, in a module that names neither but as here."""
    import tensorflow as tf

    import tfhub_cache as hub

    def layer(**options):
        return hub.KerasLayer(str(folder / "images"), trainable=True, **options)

    def of_tf(layer):
        return isinstance(layer, tf.keras.layers.Layer)

    def of_tf_keras(layer):
        import tf_keras

        return isinstance(layer, tf_keras.layers.Layer)

    def config(layer):
        return layer.get_config()["trainable"]

    images, new = tf.ones([1, 8, 8, 3]), layer()
    seen = {"new": [of_tf(new), isinstance(new, str), isinstance(new, hub.KerasLayer)]}
    seen["its config"] = [config(new), of_tf(new)]
    seen["only Keras 3 is imported"] = "tf_keras" not in sys.modules

    import keras
    import tf_keras

    first, second, third = layer(), layer(), layer()
    models = keras.Sequential([first]), tf_keras.Sequential([second])
    seen["both"] = [[model(images).shape[-1], len(model.trainable_weights)] for model in models]
    seen["of tf_keras"] = [of_tf_keras(one) for one in (first, second, third)]

    class Holder(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.layers_by_name = {"first": [layer()]}

        def call(self, images):
            return self.layers_by_name["first"][0](images) + third(images)

    holder = Holder()
    holder(images, training=True)
    seen["inside"] = [len(holder.trainable_weights), of_tf_keras(third)]

    module = tf.Module()
    module.layer = layer()
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved)
    variables = len(module.trainable_variables)
    keras.Sequential([module.layer])
    seen["a module beside both"] = [variables, len(module.trainable_variables)]

    errors = []
    for use in (
        lambda one: tf_keras.Sequential([one]),
        lambda one: one(tf_keras.Input((8, 8, 3))),
    ):
        wrong = layer()
        config(wrong)
        try:
            use(wrong)
        except TypeError as error:
            errors.append(str(error))
    for first, second in (keras, tf_keras), (tf_keras, keras):
        wrong = layer()
        first.Sequential([wrong])
        for use in second.Sequential([]).add, lambda one: one(second.Input((8, 8, 3))):  # noqa: B023
            try:
                use(wrong)
            except TypeError as error:
                errors.append(str(error))
    return seen | {"errors": errors}


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


def dtypes_of_inputs(folder):
    """What a program sees of Keras 3, which makes float32 of inputs where no dtype is given."""
    import tensorflow as tf

    import tfhub_cache as hub

    class Classifier(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = hub.KerasLayer(str(folder / "token_ids"), output_key="pooled")

        def call(self, inputs):
            return self.encoder(inputs)

    names = ("input_word_ids", "input_mask", "input_type_ids")
    inputs = {name: tf.ones([2, 3], tf.int32) for name in names}
    model = Classifier()
    seen = {"answers": model(inputs).numpy().tolist()}
    specs = {name: tf.TensorSpec([None, None], tf.int32, name) for name in names}
    with tempfile.TemporaryDirectory() as exported:
        model.export(exported, verbose=False)
        tf.saved_model.save(model, exported)
        model.export(exported, verbose=False, input_signature=[specs])
        served = tf.saved_model.load(exported)
        seen["served"] = served.serve(inputs).numpy().tolist()
        try:
            hub.KerasLayer(served)
        except ValueError as error:
            seen["of an export"] = str(error)
        seen["of its function"] = hub.KerasLayer(served.serve)(inputs).numpy().tolist()
    for name, inputs in {
        "sentences": tf.keras.Input(()),
        "token_ids": {name: tf.keras.Input((3,)) for name in names},
        "images": tf.keras.Input((8, 8, 3), dtype="int32"),
    }.items():
        try:
            hub.KerasLayer(str(folder / name), name=f"of_{name}")(inputs)
        except TypeError as error:
            seen[name] = str(error)
    return seen


def trusting(folder):
    """What a program may load that names the class, but did not write the file."""
    import h5py
    import tensorflow as tf

    import tfhub_cache as hub

    def refusal_of(config, layer=hub.KerasLayer):
        try:
            layer.from_config(config)
        except ValueError as error:
            return str(error)

    root = Path(tempfile.mkdtemp())
    original = json.loads((folder / "handle.json").read_text())
    by_name = {"custom_objects": {"KerasLayer": hub.KerasLayer}}

    def saved(handle, name="model.keras"):
        """The saved model of another program, with this handle in it."""
        path = shutil.copy(folder / name, root / f"{len(list(root.iterdir()))}-{name}")
        if name.endswith(".h5"):
            with h5py.File(path, "r+") as file:
                file.attrs["model_config"] = file.attrs["model_config"].replace(original, handle)
            return path
        with zipfile.ZipFile(folder / name) as before, zipfile.ZipFile(path, "w") as after:
            for member in before.namelist():
                content = before.read(member)
                if member == "config.json":
                    content = content.replace(original.encode(), handle.encode())
                after.writestr(member, content)
        return path

    def model(*names):
        return shutil.copytree(original, root.joinpath(*names))

    beside, beside_h5, inside, locked = map(
        str, (model("beside"), model("beside_h5"), model("some", "inside"), model("some", "locked"))
    )
    out = f"{root}/some/../far/{model('far', 'away').name}"
    seen = {
        "beside": load(tf, saved(beside), **by_name),
        "beside, h5": load(tf, saved(beside_h5, "model.h5"), compile=False, **by_name),
        "elsewhere": load(tf, saved(inside), **by_name),
    }
    hub.keras_layer.trust(f"{root}/some/*")
    seen["a pattern"] = load(tf, saved(inside), **by_name)
    seen["out of the pattern"] = load(tf, saved(out), **by_name)
    (root / "models.lock").write_text(
        json.dumps({"format": 2, "models": {locked: {"size": 1, "sha256": "0" * 64}}})
    )
    os.environ["TFHUB_LOCKFILE"] = str(root / "models.lock")
    seen["a lock file"] = load(tf, saved(locked), **by_name)
    del os.environ["TFHUB_LOCKFILE"]
    os.environ |= {"TFHUB_OFFLINE": "yes", "TFHUB_TRUSTED_HANDLES": "https://tfhub.dev/google/*"}
    for path in (
        *("google/x/1", "google/../x/1", "google/%2e%2E/x/1", "google/%252e%252e/x/1"),
        *("google/..?x", "google/..#x", "google/..;/x/1", "else/x/1", "else/a,b/1"),
    ):
        try:
            hub.KerasLayer.from_config({"handle": f"https://tfhub.dev/{path}"})
        except Exception as error:
            seen[path] = type(error).__name__
    hub.keras_layer.trust("https://tfhub.dev/else/a,b/1")
    try:
        hub.KerasLayer.from_config({"handle": "https://tfhub.dev/else/a,b/1"})
    except OSError as error:
        seen["with a comma, trusted"] = type(error).__name__
    seen["signed"] = refusal_of({"handle": "https://tfhub.dev/x/1?token=secret"})
    shutil.rmtree(root)

    class Fixed(hub.KerasLayer):
        """Has no handle in its config."""

        def __init__(self, **options):
            super().__init__(original, **options)

        def get_config(self):
            return {key: value for key, value in super().get_config().items() if key != "handle"}

    seen["no handle"] = refusal_of({}, Fixed)
    seen["no handle, not safe"] = Fixed.from_config({}, safe_mode=False).resolved_object is not None
    return seen


tasks, folders = sys.argv[1::2], sys.argv[2::2]
seen = [globals()[task](Path(folder)) for task, folder in zip(tasks, folders, strict=True)]
print(json.dumps(seen))
