"""What importing costs, and what it gives."""

import importlib.metadata
import importlib.resources
import json

import models
import pytest

import tfhub_cache as hub

SLOW = (
    "tensorflow",
    "keras",
    "tf_keras",
    "gcsfs",
    "fsspec",
    "requests",
    "urllib3",
    "aiohttp",
    "tqdm",
    "isal",
    "truststore",
    "kagglehub",
)


@pytest.fixture
def imported_by(run_python):
    """The slow modules that a program has imported when it ends."""

    def imported(code: str, **options) -> set[str]:
        done = run_python(
            f"{code}\nimport sys, json\n"
            "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))",
            **options,
        )
        modules = set(json.loads(done.check().stdout.splitlines()[-1]))
        assert {"tfhub_cache", "absl"} <= modules
        return modules & set(SLOW)

    return imported


def test_importing_it_imports_nothing_that_is_slow(imported_by) -> None:
    assert imported_by("import tfhub_cache") == set()


def test_resolving_a_cached_handle_imports_nothing_that_is_slow(
    imported_by, host, cache_dir
) -> None:
    handle = host.publish("/m/1", models.pack_files(models.fake_model(size=1000)))
    path = hub.resolve(handle)
    host.close()
    code = f"import tfhub_cache as hub\nassert hub.resolve({handle!r}) == {path!r}"
    assert imported_by(code) == set()


def test_resolving_a_local_folder_imports_nothing_that_is_slow(imported_by, tmp_path) -> None:
    code = f"import tfhub_cache as hub\nhub.resolve({str(tmp_path)!r})"
    assert imported_by(code) == set()


def test_downloading_imports_neither_tensorflow_nor_gcsfs(imported_by, host, cache_dir) -> None:
    handle = host.publish("/m/1", models.pack_files(models.fake_model(size=1000)))
    imported = imported_by(f"import tfhub_cache as hub\nhub.resolve({handle!r})")
    assert "requests" in imported
    assert not imported & {"tensorflow", "gcsfs", "fsspec", "aiohttp"}


def test_from_tfhub_cache_import_star_works(run_python) -> None:
    done = run_python(
        "from tfhub_cache import *\n"
        "print(callable(load), callable(resolve))\n"
        "print(registry.__name__, resolver.__name__, __version__)"
    )
    assert done.check().stdout.split() == [
        "True",
        "True",
        "tfhub_cache.registry",
        "tfhub_cache.resolver",
        hub.__version__,
    ]


def test_importing_every_name_with_a_star_imports_nothing_that_is_slow(imported_by) -> None:
    assert imported_by("from tfhub_cache import *") == set()


def test_every_public_name_is_there() -> None:
    assert all(hasattr(hub, name) for name in hub.__all__)
    assert all(hasattr(hub.cache, name) for name in hub.cache.__all__)
    assert not hasattr(hub.cache, "flush")


def test_the_functions_of_the_cache_are_imported_when_they_are_used(run_python) -> None:
    done = run_python(
        "import sys, tfhub_cache as hub\n"
        "before = set(sys.modules); hub.cache.entries\n"
        "print('tfhub_cache.cache.listing' in before, 'tfhub_cache.cache.listing' in sys.modules)"
    )
    assert done.check().stdout == "False True\n"


def test_the_functions_of_the_cache_are_not_hidden_by_modules_of_their_names(run_python) -> None:
    """However many modules of the package are imported before."""
    done = run_python(
        "import importlib, pkgutil, tfhub_cache as hub\n"
        "for module in pkgutil.walk_packages(hub.cache.__path__, 'tfhub_cache.cache.'):\n"
        "    importlib.import_module(module.name)\n"
        "print([name for name in hub.cache.__all__ if not callable(getattr(hub.cache, name))])"
    )
    assert done.check().stdout == "[]\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'tfhub_cache' has no attribute 'Keraslayer'"):
        hub.Keraslayer  # noqa: B018


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("Module", "hub.load"),
        ("load_module_spec", "hub.load"),
        ("text_embedding_column", "hub.KerasLayer"),
        ("image_embedding_column", "hub.KerasLayer"),
        ("create_module_spec", "tf.saved_model.save"),
        ("LatestModuleExporter", "model.export"),
        ("native_module", "tf.saved_model.save"),
        ("get_expected_image_size", "the model's page"),
    ],
)
def test_a_name_of_old_is_an_attribute_error_that_says_what_to_write(
    name: str, instead: str
) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(hub, name)
    assert f"tensorflow_hub has had no {name} since 0.16.0. Use " in str(error.value)
    assert instead in str(error.value)
    assert not hasattr(hub, name)
    with pytest.raises(ImportError, match="cannot import name") as error:
        exec(f"from tfhub_cache import {name}")
    assert instead in str(error.value)


def test_python_suggests_the_name_that_is_nearest(run_python) -> None:
    done = run_python("import tfhub_cache as hub; hub.resolv")
    assert "Did you mean: 'resolve'?" in done.stderr


@pytest.mark.tensorflow
def test_the_layer_is_listed_without_being_imported(imported_by) -> None:
    names = "{'KerasLayer', 'keras_layer'}"
    code = f"import tfhub_cache as hub\nassert {names} <= set(dir(hub)) >= set(hub.__all__)"
    assert imported_by(code) == set()


@pytest.mark.tensorflow
def test_the_layer_is_found_in_every_way_that_programs_import_it(run_python) -> None:
    done = run_python(
        "import tfhub_cache as hub\n"
        "first = hub.keras_layer.KerasLayer\n"
        "from tfhub_cache import KerasLayer as second\n"
        "from tfhub_cache.keras_layer import KerasLayer as third\n"
        "import tensorflow as tf\n"
        "print(hub.KerasLayer is first is second is third)\n"
        "layer = first(lambda x: x)\n"
        "print(isinstance(layer, tf.keras.layers.Layer))"
    )
    assert done.check().stdout.split() == ["True", "True"]


@pytest.mark.parametrize(
    "code", ["hub.KerasLayer", "hub.keras_layer", "from tfhub_cache import KerasLayer"]
)
def test_without_tensorflow_the_layer_says_what_to_install(run_python, code: str) -> None:
    done = run_python(
        f"import sys\nsys.modules['tensorflow'] = None\nimport tfhub_cache as hub\n"
        f"try:\n    {code}\nexcept ImportError as error:\n    print(error)"
    )
    message = done.check().stdout
    assert "hub.KerasLayer needs TensorFlow" in message
    assert "pip install 'tfhub-cache[tensorflow]'" in message


@pytest.mark.tensorflow
def test_without_the_keras_of_the_environment_the_layer_says_what_to_do(run_python) -> None:
    done = run_python(
        "import sys\nsys.modules['tf_keras'] = None\nimport tfhub_cache as hub\n"
        "try:\n    hub.KerasLayer\nexcept ImportError as error:\n    print(error)",
        env={"TF_USE_LEGACY_KERAS": "1"},
    )
    message = done.check().stdout
    assert "pip install tf_keras" in message
    assert "unset TF_USE_LEGACY_KERAS" in message


def test_without_tensorflow_it_can_be_inspected_and_helps(run_python) -> None:
    done = run_python(
        "import sys\nsys.modules['tensorflow'] = None\nimport inspect, pydoc\n"
        "import tfhub_cache as hub\n"
        "print(any(name == 'load' for name, _ in inspect.getmembers(hub)))\n"
        "print('drop-in replacement' in pydoc.render_doc(hub))\n"
        "print({'KerasLayer', 'keras_layer'} & set(dir(hub)))"
    )
    assert done.check().stdout.split() == ["True", "True", "set()"]


def test_tab_completion_shows_the_public_names_and_nothing_else(run_python) -> None:
    done = run_python(
        "import sys\nsys.modules['tensorflow'] = None\nimport rlcompleter\n"
        "import tfhub_cache as hub\ncomplete = rlcompleter.Completer({'hub': hub}).attr_matches\n"
        "for module in 'hub', 'hub.cache':\n"
        "    found = {name[len(module) + 1:].rstrip('()') for name in complete(f'{module}.')}\n"
        "    public = set(eval(module).__all__) - {'__version__'}\n"
        "    print(found ^ public, set(dir(eval(module))) ^ set(eval(module).__all__))"
    )
    assert done.check().stdout == "set() set()\n" * 2


def test_help_lists_what_can_be_done_with_the_cache(run_python) -> None:
    done = run_python(
        "import pydoc\nimport tfhub_cache as hub\n"
        "shown = pydoc.plain(pydoc.render_doc(hub.cache))\n"
        "print([name for name in hub.cache.__all__ if f' {name}' not in shown])"
    )
    assert done.check().stdout == "[]\n"


def test_the_version_is_the_one_that_is_installed() -> None:
    assert hub.__version__ == importlib.metadata.version("tfhub-cache")


def test_type_checkers_find_its_types() -> None:
    assert importlib.resources.files("tfhub_cache").joinpath("py.typed").is_file()
