"""`load`, from a handle to a model that answers, with TensorFlow."""

from __future__ import annotations

from pathlib import Path

import models
import pytest
from servers import Host

import tfhub_cache as hub
from tfhub_cache import errors

# One worker of pytest-xdist imports TensorFlow for all of them (`--dist loadgroup`).
pytestmark = pytest.mark.xdist_group("loading")

SENTENCES = ["the cat sat on a mat", "", "größe 犬", "never heard"]
EXPECTED = [pytest.approx(models.embedding(sentence), abs=1e-6) for sentence in SENTENCES]


@pytest.fixture
def handle(host: Host, archive_of, text_embedding: Path) -> str:
    """A text embedding on a host."""
    return host.publish("/google/text/1", archive_of(text_embedding))


@pytest.mark.tensorflow
def test_a_model_from_a_host_answers(handle: str, cache_dir: Path) -> None:
    model = hub.load(handle)
    assert model(SENTENCES).numpy().tolist() == EXPECTED
    answer = model.signatures["serving_default"](sentences=_tf().constant(SENTENCES))
    assert answer["embeddings"].numpy().tolist() == EXPECTED
    assert model._is_hub_module_v1 is False
    assert [variable.shape.as_list() for variable in [model.embedding]] == [[9, 4]]


@pytest.mark.tensorflow
def test_the_second_load_needs_no_host(handle: str, host: Host, cache_dir: Path) -> None:
    first = hub.load(handle)
    host.close()
    second = hub.load(handle)
    assert second(SENTENCES).numpy().tolist() == first(SENTENCES).numpy().tolist() == EXPECTED
    assert len(host.requests) == 1


@pytest.mark.tensorflow
def test_load_loads_from_where_resolve_says(handle: str, cache_dir: Path) -> None:
    hub.load(handle)
    path = hub.resolve(handle)
    assert _tf().saved_model.load(path)(SENTENCES).numpy().tolist() == EXPECTED
    assert hub.load(path)(SENTENCES).numpy().tolist() == EXPECTED


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "file://{}/"])
def test_a_model_in_a_local_folder_answers(text_embedding: Path, form: str) -> None:
    model = hub.load(form.format(text_embedding))
    assert model(SENTENCES).numpy().tolist() == EXPECTED


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["models", "./models/", "file://{}/models"])
def test_a_model_in_a_cache_of_any_form_answers(
    handle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFHUB_CACHE_DIR", form.format(tmp_path))
    assert hub.load(handle)(SENTENCES).numpy().tolist() == EXPECTED
    assert len(list((tmp_path / "models").glob("*/saved_model.pb"))) == 1


@pytest.mark.tensorflow
def test_a_model_in_tensorflows_memory_answers(text_embedding: Path) -> None:
    tf = _tf()
    for name, content in models.read_files(text_embedding).items():
        with tf.io.gfile.GFile(f"ram://of-test/{name}", "wb") as file:
            file.write(content)
    assert hub.load("ram://of-test")(SENTENCES).numpy().tolist() == EXPECTED


@pytest.mark.tensorflow
def test_a_keras_export_answers(host: Host, archive_of, keras_export: Path, cache_dir) -> None:
    model = hub.load(host.publish("/keras/1", archive_of(keras_export)))
    assert model.serve(_tf().constant([[1.0, 2.0, 3.0]])).numpy().tolist() == [[3.0, 5.0, 7.0]]
    assert model._is_hub_module_v1 is False


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("tags", "factor"), [(None, 1.0), ([], 1.0), (set(), 1.0), (["train"], 2.0), ({"train"}, 2.0)]
)
def test_a_tf1_hub_module_answers_from_the_graph_that_the_tags_name(
    host: Host, archive_of, tf1_hub_module: Path, cache_dir: Path, tags, factor: float
) -> None:
    model = hub.load(host.publish("/tf1/1", archive_of(tf1_hub_module)), tags=tags)
    answer = model.signatures["default"](default=_tf().constant(SENTENCES))["default"]
    assert (answer.numpy() / factor).tolist() == EXPECTED
    assert model._is_hub_module_v1 is True


@pytest.mark.tensorflow
def test_tags_that_the_model_does_not_have_are_tensorflows_error(text_embedding: Path) -> None:
    with pytest.raises(ValueError, match="tags") as error:
        hub.load(str(text_embedding), tags=["train"])
    with pytest.raises(ValueError, match="tags") as of_tensorflow:
        _tf().saved_model.load(str(text_embedding), tags=["train"])
    assert str(error.value) == str(of_tensorflow.value)


@pytest.mark.tensorflow
def test_options_have_the_effect_that_they_have_in_tensorflow(text_embedding: Path) -> None:
    tf = _tf()
    skip = tf.saved_model.LoadOptions(experimental_skip_checkpoint=True)
    model = hub.load(str(text_embedding), options=skip)
    assert model.embedding.numpy().size == 0  # nothing was read into it
    local = tf.saved_model.LoadOptions(experimental_io_device="/job:localhost")
    model = hub.load(str(text_embedding), options=local)
    assert model(SENTENCES).numpy().tolist() == EXPECTED


@pytest.mark.tensorflow
@pytest.mark.parametrize("tags", [None, ["serve"], {"serve"}, ("serve",)])
def test_tags_and_options_are_handed_on_as_the_objects_that_they_are(
    text_embedding: Path, monkeypatch: pytest.MonkeyPatch, tags
) -> None:
    tf = _tf()
    load_v2, handed_on = tf.compat.v1.saved_model.load_v2, []

    def listen(path, tags=None, options=None):
        handed_on.append((path, tags, options))
        return load_v2(path, tags=tags, options=options)

    monkeypatch.setattr(tf.compat.v1.saved_model, "load_v2", listen)
    options = tf.saved_model.LoadOptions(allow_partial_checkpoint=True)
    hub.load(str(text_embedding), tags, options)
    [(path, seen_tags, seen_options)] = handed_on
    assert path == str(text_embedding)
    assert seen_tags is tags
    assert seen_options is options


@pytest.mark.tensorflow
def test_a_model_is_loaded_in_graph_mode(handle: str, cache_dir: Path) -> None:
    v1 = _tf().compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        model = hub.load(handle)
        answer = model(_tf().constant(SENTENCES))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        assert session.run(answer).tolist() == EXPECTED


@pytest.mark.tensorflow
def test_a_tf1_hub_module_is_loaded_in_graph_mode(tf1_hub_module: Path) -> None:
    v1 = _tf().compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        model = hub.load(str(tf1_hub_module))
        answer = model.signatures["default"](default=_tf().constant(SENTENCES))["default"]
        # As TensorFlow asks for with models of its first version.
        session.run(v1.get_collection("saved_model_initializers"))
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        assert session.run(answer).tolist() == EXPECTED


@pytest.mark.tensorflow
def test_a_model_of_100_mb_is_downloaded_and_loaded(
    host: Host,
    large_archive: Path,
    large_model: Path,
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numpy as np

    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")
    handle = host.publish("/large/1", large_archive)
    model = hub.load(handle)
    means = model().numpy()
    assert means.shape == (8,)
    np.testing.assert_allclose(means, 0.5, atol=0.01)
    np.testing.assert_array_equal(means, _tf().saved_model.load(str(large_model))().numpy())
    assert len(host.requests) == 1


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}"])
def test_a_folder_without_a_model_is_a_value_error_that_says_what_is_missing(
    tmp_path: Path, form: str
) -> None:
    handle = form.format(tmp_path)
    with pytest.raises(ValueError, match="incompatible/unknown type") as error:
        hub.load(handle)
    assert str(error.value) == (
        f"Trying to load a model of incompatible/unknown type. '{handle}' contains neither "
        "'saved_model.pb' nor 'saved_model.pbtxt'."
    )


@pytest.mark.tensorflow
def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"^{tmp_path}/nothing does not exist\\.$"):
        hub.load(f"{tmp_path}/nothing")


@pytest.mark.tensorflow
def test_a_model_that_tensorflow_can_not_load_is_tensorflows_error_without_our_advice(
    tmp_path: Path,
) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\xff")
    with pytest.raises(OSError, match=r"saved_model\.pb") as error:
        hub.load(str(tmp_path))
    assert not getattr(error.value, "__notes__", [])


@pytest.mark.tensorflow
def test_variables_that_are_missing_here_are_no_matter_of_workers(
    tmp_path: Path, text_embedding: Path
) -> None:
    files = models.read_files(text_embedding)
    files = {name: files[name] for name in files if not name.startswith("variables/")}
    models.write_files(files, tmp_path / "model")
    with pytest.raises(Exception, match=r"variables") as error:
        hub.load(str(tmp_path / "model"))
    assert not getattr(error.value, "__notes__", [])


# Without TensorFlow. These need none.

WITHOUT = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
import tfhub_cache as hub
try:
    hub.load(sys.argv[1])
except ImportError as error:
    print(type(error).__name__)
    print(error)
"""


def test_without_tensorflow_load_says_what_to_install(run_python, tmp_path: Path) -> None:
    kind, message = run_python(WITHOUT, args=[tmp_path]).check().stdout.splitlines()
    assert kind == "ImportError"
    assert "TensorFlow" in message
    for name in "pip install 'tfhub-cache[tensorflow]'", "tensorflow-cpu", "tf-nightly":
        assert name in message


def test_without_tensorflow_load_fails_before_anything_is_downloaded(
    run_python, host: Host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", models.pack_files(models.fake_model(size=1000)))
    assert "pip install" in run_python(WITHOUT, args=[handle]).check().stdout
    assert host.requests == []
    assert not cache_dir.exists()


def test_without_tensorflow_resolve_works(run_python, host: Host, cache_dir: Path) -> None:
    files = models.fake_model(size=1000)
    handle = host.publish("/m/1", models.pack_files(files))
    code = WITHOUT.replace("hub.load(sys.argv[1])", "print(hub.resolve(sys.argv[1]))")
    path = run_python(code, args=[handle]).check().stdout.strip()
    assert models.read_files(path) == files


@pytest.mark.parametrize(
    "around", ["{}\n", "  {}", "\t{}\r\n", "\n{} ", "\u3000{}\xa0", "\ufeff{}\u200b\n"]
)
def test_white_space_around_a_handle_makes_no_other_model(
    host: Host, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    files = models.fake_model(size=1000)
    handle = host.publish("/m/1", models.pack_files(files))
    path = hub.resolve(around.format(handle))
    assert models.read_files(path) == files
    assert hub.resolve(handle) == path
    assert hub.cache.find(around.format(handle)).handle == handle
    written = hub.cache.lock([around.format(handle), handle], cache_dir / "models.lock")
    assert set(written) == {handle}
    monkeypatch.setenv("TFHUB_LOCKFILE", str(cache_dir / "models.lock"))
    assert hub.cache.refresh(around.format(handle)) == path
    assert len(host.requests) == 2
    assert hub.cache.remove([around.format(handle)])[0].error is None
    assert hub.cache.entries() == []


def test_white_space_is_a_part_of_a_path(tmp_path: Path) -> None:
    (tmp_path / " a ").mkdir()
    for path in f"{tmp_path}/ a ", f"file://{tmp_path}/ a ":
        assert hub.resolve(path) == path


def test_white_space_around_what_is_read_where_it_is_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "UNCOMPRESSED")
    monkeypatch.setenv("TFHUB_OFFLINE", "1")
    with pytest.raises(errors.OfflineError, match=r"^gs://test-bucket/m is not on this machine"):
        hub.resolve(" gs://test-bucket/m\n")
    with pytest.raises(errors.OfflineError, match=r"resolve http://h/m/1$"):
        hub.resolve(" http://h/m/1\n")


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (
            "raise ImportError('libcudart.so.12: cannot open shared object file')",
            "ImportError",
            "libcudart.so.12: cannot open shared object file",
        ),
        (
            "import a_library_that_is_not_there",
            "ModuleNotFoundError",
            "No module named 'a_library_that_is_not_there'",
        ),
        (
            "from tensorflow import python",
            "ImportError",
            "cannot import name 'python' from partially initialized module 'tensorflow'",
        ),
        (
            "import tensorflow.python",
            "ModuleNotFoundError",
            "No module named 'tensorflow.python'",
        ),
    ],
    ids=["a library", "a dependency", "a name", "a part"],
)
def test_a_broken_tensorflow_says_itself_what_is_broken(
    run_python, tmp_path: Path, source: str, kind: str, message: str
) -> None:
    package = tmp_path / "broken" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    code = WITHOUT.replace('sys.modules["tensorflow"] = None', "")
    done = run_python(code, args=[tmp_path], env={"PYTHONPATH": package.parent})
    seen_kind, seen_message = done.check().stdout.splitlines()
    assert seen_kind == kind
    assert seen_message.startswith(message)


LOOKED_FOR = """
import sys, types
from importlib.machinery import ModuleSpec
import tfhub_cache as hub

looked_for = []


class TensorFlow:
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow":
            looked_for.append(name)
            return ModuleSpec(name, self)

    def create_module(self, spec):
        return types.ModuleType(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, TensorFlow())
try:
    hub.load(sys.argv[1])
except ValueError as error:
    print(error, looked_for)
"""


def test_load_looks_for_tensorflow_before_the_download_and_when_it_imports_it(
    run_python, tmp_path: Path
) -> None:
    said = run_python(LOOKED_FOR, args=[tmp_path]).check().stdout
    assert said.startswith("Trying to load a model of incompatible/unknown type.")
    assert said.endswith(" ['tensorflow', 'tensorflow']\n")


def _tf():
    import tensorflow

    return tensorflow


@pytest.mark.tensorflow
def test_a_tensorflow_that_cannot_read_the_bucket_is_reported_and_the_way_out_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # hdfs:// stands for gs:// on Windows: no build of TensorFlow reads it without a plugin.
    monkeypatch.setattr("tfhub_cache.loading.resolve", lambda handle: "hdfs://host/model")
    monkeypatch.setattr("tfhub_cache.loading.exists", lambda path: "tfhub_module" not in path)
    with pytest.raises(errors.ResolveError, match=r"can't read hdfs://.*COMPRESSED"):
        hub.load("https://tfhub.dev/google/nnlm/2")


def test_a_scheme_means_the_same_in_upper_case(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = host.publish("/upper/1", models.pack_files(models.fake_model(size=100)))
    cache = tmp_path / "cache"
    for spelling in f"FILE://{cache}", f"File://localhost{cache}":
        monkeypatch.setenv("TFHUB_CACHE_DIR", spelling)
        assert hub.resolve(handle).removeprefix("file://").startswith(str(cache))
    assert len(host.requests) == 1
    assert hub.resolve(f"FILE://{tmp_path}") == f"file://{tmp_path}"
