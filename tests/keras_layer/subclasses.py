"""The cases of programs that derive classes from `hub.KerasLayer`, as some packages do."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")


def cases(hub: Any, folder: Path, keras: Any) -> Iterator[Callable[[], Any]]:
    class OfMediaPipe(hub.KerasLayer):
        """As `HubKerasLayerV1V2` of mediapipe-model-maker and of tflite-model-maker."""

        def _setup_layer(self, trainable: bool = False, **kwargs: Any) -> None:
            if self._is_hub_module_v1:
                self._setup_layer_v1(trainable, **kwargs)
            else:
                super()._setup_layer(trainable, **kwargs)

        def _check_trainability(self) -> None:
            if not self._is_hub_module_v1:
                super()._check_trainability()

        def _setup_layer_v1(self, trainable: bool = False, **kwargs: Any) -> None:
            super(hub.KerasLayer, self).__init__(trainable=trainable, **kwargs)
            for variable in self._func.variables:
                self._add_existing_weight(variable, trainable=trainable)

    class Frozen(hub.KerasLayer):
        """Trains the last weights alone, and has a weight and a layer of its own."""

        def __init__(self, handle: str, scale: float = 2.0, **kwargs: Any) -> None:
            self.seen: list[str] = []
            super().__init__(handle, **kwargs)
            self.scale = scale
            self.dense = keras.layers.Dense(2, kernel_initializer="ones")
            self.offset = tf.Variable(1.0, name="offset")

        def _add_existing_weight(self, weight: Any, trainable: bool | None = None) -> None:
            last = weight.shape.as_list() in ([4, 6], [6])
            super()._add_existing_weight(weight, trainable=trainable and last)
            self.seen.append(weight.shape.as_list()) if hasattr(self, "seen") else None

        def _check_trainability(self) -> None:
            self.checked = True

        def call(self, inputs: Any, training: Any = None) -> Any:
            features = super().call(inputs, training=training)
            return self.dense(features) * self.scale + self.offset

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "scale": self.scale}

    def shapes(weights: Any) -> list[list[int]]:
        # Keras 3 does not list the tf.Variable that is an attribute; tf_keras does.
        return [list(weight.shape) for weight in weights if len(weight.shape)]

    def a_model_of_tensorflow_1_is_trained() -> Any:
        layer = OfMediaPipe(
            str(folder / "tf1_hub_module"), input_shape=[], dtype=tf.string, trainable=True
        )
        model = keras.Sequential([layer, keras.layers.Dense(1, kernel_initializer="ones")])
        return [shapes(model.trainable_weights), np.asarray(model(tf.constant(["cat"]))).tolist()]

    def a_model_of_tensorflow_2_is_trained() -> Any:
        layer = OfMediaPipe(str(folder / "images"), trainable=True)
        model = keras.Sequential([keras.Input((8, 8, 3)), layer])
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
        losses = model.fit(IMAGES, np.zeros([4, 6]), epochs=2, verbose=0).history["loss"]
        return [losses, shapes(layer.trainable_weights), shapes(layer.non_trainable_weights)]

    def a_layer_with_weights_of_its_own() -> Any:
        layer = Frozen(str(folder / "images"), trainable=True, scale=3.0)
        before = np.asarray(layer(IMAGES)).tolist()
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, layer(inputs))
        return [
            before,
            np.asarray(model(IMAGES)).tolist(),
            sorted(shapes(layer.trainable_weights)),
            layer.checked,
            layer.scale,
            isinstance(layer, Frozen),
            isinstance(layer, hub.KerasLayer),
            layer.get_config()["scale"],
        ]

    def it_is_cloned() -> Any:
        layer = Frozen(str(folder / "images"), trainable=True, scale=3.0)
        model = keras.Sequential([keras.Input((8, 8, 3)), layer])
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        return [np.asarray(one(IMAGES)).tolist() for one in (model, clone)]

    class Scaled(hub.KerasLayer):
        """Makes a weight when Keras builds it, and answers for attributes that it has not."""

        def build(self, input_shape: Any) -> None:
            self.scale = self.add_weight(name="scale", shape=(1,), initializer="ones")
            super().build(input_shape)

        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs, training=training) * self.scale

        def __getattr__(self, name: str) -> Any:
            if name == "magic":
                return 7
            raise AttributeError(name)

    class Named(keras.layers.Layer):
        def greeting(self) -> str:
            return "hello"

    class Both(hub.KerasLayer, Named):
        pass

    class Mistaken(hub.KerasLayer):
        @property
        def mistaken(self) -> Any:
            return self.not_there

    def a_layer_that_builds_a_weight() -> Any:
        first, second = (Scaled(str(folder / "images"), trainable=True) for _ in range(2))
        called = np.asarray(first(IMAGES)).tolist()
        model = keras.Sequential([keras.Input((8, 8, 3)), second])
        return [called, len(first.weights), len(model.weights), first.magic, hasattr(first, "x")]

    def a_layer_that_is_derived_from_another_as_well() -> Any:
        layer = Both(str(folder / "images"), trainable=True)
        model = keras.Sequential([keras.Input((8, 8, 3)), layer])
        return [layer.greeting(), isinstance(layer, Named), len(model.trainable_weights)]

    def a_property_with_a_mistake() -> Any:
        try:
            return Mistaken(str(folder / "images")).mistaken
        except AttributeError as error:
            return str(error)

    def arguments_that_are_shown() -> Any:
        return [list(inspect.signature(one).parameters) for one in (hub.KerasLayer, Frozen)]

    yield from (
        arguments_that_are_shown,
        a_layer_that_builds_a_weight,
        a_layer_that_is_derived_from_another_as_well,
        a_property_with_a_mistake,
        a_model_of_tensorflow_1_is_trained,
        a_model_of_tensorflow_2_is_trained,
        a_layer_with_weights_of_its_own,
        it_is_cloned,
    )
