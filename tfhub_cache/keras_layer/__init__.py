"""`hub.KerasLayer`: a model as a layer of the Keras that asks for it.

Keras 3 and Keras 2 refuse each other's layers, and a program without Keras needs neither. So what
a program makes of `layer.KerasLayer` is, from the top:

- `layer.KerasLayer`, or a subclass of the program: the arguments, the call, the config;
- `Base` of one of these modules: how variables and losses of the model become those of a layer.
    - `undecided`: a `tf.Module`. It becomes one of the other two when a Keras looks at it;
    - `keras2`, for tf_keras, and from the beginning if `tf.keras` is Keras 2;
    - `keras3`, with its `keras3_weights`.

`choosing` finds out which Keras looks. `model` is the model that a layer calls, and `trusting` says
which models a saved file may run.
"""

from tfhub_cache.keras_layer.layer import KerasLayer
from tfhub_cache.keras_layer.model import load_module
from tfhub_cache.keras_layer.trusting import trust

__all__ = ["KerasLayer", "load_module", "trust"]
