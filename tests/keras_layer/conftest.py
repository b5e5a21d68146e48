"""The program of a Keras user, run once in each of three worlds, all at the same time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import models
import pytest
import trainable_models
from filelock import FileLock
from worlds import HERE, KERAS_3, THEIRS, WORLDS, Ran

MODELS = (
    models.keras_export,
    models.tf1_hub_module,
    trainable_models.half_plus_one,
    trainable_models.images,
    trainable_models.of_unknown_shape,
    trainable_models.plain_module,
    trainable_models.ragged,
    trainable_models.sentences,
    trainable_models.tf_keras_export,
    trainable_models.token_ids,
    trainable_models.two_towers,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [n for n in ("tensorflow_hub", "tf_keras") if importlib.util.find_spec(n) is None]
    for item in items:
        if HERE in item.path.parents and missing:
            item.add_marker(pytest.mark.skip(reason=f"{missing[0]} is not installed"))


@pytest.fixture(scope="session")
def keras_models(built: Callable[..., Path]) -> Path:
    """The folder of all models that the program uses. Not to be changed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        for model in MODELS:
            model(folder / model.__name__)

    return built("keras_layer", make)


@pytest.fixture(scope="session")
def ran(keras_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ran]:
    """The program in each of the worlds. It runs once for all workers, as it takes a while."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folders = {world: root / "keras_layer" / world.replace(" ", "_") for world in WORLDS}
    with FileLock(root / "keras_layer.lock"):
        if not (root / "keras_layer").exists():
            run_all(folders, keras_models)
            serve(folders, keras_models)
    return {
        world: Ran(folder, json.loads((folder / "seen.json").read_text()))
        for world, folder in folders.items()
    }


def run_all(folders: Mapping[str, Path], keras_models: Path) -> None:
    """Runs the program in all worlds at once."""
    started = []
    for world, folder in folders.items():
        folder.mkdir(parents=True)
        library = "tensorflow_hub" if world == THEIRS else "tfhub_cache"
        keras = "tensorflow.keras" if world == KERAS_3 else "tf_keras"
        started.append(start(folder, ["program.py", library, keras_models, folder, keras]))
    finish(started, folders.values())


def serve(folders: Mapping[str, Path], keras_models: Path) -> None:
    """Runs what was exported, where there is neither this library nor a model of the layers."""
    away = keras_models.with_name("away")
    keras_models.rename(away)  # now, while no other test uses it
    try:
        folder = folders[KERAS_3].parent
        finish([start(folder, ["serving.py", folder])], [folder])
    finally:
        away.rename(keras_models)


def start(folder: Path, command: list[Any]) -> subprocess.Popen[bytes]:
    """Starts a program beside this file, whose output goes into a folder."""
    program, *arguments = command
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, HERE / program, *arguments],
            stdout=output,
            stderr=output,
        )


def finish(started: list[subprocess.Popen[bytes]], folders: Iterable[Path]) -> None:
    """Waits until they have ended well."""
    try:
        codes = [process.wait(600) for process in started]
    finally:
        for process in started:
            process.kill()
    texts = [(folder / "output").read_text("utf-8", "replace")[-3000:] for folder in folders]
    assert codes == [0] * len(codes), "\n\n".join(texts)
