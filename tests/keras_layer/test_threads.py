"""A thread that uses a layer while another one builds a model with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Finished

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("keras_layer_saving")]

PROGRAM = """
import collections.abc, importlib, sys, threading
import tensorflow as tf
import tfhub_cache as hub

keras, model = importlib.import_module(sys.argv[1]), sys.argv[2]
arrived, go_on, seen = threading.Event(), threading.Event(), []

class Gate(collections.abc.Mapping):  # at which the thread stops that looks for variables in it
    def __iter__(self):
        if threading.current_thread() is looker:
            arrived.set()
            go_on.wait(60)
        return iter(["value"])

    def __getitem__(self, key):
        return 0

    def __len__(self):
        return 1

class Layer(hub.KerasLayer):
    def __setattr__(self, name, value):
        if name == "note" and may_look and not looker.ident:  # it is made a layer of Keras
            looker.start()
            arrived.wait(60)
        super().__setattr__(name, value)

def look():
    try:
        seen.append(len(layer.weights))
    except Exception as error:
        seen.append(repr(error))

may_look, looker = False, threading.Thread(target=look)
layer = Layer(model)
layer._gate, layer.note = Gate(), "set again on the layer that is made"
may_look = True
inputs = keras.Input((1,))
built = keras.Model(inputs, layer(inputs))
go_on.set()
looker.join()
print(arrived.is_set(), *seen, len(built.weights))
"""


@pytest.mark.parametrize("keras", ["tf_keras", "keras"])
def test_a_thread_looks_for_weights_while_another_makes_it_a_layer_of_keras(
    run_python: Callable[..., Finished], keras_models: Path, keras: str
) -> None:
    done = run_python(PROGRAM, args=[keras, keras_models / "half_plus_one"]).check()
    arrived, seen, built = done.stdout.split(maxsplit=2)
    assert (arrived, seen) == ("True", built.strip())
