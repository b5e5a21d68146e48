"""Code of two public packages as it is, which says `import tensorflow_hub`: `clients.py FOLDER`.

Their `__init__` modules import all that the packages can do, and what that needs is not installed;
so they are not run.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

folder = Path(sys.argv[1])


def without_init(*names: str) -> None:
    for name in names:
        spec = importlib.util.find_spec(name)
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = spec.submodule_search_locations
        package.__spec__ = spec


without_init("keybert", "official", "official.nlp", "official.nlp.tasks")

import tensorflow as tf  # noqa: E402
import tensorflow_hub  # noqa: E402
import tf_keras  # noqa: E402
from keybert.backend._use import USEBackend  # noqa: E402
from official.nlp.tasks import utils  # noqa: E402

embedder = USEBackend(tensorflow_hub.load(str(folder / "sentences")))
seen = {"keybert": embedder.embed(["the cat", "a mat"]).tolist()}

encoder = utils.get_encoder_from_hub(str(folder / "token_ids"))
words = {name: tf.ones([4, 3], tf.int32) for name in encoder.input_names}
seen["encoder"] = encoder(words)["pooled"].numpy().tolist()
classifier = tf_keras.Model(encoder.inputs, tf_keras.layers.Dense(1)(encoder.output["pooled"]))
classifier.compile("sgd", "mse")
classifier.fit(words, tf.ones([4, 1]), verbose=0)
seen["trained"] = bool((encoder(words)["pooled"].numpy() != seen["encoder"]).any())
seen["weights"] = len(classifier.trainable_weights)
seen["library"] = tensorflow_hub.__file__
print(json.dumps(seen))
