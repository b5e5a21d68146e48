"""The cases of a program that names no Keras: `tf.Module`, loops, checkpoints, TensorFlow 1."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

TEXTS = ["the cat sat", "a mat", "cat"]
IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")


def cases(hub: Any, folder: Path) -> Iterator[Callable[[], Any]]:
    def layer(name: str, **options: Any) -> Any:
        return hub.KerasLayer(str(folder / name), **options)

    class Classifier(tf.Module):
        """As on the pages of TensorFlow about its core."""

        def __init__(self, features: Any) -> None:
            super().__init__()
            self.features = features
            self.head = tf.Variable(tf.ones([6, 2]), name="head")

        @tf.function
        def __call__(self, images: Any, training: bool = False) -> Any:
            return self.features(images, training=training) @ self.head

    def shapes(variables: Any) -> list[list[int]]:
        return [variable.shape.as_list() for variable in variables]

    def a_module_with_a_layer() -> Any:
        seen = {}
        for trainable in False, True:
            module = Classifier(layer("images", trainable=trainable))
            seen[str(trainable)] = {
                "trainable": shapes(module.trainable_variables),
                "all": shapes(module.variables),
                "modules": len(module.submodules),
                "of the layer": shapes(module.features.trainable_variables),
                "rest of the layer": shapes(module.features.non_trainable_variables),
                "weights": shapes(module.features.weights),
                "losses": [float(loss) for loss in module.features.losses],
            }
        return seen

    def a_loop_trains_the_model() -> Any:
        module = Classifier(layer("images", trainable=True))
        losses = []
        for _ in range(3):
            with tf.GradientTape() as tape:
                answers = module(IMAGES, training=True)
                loss = tf.reduce_mean(answers**2) + tf.add_n(module.features.losses)
            losses.append(float(loss))
            variables = module.trainable_variables
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                variable.assign_sub(0.1 * gradient)
        return [losses, module(IMAGES).numpy().tolist()]

    def variables_are_those_of_tensorflow() -> Any:
        hub_layer = layer("sentences", trainable=True)
        (variable,) = hub_layer.trainable_variables
        return [
            isinstance(variable, tf.Variable),
            variable.value().numpy().tolist() == variable.read_value().numpy().tolist(),
            variable is hub_layer.resolved_object.trainable_variables[0],
            isinstance(hub_layer, tf.Module),
        ]

    def an_optimizer_of_tensorflow_1() -> Any:
        module = Classifier(layer("images", trainable=True))
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.1)
        before = float(tf.reduce_mean(module(IMAGES) ** 2))
        optimizer.minimize(
            lambda: tf.reduce_mean(module(IMAGES) ** 2), var_list=module.trainable_variables
        )
        return [before, float(tf.reduce_mean(module(IMAGES) ** 2))]

    def a_saved_module() -> Any:
        module = Classifier(layer("images", trainable=True))
        answers = module(IMAGES).numpy().tolist()
        with tempfile.TemporaryDirectory() as saved:
            tf.saved_model.save(module, saved)
            return [answers, tf.saved_model.load(saved)(IMAGES, False).numpy().tolist()]

    def a_text_module_is_saved_with_its_table() -> Any:
        module = tf.Module()
        module.embed = layer("sentences")
        module.call = tf.function(
            lambda texts: module.embed(texts), [tf.TensorSpec([None], tf.string)]
        )
        with tempfile.TemporaryDirectory() as saved:
            tf.saved_model.save(module, saved)
            loaded = tf.saved_model.load(saved)
            return loaded.call(tf.constant(TEXTS)).numpy().tolist()

    def a_checkpoint() -> Any:
        first, second = (Classifier(layer("images", trainable=True)) for _ in range(2))
        for variable in first.trainable_variables:
            variable.assign(variable + 0.5)
        with tempfile.TemporaryDirectory() as saved:
            path = tf.train.Checkpoint(model=first).save(f"{saved}/checkpoint")
            tf.train.Checkpoint(model=second).restore(path).assert_consumed()
        return [(first(IMAGES) - second(IMAGES)).numpy().tolist(), second(IMAGES).numpy().tolist()]

    def inputs_of_other_types() -> Any:
        hub_layer = layer("images")
        return [
            hub_layer(IMAGES.astype("float64")).numpy().tolist(),
            hub_layer(tf.cast(IMAGES, tf.float16)).dtype.name,
            layer("sentences")(TEXTS).numpy().tolist(),
            layer("two_towers")({"text": tf.constant(["a"]), "numbers": np.ones([1, 3])})["numbers"]
            .numpy()
            .tolist(),
        ]

    def in_a_dataset() -> Any:
        hub_layer = layer("sentences")
        dataset = tf.data.Dataset.from_tensor_slices(TEXTS).batch(2).map(hub_layer)
        return [batch.numpy().tolist() for batch in dataset]

    def in_a_function() -> Any:
        hub_layer = layer("images", trainable=True)

        @tf.function
        def call(images: Any) -> Any:
            total = 0.0
            for _ in tf.range(2):
                total += tf.reduce_sum(hub_layer(images))
            return total

        return [float(call(tf.constant(IMAGES)))]

    def in_a_graph() -> Any:
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            answers = layer("sentences")(tf.constant(TEXTS))
            session.run(
                [tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()]
            )
            return session.run(answers).tolist()

    def attributes() -> Any:
        hub_layer = layer("two_towers", signature="towers", output_key="numbers", output_shape=(2,))
        plain = layer("plain_module", arguments={"offset": 2.0})
        return [
            hub_layer._handle == str(folder / "two_towers"),
            hub_layer._callable is hub_layer.resolved_object.signatures["towers"],
            [hub_layer._signature, hub_layer._output_key, hub_layer._is_hub_module_v1],
            [
                plain._arguments,
                plain._signature,
                plain._output_key,
                plain._signature_outputs_as_dict,
            ],
            [hub_layer._output_shape.as_list(), hasattr(plain, "_output_shape")],
            layer("images")._has_training_argument,
            plain._has_training_argument,
            layer("tf1_hub_module")._is_hub_module_v1,
            layer("tf1_hub_module")._signature,
        ]

    def arguments_by_position() -> Any:
        made = hub.KerasLayer(
            str(folder / "tf1_hub_module"), False, None, None, ["train"], "default", None, "default"
        )
        return made(tf.constant(TEXTS)).numpy().tolist()

    yield from (
        a_module_with_a_layer,
        a_loop_trains_the_model,
        variables_are_those_of_tensorflow,
        an_optimizer_of_tensorflow_1,
        a_saved_module,
        a_text_module_is_saved_with_its_table,
        a_checkpoint,
        inputs_of_other_types,
        in_a_dataset,
        in_a_function,
        in_a_graph,
        attributes,
        arguments_by_position,
    )
