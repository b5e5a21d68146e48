"""What was saved in one program is loaded in another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import pytest
from servers import Host
from worlds import HERE, KERAS_2, KERAS_3, THEIRS, Ran, keras_of

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("keras_layer_saving")]

REFUSED = "ValueError: The config of a hub.KerasLayer would run the model"


@pytest.fixture
def loaded(run_python: Any) -> Callable[..., Any]:
    """What a program of its own sees in its tasks; see loading.py."""

    def load(world: str, *tasks: str | Path, **env: str) -> Any:
        done = run_python(HERE / "loading.py", args=tasks, env={**keras_of(world), **env}).check()
        return json.loads(done.stdout.splitlines()[-1])

    return load


def near(value: Any) -> Any:
    return [pytest.approx(row, rel=1e-4, abs=1e-5) for row in value]


def test_keras_3_loads_a_model_where_this_library_was_imported_if_it_is_trusted(
    ran: dict[str, Ran], loaded: Any
) -> None:
    saved = ran[KERAS_3].value("saving_a_text_model")
    folder = ran[KERAS_3].folder
    seen, by_name = loaded(KERAS_3, "tfhub_cache_first", folder, "trusting", folder)
    assert seen.pop("no module of the layer")
    refusal = seen.pop("by default")
    assert refusal.startswith(REFUSED)
    for words in ("sentences", "safe_mode=False", "enable_unsafe_deserialization"):
        assert words in refusal
    assert seen == dict.fromkeys(["not safe", "by default, then", "h5"], near(saved))
    for case in "elsewhere", "out of the pattern":
        refusal = by_name.pop(case)
        assert refusal.startswith(REFUSED)
        for words in ("hub.keras_layer.trust('/", "TFHUB_TRUSTED_HANDLES", "TFHUB_LOCKFILE"):
            assert words in refusal
    assert by_name.pop("google/x/1") == "OfflineError"
    for path in (
        *("google/../x/1", "google/%2e%2E/x/1", "google/%252e%252e/x/1", "google/..;/x/1"),
        *("google/..?x", "google/..#x", "else/x/1", "else/a,b/1"),
    ):
        assert by_name.pop(path) == "ValueError"
    assert by_name.pop("with a comma, trusted") == "OfflineError"
    signed = by_name.pop("signed")
    assert "trust('https://tfhub.dev/x/1') with the rest of the handle" in signed
    assert "secret" not in signed
    assert "safe_mode=False" in by_name.pop("no handle")
    assert by_name.pop("no handle, not safe")
    trusted = ["beside", "beside, h5", "a pattern", "a lock file"]
    assert by_name == dict.fromkeys(trusted, near(saved))


def test_a_layer_of_a_url_is_loaded_again_from_the_cache_with_the_weights_that_were_saved(
    ran: dict[str, Ran],
    keras_models: Path,
    loaded: Any,
    host: Host,
    cache_dir: Path,
    tmp_path: Path,
) -> None:
    url = host.publish("/google/sentences/1", models.pack(keras_models / "sentences"))
    (tmp_path / "url").write_text(url)
    ((before, changed),) = loaded(KERAS_3, "made_from_a_url", tmp_path)
    assert changed != before
    host.close()
    tensorflow_first = ("tensorflow_first", ran[KERAS_3].folder)
    refused, again = loaded(KERAS_3, *tensorflow_first, "loaded_from_the_cache", tmp_path)
    assert refused["no module of the layer"]
    assert refused["by default"].startswith(REFUSED)
    assert again == near(changed)
    assert len(host.requests) == 1


def test_keras_2_loads_a_model_of_its_own_and_of_tensorflow_hub(
    ran: dict[str, Ran], loaded: Any
) -> None:
    ours, theirs = (ran[world] for world in (KERAS_2, THEIRS))
    seen = loaded(KERAS_2, "keras_2", ours.folder, "saved_by_tensorflow_hub", theirs.folder)
    for names, answers, library in (
        (["model.keras", "model.h5", "keras2_saved_model"], seen[0], ours),
        (["model.keras", "model.h5", "keras2_saved_model", "checkpoint"], seen[1], theirs),
    ):
        assert answers == dict.fromkeys(names, near(library.value("saving_a_text_model")))


def test_a_layer_is_of_the_keras_that_asks_for_it_and_what_tensorflow_hub_saved_is_loaded(
    ran: dict[str, Ran], keras_models: Path, loaded: Any
) -> None:
    which = ("which_keras", keras_models)
    seen = loaded(KERAS_3, *which, "saved_by_tensorflow_hub", ran[THEIRS].folder)
    errors = seen[0].pop("errors")
    assert seen[0] == {
        "new": [True, False, True],
        "its config": [True, True],
        "only Keras 3 is imported": True,
        "both": [[6, 6], [6, 6]],
        "of tf_keras": [False, True, True],
        "inside": [6, True],
        "a module beside both": [6, 6],
    }
    of_keras_3, of_tf_keras = ("Keras 3", "tf_keras"), ("tf_keras", "Keras 3")
    assert len(errors) == 6
    for error, (mine, other) in zip(errors, [of_keras_3] * 4 + [of_tf_keras] * 2, strict=True):
        assert f"is a layer of {mine}, and {other} asks for it" in error
        assert f"make another for {other}." in error
        assert "hub.keras_layer.keras2.KerasLayer" in error
        assert "TF_USE_LEGACY_KERAS=1" in error
    assert seen[1] == {"model.h5": near(ran[THEIRS].value("saving_a_text_model"))}


@pytest.mark.parametrize("world", [KERAS_2, KERAS_3])
def test_an_exported_model_runs_without_this_library_and_the_model_of_the_layer(
    ran: dict[str, Ran], world: str
) -> None:
    folder = ran[world].folder
    served = json.loads((folder.parent / "served.json").read_text())[folder.name]
    texts = near(ran[world].value("saving_a_text_model"))
    images = near(ran[world].value("saving_an_image_model")[0])
    assert served.pop("keras2_saved_model", texts) == texts
    assert served == {
        "export": texts,
        "saved_model": texts,
        "image_export": images,
        "image_saved_model": images,
    }
    assert [path.name for path in (folder / "export" / "assets").iterdir()] == ["vocab.txt"]


def test_what_keras_3_exports_can_be_trained_in_a_wrapper_and_may_take_integers(
    ran: dict[str, Ran], keras_models: Path, loaded: Any
) -> None:
    trained = ("trained_export", ran[KERAS_3].folder)
    seen, dtypes = loaded(KERAS_3, *trained, "dtypes_of_inputs", keras_models)
    assert dtypes["answers"] == dtypes["served"] == dtypes["of its function"]
    assert dtypes["of an export"].startswith("Expected a string, got ")
    assert "loaded.serve, loaded.signatures['serve']" in dtypes["of an export"]
    for name, dtype in ("sentences", "string"), ("token_ids", "int32"), ("images", "float32"):
        assert dtypes[name].startswith(f"The layer 'of_{name}' of ")
        assert f"{name} takes '{dtype}', and its input is " in dtypes[name]
        assert f"Pass dtype='{dtype}' to keras.Input" in dtypes[name]
    assert seen["before"] == near(ran[KERAS_3].value("saving_a_text_model"))
    assert seen["after"] != near(seen["before"])
    assert seen["served"] == near(seen["after"])


def test_keras_3_on_another_backend_is_an_error_that_says_what_to_set(
    keras_models: Path, loaded: Any
) -> None:
    pytest.importorskip("jax", reason="Keras 3 has no other backend here")
    ((backend, error),) = loaded(KERAS_3, "another_backend", keras_models, KERAS_BACKEND="jax")
    assert backend == "jax"
    assert "'jax'" in error
    assert "KERAS_BACKEND=tensorflow" in error
