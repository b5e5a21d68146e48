"""A server: TensorFlow alone answers with what was exported in all worlds. `serving.py FOLDER`.

It writes FOLDER/served.json: the answers by world and by what was saved.
"""

import json
import sys
from pathlib import Path

sys.modules["tfhub_cache"] = sys.modules["tensorflow_hub"] = None  # as if not installed

import tensorflow as tf  # noqa: E402

folder = Path(sys.argv[1])
served = {}
for path in sorted(folder.glob("*/*/saved_model.pb")):
    world, name = path.parent.parent, path.parent.name
    inputs = json.loads((world / "inputs.json").read_text())["image" if "image" in name else "text"]
    signature = tf.saved_model.load(str(path.parent)).signatures["serving_default"]
    (answer,) = signature(tf.constant(inputs)).values()
    served.setdefault(world.name, {})[name] = answer.numpy().tolist()
(folder / "served.json").write_text(json.dumps(served))
