"""Public packages that import tensorflow_hub, with this library in its place."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import models
import pytest
from worlds import HERE

from tfhub_cache import stand_in

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("keras_layer_saving")]


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("keybert", "official")),
    reason="the packages are not installed",
)
def test_keybert_and_the_models_of_tensorflow_run_as_they_are(
    keras_models: Path, run_python: Any
) -> None:
    program = HERE / "clients.py"
    done = run_python(program, args=[keras_models], env={"PYTHONPATH": stand_in.FOLDER})
    seen = json.loads(done.check().stdout.splitlines()[-1])
    assert seen.pop("library").startswith(stand_in.FOLDER)
    texts = [pytest.approx(models.embedding(text), abs=1e-5) for text in ("the cat", "a mat")]
    assert seen.pop("keybert") == texts
    assert seen == {"encoder": [[8.0, 9.0, 10.0, 11.0]] * 4, "trained": True, "weights": 3}
