"""A program that uses `hub.KerasLayer`: `python program.py LIBRARY FOLDER WORK KERAS`.

Between tensorflow_hub and this library nothing differs but the import, and between the two Kerases
nothing but the name. FOLDER holds the models, and WORK is for what is saved. It runs the cases
below, of `without_keras` and of `subclasses`, and writes to WORK/seen.json, by the names of the
cases, what a user would have seen: a value, or an error.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import subclasses
import tensorflow as tf
import without_keras

library, folder, work = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
hub = importlib.import_module(library)
keras = tf.keras if sys.argv[4] == "tensorflow.keras" else importlib.import_module(sys.argv[4])
KERAS_3 = hasattr(keras, "Operation")
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

CASES: dict[str, Callable[[], Any]] = {}
TEXTS = ["the cat sat", "a mat", "cat", "on the mat", "the cat on a mat", "mat", "sat a cat", ""]
CATS = np.array([[float("cat" in text)] for text in TEXTS], "float32")


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    CASES[function.__name__] = function
    return function


def layer(model: str, **options: Any) -> Any:
    return hub.KerasLayer(str(folder / model), **options)


# Small parts of programs.


def set_weights(layer: Any, seed: int) -> None:
    """The same numbers for each Keras, whose initializers differ."""
    numbers = np.random.default_rng(seed)
    layer.set_weights([numbers.normal(size=w.shape) * 0.5 for w in layer.get_weights()])


def lists(value: Any) -> Any:
    """Tensors become lists, in dicts and lists."""
    if isinstance(value, dict):
        return {key: lists(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [lists(item) for item in value]
    if isinstance(value, tf.RaggedTensor):
        return value.to_list()
    return np.asarray(value).tolist()


def shape(value: Any) -> list[int | None]:
    return list(tf.TensorShape(value).as_list())


def weights(layer: Any) -> Any:
    """What a layer says about its weights."""
    return {
        kind: [[shape(w.shape), lists(w)] for w in getattr(layer, f"{kind}_weights")]
        for kind in ("trainable", "non_trainable")
    }


def images_and_labels(count: int = 12) -> tuple[Any, Any]:
    """Images of three classes: which channel is bright."""
    numbers = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = numbers.normal(size=(count, 8, 8, 3)) * 0.2
    images[np.arange(count), ..., labels] += 1.0
    return images.astype("float32"), labels


def text_data(batch: int = 4) -> Any:
    return tf.data.Dataset.from_tensor_slices((TEXTS, CATS)).batch(batch)


def text_model(**options: Any) -> Any:
    model = keras.Sequential(
        [
            layer("sentences", input_shape=[], dtype=tf.string, **options),
            keras.layers.Dense(5, activation="relu"),
            keras.layers.Dense(1),
        ]
    )
    for number, dense in enumerate(model.layers[1:]):
        set_weights(dense, number)
    return model


def image_model(**options: Any) -> Any:
    inputs = keras.Input((8, 8, 3))
    features = layer("images", **options)(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3)(features))
    set_weights(model.layers[-1], 1)
    return model


def train(model: Any, data: Any, loss: Any, epochs: int, rate: float = 0.1) -> Any:
    """Losses of a training with SGD."""
    model.compile(keras.optimizers.SGD(rate), loss=loss, metrics=["accuracy"])
    return model.fit(data, epochs=epochs, shuffle=False, verbose=0).history


def accuracy_of(model: Any, data: Any, classes: bool, predict: bool = False) -> float:
    """The share of right answers: of the best of several classes, or of the sign."""
    if predict:
        guesses = model.predict(data.map(lambda inputs, _: inputs), verbose=0)
    else:  # the same, and quicker
        guesses = np.concatenate([model(inputs) for inputs, _ in data])
    truth = np.concatenate([labels for _, labels in data])
    return float(((guesses.argmax(1) if classes else guesses > 0) == truth).mean())


def binary() -> Any:
    return keras.losses.BinaryCrossentropy(from_logits=True)


def sparse() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# Training: three steps of SGD, so that all must agree.


def three_steps_with_texts(**options: Any) -> Any:
    model = text_model(**options)
    seen = {"built": model.built, "shapes": [shape(m.output.shape) for m in model.layers]}
    seen["before"] = lists(model(tf.constant(TEXTS)))
    history = train(model, text_data(batch=8), binary(), epochs=3)
    seen |= {"loss": history["loss"], "after": lists(model(tf.constant(TEXTS)))}
    seen["weights"] = [weights(layer) for layer in model.layers]
    return seen


@case
def three_steps_with_a_text_model() -> Any:
    return three_steps_with_texts(trainable=True)


@case
def three_steps_with_a_frozen_text_model() -> Any:
    return three_steps_with_texts()


def three_steps_with_images(**options: Any) -> Any:
    model = image_model(**options)
    images, labels = images_and_labels()
    seen = {"shape": shape(model.layers[1].output.shape)}
    seen["sum of losses"] = float(sum(model.losses, tf.constant(0.0)))
    seen["before"] = lists(model(images))
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(12)
    seen["loss"] = train(model, data, sparse(), epochs=3)["loss"]
    seen["after"] = lists(model(images))
    seen["in training"] = lists(model(images, training=True))
    seen["weights"] = [weights(layer) for layer in model.layers[1:]]
    return seen


@case
def three_steps_with_an_image_model() -> Any:
    return three_steps_with_images(trainable=True)


@case
def three_steps_with_a_frozen_image_model() -> Any:
    return three_steps_with_images()


@case
def thawing_and_freezing() -> Any:
    """Whether it is trained can be changed at any time."""
    hub_layer = layer("images")
    images, _ = images_and_labels()
    seen = []
    for trainable in (False, True, False):
        hub_layer.trainable = trainable
        hub_layer(images, training=True)
        seen.append([len(hub_layer.trainable_weights), len(hub_layer.non_trainable_weights)])
        seen.append(float(sum(hub_layer.losses, tf.constant(0.0))))
        seen.append(lists(hub_layer.weights[-1]))
    return seen


@case
def the_weights_are_those_of_the_model() -> Any:
    """A gradient for the model's variable, and the model sees what is assigned to the weight."""
    hub_layer = layer("sentences", trainable=True)
    inputs = tf.constant(["the cat"])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(hub_layer(inputs) ** 2)
    gradient = tf.convert_to_tensor(tape.gradient(loss, hub_layer.trainable_weights[0]))
    hub_layer.trainable_weights[0].assign(tf.ones([9, 4]))
    return [
        lists(gradient),
        lists(hub_layer(inputs)),
        lists(hub_layer.resolved_object(inputs)),
        lists(hub_layer.resolved_object.trainable_variables[0]),
    ]


@functools.lru_cache
def two_devices() -> Any:
    """One for the process: TensorFlow mixes up the collectives of a second one."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@case
def training_on_two_devices() -> Any:
    strategy = two_devices()
    with strategy.scope():
        model = image_model(trainable=True)
        model.compile(keras.optimizers.SGD(0.1), loss=sparse())
    data = tf.data.Dataset.from_tensor_slices(images_and_labels()).batch(12)
    history = model.fit(data, epochs=3, shuffle=False, verbose=0).history
    weights = [lists(weight) for weight in model.get_weights()]
    return {"devices": strategy.num_replicas_in_sync, "loss": history["loss"], "weights": weights}


@case
def a_training_loop_on_two_devices() -> Any:
    """Of one's own, with strings: Keras 3 can't fit those with a strategy, whatever the layer."""
    strategy = two_devices()
    with strategy.scope():
        model = text_model(trainable=True)
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    @tf.function
    def step(texts: Any, labels: Any) -> Any:
        def on_one_device(texts: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                errors = (model(texts, training=True) - labels) ** 2
                loss = tf.nn.compute_average_loss(errors[:, 0], global_batch_size=len(TEXTS))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            return loss

        losses = strategy.run(on_one_device, (texts, labels))
        return strategy.reduce("SUM", losses, axis=None)

    batches = strategy.experimental_distribute_dataset(text_data(len(TEXTS)).repeat(3))
    losses = [float(step(*batch)) for batch in batches]
    return [losses, [lists(weight) for weight in model.get_weights()]]


@case
def trainings_that_learn() -> Any:
    """Accuracies before and after, and what has moved."""
    seen: dict[str, Any] = {}
    for name, model, data, loss in (
        ("texts", text_model, text_data(), binary()),
        (
            "images",
            image_model,
            tf.data.Dataset.from_tensor_slices(images_and_labels(24)).batch(8),
            sparse(),
        ),
    ):
        for trainable in (False, True):
            made = model(trainable=trainable)
            hub_layer = next(m for m in made.layers if isinstance(m, hub.KerasLayer))
            before = hub_layer.get_weights()
            untrained = accuracy_of(made, data, name == "images")
            losses = train(made, data, loss, epochs=15, rate=0.4)["loss"]
            moved = [
                bool((a != b).any()) for a, b in zip(before, hub_layer.get_weights(), strict=True)
            ]
            seen[f"{name} {trainable}"] = {
                "losses": [losses[0], losses[-1]],
                "before": untrained,
                "accuracy": accuracy_of(made, data, name == "images", predict=trainable),
                "moved": moved,
            }
    return seen


@case
def only_what_is_listed_as_trainable_is_trained() -> Any:
    """A model that is trained eagerly on NumPy's numbers to compute x / 2 + 6 near 10."""
    inputs = keras.Input((1,))
    hub_layer = layer("half_plus_one", trainable=True)
    model = keras.Model(inputs, hub_layer(inputs))
    seen = {"losses": lists(model.losses), "weights": weights(hub_layer)}
    model.compile(keras.optimizers.SGD(0.002), "mean_squared_error", run_eagerly=True)
    x = np.array([[9.0], [10.0], [11.0]] * 10)
    model.fit(x, x / 2 + 6, batch_size=len(x), epochs=10, verbose=0)
    answers = lists(model(np.array([[0.0], [10.0]], "float32")))
    loaded = keras.models.model_from_json(
        model.to_json(), custom_objects={"KerasLayer": hub.KerasLayer}
    )
    return seen | {"answers": answers, "from json": lists(loaded(x[:3].astype("float32")))}


# Mixed precision.


@case
def mixed_precision() -> Any:
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = image_model(trainable=True)
        images, labels = images_and_labels()
        data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(12)
        losses = train(model, data, sparse(), epochs=3)["loss"]
        features = model.layers[1](tf.cast(images, tf.float16))
        return {
            "features": str(features.dtype),
            "weights": sorted(
                {w.dtype if KERAS_3 else w.dtype.name for w in model.layers[1].weights}
            ),
            "next layer": str(model.layers[-1].compute_dtype),
            "learns": losses[-1] < losses[0],
        }
    finally:
        keras.mixed_precision.set_global_policy("float32")


# What goes in and comes out.

NUMBERS = np.arange(6, dtype="float32").reshape(2, 3)


@case
def dicts_and_lists() -> Any:
    texts = tf.constant(["one", "three"])
    hub_layer = layer("two_towers", trainable=True)
    return [
        lists(hub_layer({"text": texts, "numbers": NUMBERS})),
        lists(hub_layer([texts, tf.constant(NUMBERS)])),
        lists(layer("two_towers", output_key="text")([texts, tf.constant(NUMBERS)])),
        lists(
            layer("two_towers", signature="towers", output_key="numbers")(
                {"text": texts, "numbers": tf.constant(NUMBERS)}
            )
        ),
    ]


@case
def a_functional_model_of_dicts() -> Any:
    inputs = {
        "text": keras.Input((), dtype=tf.string, name="text"),
        "numbers": keras.Input((3,), name="numbers"),
    }
    towers = layer("two_towers", trainable=True)(inputs)
    joined = keras.layers.Concatenate()([towers["text"], towers["numbers"]])
    model = keras.Model(inputs, joined)
    data = {"text": tf.constant(["one", "three"]), "numbers": tf.constant(NUMBERS)}
    return [shape(joined.shape), lists(model(data))]


@case
def a_subclassed_model() -> Any:
    class Model(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.embed = layer("sentences", trainable=True)
            self.dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")

        def call(self, texts: Any) -> Any:
            return self.dense(self.embed(texts))

    model = Model()
    losses = train(model, text_data(batch=8), binary(), epochs=3)["loss"]
    return [losses, lists(model(tf.constant(TEXTS))), len(model.trainable_weights)]


@case
def one_layer_called_twice() -> Any:
    """As for two texts that are compared. The losses of a model count once."""
    inputs = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    hub_layer = layer("images", trainable=True)
    model = keras.Model(inputs, keras.layers.Dot(1)([hub_layer(one) for one in inputs]))
    images, _ = images_and_labels()
    return [lists(model([images, images])), float(sum(model.losses, tf.constant(0.0)))]


@case
def strings_of_which_keras_was_not_told() -> Any:
    """No dtype is given, and no shape."""
    seen = []
    for name in ("sentences", "tf1_hub_module"):
        model = keras.Sequential([layer(name), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse")
        model.evaluate(text_data(), verbose=0)
        seen.append(lists(model(tf.constant(TEXTS))))
    return seen


@case
def a_layer_of_keras_as_handle() -> Any:
    """It is trained if the layer around it is."""
    seen = []
    for trainable in (False, True):
        inner = keras.Sequential(
            # So many that a step in which dropout leaves none of them does not happen.
            [keras.Input((3,)), keras.layers.Dense(64), keras.layers.Dropout(0.5)]
        )
        set_weights(inner, 1)
        outer = hub.KerasLayer(inner, trainable=trainable)
        inputs = keras.Input((3,))
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(outer(inputs)))
        before = outer.get_weights()
        seen.append(
            [shape(model.output.shape), lists(model(NUMBERS)), len(model.trainable_weights)]
        )
        train(model, tf.data.Dataset.from_tensors((NUMBERS, NUMBERS[:, :1])), "mse", 1)
        seen.append(
            [bool((a != b).any()) for a, b in zip(before, outer.get_weights(), strict=True)]
        )
    return seen


@case
def python_strings() -> Any:
    hub_layer = layer("sentences")
    return [lists(hub_layer(texts)) for texts in (["the cat", "a"], np.array(["the cat", "a"]))]


@case
def training_as_a_tensor() -> Any:
    hub_layer = layer("images", trainable=True)
    images, _ = images_and_labels()
    call = tf.function(lambda training: hub_layer(images, training=training))
    return [lists(call(tf.constant(training))) for training in (False, True)] + [
        lists(hub_layer(images, training=tf.constant(False)))
    ]


@case
def python_numbers() -> Any:
    line = hub.KerasLayer(lambda x: tf.multiply(x, 2.0))
    return [lists(line(numbers)) for numbers in ([[1.0, 2.0, 3.0]], [1.0, 2.0], 3.0)]


@case
def a_config_without_a_string_as_handle() -> Any:
    return hub.KerasLayer.from_config({"handle": ["a"]})


@case
def a_single_python_string() -> Any:
    return [lists(hub.KerasLayer(tf.strings.length)("four"))]


@case
def sparse_numbers() -> Any:
    inputs = keras.Input((3,), sparse=True)
    dense = hub.KerasLayer(lambda x: tf.sparse.sparse_dense_matmul(x, tf.ones([3, 2])))(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(dense))
    return [lists(model(tf.sparse.from_dense(NUMBERS)))]


@case
def ragged_words() -> Any:
    words = tf.ragged.constant([["the", "cat"], ["a"]])
    inputs = keras.Input((None,), dtype=tf.string, ragged=True)
    model = keras.Model(inputs, layer("ragged")(inputs))
    return [lists(layer("ragged")(words)), lists(model(words))]


@case
def arguments() -> Any:
    return lists(layer("plain_module", arguments={"offset": 2.0})(NUMBERS))


@case
def output_shapes() -> Any:
    given = layer("of_unknown_shape", output_shape=[3])
    return {
        "of one batch": shape(given(NUMBERS).shape),
        "answer": lists(given(NUMBERS)),
        "of a model that knows": shape(layer("images").compute_output_shape((None, 8, 8, 3))),
    }


@case
def an_unknown_output_shape() -> Any:
    return [tf.TensorShape(layer("of_unknown_shape")(keras.Input((3,))).shape).rank]


@case
def a_given_output_shape() -> Any:
    given = layer("of_unknown_shape", output_shape=[3])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(given(inputs)))
    data = tf.data.Dataset.from_tensors((NUMBERS, NUMBERS[:, :2]))
    return {
        "known": shape(given(inputs).shape),
        "computed": shape(given.compute_output_shape((None, 3))),
        "losses": len(train(model, data, "mse", 1)["loss"]),
    }


@case
def a_callable_as_handle() -> Any:
    class Scale(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(2.0)
            self.regularization_losses = [lambda: 0.5 * self.factor]

        def __call__(self, x: Any, training: bool = False) -> Any:
            return self.factor * x + (1.0 if training else 0.0)

    scale = Scale()
    hub_layer = hub.KerasLayer(scale, trainable=True)
    return [
        lists(hub_layer(NUMBERS)),
        lists(hub_layer(NUMBERS, training=True)),
        len(hub_layer.trainable_weights),
        float(sum(hub_layer.losses)),
        hub_layer.resolved_object is scale,
        lists(hub.KerasLayer(lambda x: 2 * x)(NUMBERS)),
        lists(hub.KerasLayer(hub.load(str(folder / "sentences")))(tf.constant(["cat"]))),
    ]


class Line:
    """A callable that lists what it is told to."""

    def __init__(self, weight: Any, listed: int = 1) -> None:
        self.weight = weight
        self.variables = [weight] * listed
        self.trainable_variables = self.variables

    def __call__(self, x: Any) -> Any:
        return x @ tf.convert_to_tensor(self.weight)


def step_of(line: Any, *layers: Any) -> Any:
    """How many weights are trained, and where a step of the sum of some layers leads."""
    inputs = keras.Input((3,))
    outputs = [one(inputs) for one in layers]
    model = keras.Model(inputs, keras.layers.Add()(outputs) if len(outputs) > 1 else outputs[0])
    weights = len(model.trainable_weights)
    if weights:
        train(model, tf.data.Dataset.from_tensors((NUMBERS, NUMBERS[:, :1])), "mse", 1)
    return [weights, lists(tf.convert_to_tensor(line.weight))]


@case
def layers_of_one_object() -> Any:
    """What one of them trains, it trains once, whatever the others are."""
    seen = []
    for flags in ([True, True], [True, False], [False, True], [False, False]):
        line = Line(tf.Variable(tf.ones([3, 1])))
        seen.append(step_of(line, *[hub.KerasLayer(line, trainable=flag) for flag in flags]))
    line = Line(tf.Variable(tf.ones([3, 1])))
    first, second = (hub.KerasLayer(line, trainable=True) for _ in range(2))
    second.trainable = False
    return [*seen, step_of(line, second), step_of(line, first)]


@case
def a_variable_that_is_listed_twice() -> Any:
    line = Line(tf.Variable(tf.ones([3, 1])), listed=2)
    return step_of(line, hub.KerasLayer(line, trainable=True))[1]


@case
def a_variable_of_an_open_shape() -> Any:
    line = Line(tf.Variable(tf.ones([3, 1]), shape=[None, 1]))
    return step_of(line, hub.KerasLayer(line, trainable=True))


@case
def a_callable_around_a_model_of_keras() -> Any:
    """The variables are those of this Keras, and stay as trainable as they were."""
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    set_weights(inner, 1)
    line = Line(inner.weights[0])
    seen = [step_of(line, hub.KerasLayer(line, trainable=flag)) for flag in (True, False)]
    hub.KerasLayer(inner)
    return [*seen, inner.trainable, len(inner.trainable_weights)]


@case
def losses_beside_the_weights() -> Any:
    """Of a callable that lists no variables, and of one whose first weight alone is frozen."""
    line = Line(tf.Variable(tf.ones([3, 1])))
    line.regularization_losses = [lambda: tf.reduce_sum(line.weight), lambda: tf.constant(2.0)]
    line.variables = line.trainable_variables = []
    layers = [hub.KerasLayer(line, trainable=flag) for flag in (True, False)]
    seen = [float(sum(one.losses)) for one in layers if one(NUMBERS) is not None]
    hub_layer = layer("images", trainable=True)
    before = float(sum(hub_layer.losses))
    hub_layer.trainable_weights[0]._trainable = False
    return [seen, before > 0, float(sum(hub_layer.losses)) == before]


# SavedModels of several origins.


@case
def exports() -> Any:
    return [
        lists(layer("keras_export", signature="serving_default", output_key=key)(NUMBERS))
        for key in ("output_0",)
    ] + [
        lists(layer("tf_keras_export", signature="serving_default", output_key="output_0")(NUMBERS))
    ]


@case
def a_module_whose_variables_are_not_listed() -> Any:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logging.getLogger("absl").addHandler(handler)
    hub_layer = layer("plain_module", trainable=True, arguments={"offset": 0.0})
    seen = [lists(hub_layer(NUMBERS)) for _ in range(2)]
    logging.getLogger("absl").removeHandler(handler)
    told = [line for line in heard if "zero trainable weights" in line]
    return [seen, len(hub_layer.weights), len(told)]


@case
def the_tf1_hub_format() -> Any:
    texts = tf.constant(["the cat", "a"])
    hub_layer = layer("tf1_hub_module")
    model = keras.Sequential(
        [
            layer("tf1_hub_module", input_shape=[], dtype=tf.string),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    return [
        lists(hub_layer(texts)),
        lists(layer("tf1_hub_module", signature_outputs_as_dict=True)(texts)),
        lists(layer("tf1_hub_module", tags=["train"])(texts)),
        [shape(w.shape) for w in hub_layer.weights],
        lists(model(texts)),
    ]


# Configs.


@case
def configs() -> Any:
    seen = {}
    for name, options in {
        "sentences": {"trainable": True, "name": "embedding"},
        "of_unknown_shape": {"output_shape": [3]},
        "two_towers": {"output_shape": {"text": (1,), "numbers": (2,)}, "output_key": "text"},
        "plain_module": {"arguments": {"offset": 2.0}},
        "tf1_hub_module": {},
        "keras_export": {"signature": "serving_default", "signature_outputs_as_dict": True},
    }.items():
        made = layer(name, **options)
        config = made.get_config()
        again = type(made).from_config(json.loads(json.dumps(config)))
        own = (
            "handle",
            "output_shape",
            "arguments",
            "signature",
            "output_key",
            "trainable",
            "signature_outputs_as_dict",
        )
        seen[name] = [
            {key: config[key] for key in own if key in config},
            again.get_config() == config,
            [lists(w) for w in again.get_weights()] == [lists(w) for w in made.get_weights()],
        ]
    return seen


@case
def tags_in_a_config() -> Any:
    seen = []
    for tags in (["train"], "train"):
        made = layer("tf1_hub_module", tags=tags)
        config = json.loads(json.dumps(made.get_config()))
        again = type(made).from_config(config)
        texts = tf.constant(["the cat"])
        seen.append([config.get("tags"), lists(again(texts)) == lists(made(texts))])
    return seen


@case
def nested_output_shapes() -> Any:
    given = layer("two_towers", output_shape={"text": (1,), "numbers": (2,)})
    computed = given.compute_output_shape({"text": (None,), "numbers": (None, 3)})
    return {"computed": {key: shape(value) for key, value in sorted(computed.items())}}


@case
def a_function_that_takes_training() -> Any:
    told = []

    def identity(x: Any, training: bool = False) -> Any:
        told.append(training)
        return x

    hub_layer = hub.KerasLayer(identity, trainable=True)
    for training in (False, True):
        hub_layer(NUMBERS, training=training)
    return told


# Mistakes. Each is a case of its own.


def mistake(name: str, make: Callable[[], Any]) -> None:
    CASES[f"mistake: {name}"] = make


EXPORT = {"signature": "serving_default"}
mistake("a handle that is neither", lambda: hub.KerasLayer(7))
mistake("an unknown argument", lambda: layer("images", trainabel=True))
mistake("a handle that is not there", lambda: layer("nothing"))
mistake("signature without output", lambda: layer("keras_export", **EXPORT))
mistake(
    "signature with two outputs",
    lambda: layer("keras_export", **EXPORT, output_key="x", signature_outputs_as_dict=True),
)
mistake("outputs without signature", lambda: layer("sentences", signature_outputs_as_dict=True))
mistake("no signature", lambda: layer("keras_export"))
mistake("unknown signature", lambda: layer("keras_export", signature="x", output_key="y"))
mistake("tags for a callable", lambda: hub.KerasLayer(abs, tags=["x"]))
mistake(
    "load_options for a callable",
    lambda: hub.KerasLayer(abs, load_options=tf.saved_model.LoadOptions()),
)
mistake(
    "training a signature",
    lambda: layer("keras_export", **EXPORT, output_key="output_0", trainable=True)(NUMBERS),
)
mistake("training TF1", lambda: layer("tf1_hub_module", trainable=True)(tf.constant(["a"])))
mistake("output_key of a tensor", lambda: layer("images", output_key="x")(images_and_labels()[0]))
mistake(
    "unknown output_key",
    lambda: layer("keras_export", **EXPORT, output_key="x")(NUMBERS),
)
mistake(
    "a signature of nothing",
    lambda: hub.KerasLayer(lambda x: x, signature="x", output_key="y"),
)
mistake("config of a callable", lambda: hub.KerasLayer(lambda x: x).get_config())
mistake(
    "config of odd arguments",
    lambda: layer("plain_module", arguments={"offset": tf.constant(1.0)}).get_config(),
)
mistake("odd output_shape", lambda: layer("sentences", output_shape=object()))


def _losses_that_are_none() -> Any:
    scale = tf.Module()
    scale.regularization_losses = [1.0]
    type(scale).__call__ = lambda self, x: x
    try:
        return hub.KerasLayer(scale, trainable=True)
    finally:
        del tf.Module.__call__


mistake("losses that are no functions", _losses_that_are_none)
mistake("a wrong output_shape", lambda: layer("sentences", output_shape=[7])(tf.constant(["a"])))


# Saving, for another program to load.


def trained(model: Any, data: Any, loss: Any) -> Any:
    train(model, data, loss, epochs=1)
    return model


@case
def saving_a_text_model() -> Any:
    """A text model, trained, in every format; and what it answers."""
    model = trained(text_model(trainable=True), text_data(), binary())
    model.save(work / "model.keras")
    model.save(str(work / "model.h5"))
    model.save_weights(work / "model.weights.h5")
    tf.saved_model.save(model, str(work / "saved_model"))
    model.export(str(work / "export"))
    if not KERAS_3:
        model.save(str(work / "keras2_saved_model"), save_format="tf")
    tf.train.Checkpoint(model=model).write(str(work / "checkpoint"))
    return lists(model(tf.constant(TEXTS)))


@case
def loading_weights() -> Any:
    model = text_model(trainable=True)
    model.load_weights(work / "model.weights.h5")
    return lists(model(tf.constant(TEXTS)))


@case
def loading_at_once() -> Any:
    """As in so many tutorials, right after saving."""
    seen = []
    for name in ("model.keras", "model.h5"):
        model = keras.models.load_model(work / name, custom_objects={"KerasLayer": hub.KerasLayer})
        seen.append(lists(model(tf.constant(TEXTS))))
    return seen


@case
def saving_an_image_model() -> Any:
    images, labels = images_and_labels()
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(12)
    model = trained(image_model(trainable=True), data, sparse())
    model.export(str(work / "image_export"))
    tf.saved_model.save(model, str(work / "image_saved_model"))
    model.save(work / "image_model.keras")
    again = keras.models.load_model(
        work / "image_model.keras", custom_objects={"KerasLayer": hub.KerasLayer}
    )
    answers = [lists(loaded(images)) for loaded in (model, again)]
    return [*answers, again.layers[1].trainable, len(again.layers[1].trainable_weights)]


@case
def a_new_layer_knows_whether_it_is_built() -> Any:
    return isinstance(layer("images").built, bool)


@case
def threads_that_use_one_layer() -> Any:
    """Two build models with it while two others call it."""
    images, _ = images_and_labels()

    def use(hub_layer: Any, barrier: threading.Barrier, builds: bool) -> Any:
        barrier.wait()
        if not builds:
            return shape(hub_layer(images).shape)
        inputs = keras.Input((8, 8, 3))
        return len(keras.Model(inputs, hub_layer(inputs)).trainable_weights)

    seen = []
    for _ in range(3):
        common = layer("images", trainable=True), threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            seen += pool.map(functools.partial(use, *common), [True, False, True, False])
    return seen


@case
def names_of_layers() -> Any:
    first, second = layer("images"), layer("images", name="my-layer")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, [first(inputs), second(inputs)])
    again = layer("images")
    return [
        model.get_layer("my-layer") is second,
        model.layers[1] is first,
        first.name.startswith("keras_layer"),
        again.name != first.name,
        [again.dtype if isinstance(again.dtype, str) else again.dtype.name, again.trainable],
    ]


@case
def cloning() -> Any:
    model = text_model(trainable=True)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return [lists(clone(tf.constant(TEXTS))), lists(model(tf.constant(TEXTS)))]


for one in (*without_keras.cases(hub, folder), *subclasses.cases(hub, folder, keras)):
    case(one)


def run(function: Callable[[], Any]) -> dict[str, Any]:
    seen: dict[str, Any] = {"value": None, "error": None}
    try:
        value = function()
        seen["value"] = value if isinstance(value, (dict, list)) else repr(value)
    except Exception as error:
        traceback.print_exc()
        families = [kind.__name__ for kind in type(error).__mro__]
        seen["error"] = {"families": families, "text": str(error)}
    return seen


if __name__ == "__main__":
    only = os.environ.get("ONLY_CASE")
    import time

    seen = {}
    for name, function in CASES.items():
        if not only or only in name:
            begun = time.monotonic()
            seen[name] = run(function)
            print(f"{time.monotonic() - begun:.1f} s: {name}", file=sys.stderr)
    (work / "handle.json").write_text(json.dumps(str(folder / "sentences")))
    inputs = {"text": TEXTS, "image": lists(images_and_labels()[0])}
    (work / "inputs.json").write_text(json.dumps(inputs))
    (work / "seen.json").write_text(json.dumps(seen))
