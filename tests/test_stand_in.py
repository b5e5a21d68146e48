"""Standing in for tensorflow_hub: programs that import it get this library, unchanged."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import absl
import models
import pytest

import tfhub_cache
from tfhub_cache import stand_in

INSTALL = "import tfhub_cache; tfhub_cache.install_as_tensorflow_hub()\n"
SUBMODULES = (
    "compressed_module_resolver",
    "config",
    "file_utils",
    "module_v2",
    "registry",
    "resolver",
    "tf_utils",
    "uncompressed_module_resolver",
    "version",
)


@pytest.fixture
def other_one(write: Callable[[str, str], Path]) -> dict[str, str]:
    """An environment in which some other tensorflow_hub is installed."""
    write("installed/tensorflow_hub/__init__.py", "from tensorflow_hub import resolver")
    folder = write("installed/tensorflow_hub/resolver.py", "").parent.parent
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def nothing_installed(tmp_path: Path) -> list[str]:
    """A command that starts Python where this library and absl are all that is installed."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for package in (tfhub_cache, absl):
        path = Path(next(iter(package.__path__)))
        (folder / path.name).symlink_to(path)
    code = f"import sys; sys.path.insert(1, {str(folder)!r}); exec(sys.argv.pop(1))"
    return [sys.executable, "-S", "-c", code]


# Other people's packages.


@pytest.fixture
def package(write: Callable[[str, str], Path], tmp_path: Path) -> Path:
    """A package written for tensorflow_hub, with the ways in which such packages use it."""
    write("search/__init__.py", "from search.encoder import Encoder")
    write(
        "search/encoder.py",
        """
        import importlib.metadata
        import importlib.util

        from packaging_of_old import parse

        import tensorflow_hub as hub
        import search.mounted

        if importlib.util.find_spec("tensorflow_hub") is None:
            raise ImportError("pip install search[hub]")
        if parse(hub.__version__) < (0, 12):
            raise ImportError("search needs tensorflow_hub 0.12 or newer")
        if parse(importlib.metadata.version("tensorflow-hub")) < (0, 12):
            raise ImportError("search needs tensorflow_hub 0.12 or newer")


        class Encoder:
            def __init__(self, handle):
                self.path = hub.resolve(handle)
        """,
    )
    write(
        "packaging_of_old.py",
        "def parse(version): return tuple(map(int, version.split('.')[:2]))",
    )
    write(
        "search/mounted.py",
        """
        import re

        from tensorflow_hub import registry
        from tensorflow_hub import resolver

        PAGE = re.compile(r"https://www[.]kaggle[.]com/models/(?P<model>.+)")


        class MountedResolver(resolver.HttpResolverBase):
            def is_supported(self, handle):
                return self.is_http_protocol(handle) and PAGE.match(handle) is not None

            def __call__(self, handle):
                return "/kaggle/input/" + PAGE.match(handle)["model"]


        registry.resolver.add_implementation(MountedResolver())
        """,
    )
    return tmp_path


PROGRAM = """
import sys
import search
import tensorflow_hub, tfhub_cache

print(search.Encoder(sys.argv[1]).path)
print(search.Encoder("https://www.kaggle.com/models/a/b/tensorFlow2/c/1").path)
print(tfhub_cache.resolve("https://www.kaggle.com/models/a/b/tensorFlow2/c/1"))
print([name for name in ("tensorflow", "pkg_resources") if name in sys.modules])
"""


def test_a_package_works_unchanged_where_another_tensorflow_hub_is_installed(
    package: Path, run_python, other_one: dict[str, str], host, cache_dir: Path
) -> None:
    handle = host.publish("/m/1", models.pack_files(models.fake_model(size=1000)))
    done = run_python(INSTALL + PROGRAM, args=[handle], env=other_one, cwd=package).check()
    path, mounted, here, slow = done.stdout.splitlines()
    assert Path(path).parent == cache_dir
    assert mounted == here == "/kaggle/input/a/b/tensorFlow2/c/1"
    assert slow == "[]"


def test_a_package_works_unchanged_where_tensorflow_hub_is_not_installed(
    package: Path, nothing_installed: list[str]
) -> None:
    code = "from importlib.util import find_spec\nassert not find_spec('tensorflow_hub')\n"
    code += INSTALL + PROGRAM
    command = [*nothing_installed, code, str(package)]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == str(package), done.stderr


@pytest.mark.tensorflow
@pytest.mark.parametrize("legacy", ["0", "1"], ids=["Keras 3", "Keras 2"])
def test_a_program_of_tensorflow_hub_loads_a_model_and_a_config_that_names_its_layer(
    run_python, text_embedding: Path, host, archive_of, cache_dir: Path, legacy: str
) -> None:
    handle = host.publish("/m/1", archive_of(text_embedding))
    # Keras 2 imports the module that the config names; Keras 3 takes it from custom objects only.
    code = f"""
import sys
import tensorflow_hub as hub
assert "tensorflow" not in sys.modules
layer = hub.KerasLayer
assert "tensorflow" in sys.modules
from tensorflow_hub import KerasLayer
from tensorflow_hub import *
import tfhub_cache.keras_layer
assert layer is KerasLayer is hub.keras_layer.KerasLayer is tfhub_cache.keras_layer.KerasLayer

import tensorflow as tf
from tensorflow_hub.module_v2 import load as tfhub_load

class Sentences(tf.Module):
    def __init__(self):
        self.embed = hub.load({handle!r})

print(Sentences().embed(tf.constant(["hello world"])).numpy().tolist())
print(tfhub_load(hub.resolve({handle!r}))._is_hub_module_v1)

config = {{
    "module": "tensorflow_hub.keras_layer",
    "class_name": "KerasLayer",
    "registered_name": "KerasLayer",
    "config": {{"name": "embedding", "handle": {handle!r}}},
}}
custom_objects = None
if not {legacy}:
    tf.keras.config.enable_unsafe_deserialization()
    custom_objects = {{"KerasLayer": hub.KerasLayer}}
layer = tf.keras.utils.deserialize_keras_object(config, custom_objects=custom_objects)
assert isinstance(layer, hub.KerasLayer), type(layer)
print(isinstance(layer, tf.keras.layers.Layer), "tf_keras" in str(tf.keras.layers.Layer))
"""
    done = run_python(INSTALL + code, env={"TF_USE_LEGACY_KERAS": legacy}).check()
    vector, is_v1, layer = done.stdout.splitlines()
    assert json.loads(vector)[0] == pytest.approx(models.embedding("hello world"))
    assert is_v1 == "False"
    assert layer == f"True {legacy == '1'}"
    assert len(host.requests) == 1


# What is there under the name.


def test_both_names_lead_to_the_same_objects(run_python) -> None:
    code = """
import tfhub_cache
import tfhub_cache.resolvers.archives, tfhub_cache.resolvers.paths, tfhub_cache.resolvers.folders
import tensorflow_hub as hub
import tensorflow_hub.resolver
from tensorflow_hub.registry import resolver as chain
from tensorflow_hub.module_v2 import load, resolve
from tensorflow_hub.compressed_module_resolver import (
    GcsCompressedFileResolver, HttpCompressedFileResolver)
from tensorflow_hub.uncompressed_module_resolver import HttpUncompressedFileResolver

assert hub.load is load is tfhub_cache.load
assert hub.resolve is resolve is tfhub_cache.resolve
assert hub.registry.resolver is chain is tfhub_cache.registry.resolver
assert isinstance(chain, hub.registry.MultiImplRegister)
for name in tfhub_cache.resolver.__all__:
    assert getattr(tensorflow_hub.resolver, name) is getattr(tfhub_cache.resolver, name), name
assert hub.resolver.PathResolver is tfhub_cache.resolvers.paths.PathResolver
assert HttpCompressedFileResolver is tfhub_cache.resolvers.archives.HttpArchiveResolver
assert GcsCompressedFileResolver is tfhub_cache.resolvers.archives.GcsArchiveResolver
assert HttpUncompressedFileResolver is tfhub_cache.resolvers.folders.HttpFolderResolver
"""
    run_python(INSTALL + code).check()


def test_its_submodules_are_there_without_importing_them_and_need_no_tensorflow(
    run_python,
) -> None:
    code = f"""
import sys
import tensorflow_hub as hub
for name in {SUBMODULES}:
    assert getattr(hub, name) is __import__("tensorflow_hub." + name, fromlist=["x"]), name
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"tensorflow", "requests"}}))
"""
    assert run_python(INSTALL + code).check().stdout == "[]\n"


def test_the_version_is_the_one_whose_interface_is_there(run_python) -> None:
    code = """
import importlib.metadata, tensorflow_hub, tensorflow_hub.version
print(tensorflow_hub.__version__, tensorflow_hub.version.__version__)
print(importlib.metadata.version("tensorflow_hub"), importlib.metadata.version("tensorflow-hub"))
print(tfhub_cache.__version__)
"""
    versions = run_python(INSTALL + code).check().stdout.split()
    assert versions == ["0.16.1"] * 4 + [tfhub_cache.__version__]


@pytest.mark.tensorflow
def test_every_module_of_tensorflow_hub_that_programs_use_is_there() -> None:
    real = importlib.metadata.distribution("tensorflow_hub")
    assert real.version == "0.16.1"
    there = {Path(file).stem for file in real.files or () if file.suffix == ".py"}
    ours = {path.stem for path in Path(stand_in.FOLDER, "tensorflow_hub").glob("*.py")}
    assert there == ours


def test_the_import_system_knows_its_modules(run_python) -> None:
    code = """
import importlib.util, inspect, pkgutil, tensorflow_hub, tensorflow_hub.resolver
for name in "tensorflow_hub", "tensorflow_hub.resolver":
    spec = importlib.util.find_spec(name)
    assert spec.name == name and spec.has_location, spec
    module = __import__(name, fromlist=["x"])
    assert module.__name__ == name and module.__spec__ == spec
    assert inspect.getsource(module) == open(module.__file__).read()
print(sorted(module.name for module in pkgutil.iter_modules(tensorflow_hub.__path__)))
assert "tensorflow_hub" in {module.name for module in pkgutil.iter_modules()}
assert {"KerasLayer", "keras_layer", "load", "resolver"} <= set(dir(tensorflow_hub))
"""
    done = run_python(INSTALL + code).check()
    assert done.stdout == f"{sorted([*SUBMODULES, 'keras_layer'])}\n"


def test_it_can_be_reloaded_and_nothing_is_defined_twice(run_python) -> None:
    code = """
import importlib, sys, tensorflow_hub, tensorflow_hub.resolver
for module in tensorflow_hub, tensorflow_hub.resolver, tensorflow_hub.registry:
    assert importlib.reload(module) is module
for name in [name for name in sys.modules if name.startswith("tensorflow_hub")]:
    del sys.modules[name]
import tensorflow_hub.registry
assert tensorflow_hub.registry.resolver is tfhub_cache.registry.resolver
assert tensorflow_hub.resolver.Resolver is tfhub_cache.resolver.Resolver
"""
    run_python(INSTALL + code).check()


def test_a_registry_that_was_cleared_can_be_filled_again(run_python, tmp_path: Path) -> None:
    code = f"""
import tensorflow_hub as hub
from tensorflow_hub import config
before = [type(each) for each in hub.registry.resolver._impls]
hub.registry.resolver.clear_implementations()
config._run()
assert [type(each) for each in hub.registry.resolver._impls] == before
assert hub.resolve({str(tmp_path)!r}) == {str(tmp_path)!r}
"""
    run_python(INSTALL + code).check()


def test_what_a_test_replaces_in_module_v2_takes_effect(run_python) -> None:
    code = """
from unittest import mock
import tensorflow_hub as hub
from tensorflow_hub import module_v2
with mock.patch.object(module_v2, "resolve", side_effect=KeyError("replaced")):
    for load in hub.load, tfhub_cache.load:
        try:
            load("https://example.com/m/1")
        except KeyError as error:
            print(error)
assert module_v2.resolve is tfhub_cache.resolve is tfhub_cache.loading.resolve
"""
    tensorflow = "import sys, types; sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
    done = run_python(INSTALL + tensorflow + code).check()
    assert done.stdout == "'replaced'\n" * 2


def test_an_archive_is_unpacked_and_one_that_would_leave_its_folder_is_not(
    run_python, tmp_path: Path
) -> None:
    for name, member in ("good", "./variables/a"), ("bad", "../a"):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            file = tarfile.TarInfo(member)
            file.size = 3
            archive.addfile(file, io.BytesIO(b"abc"))
    code = """
import tensorflow_hub as hub
from tensorflow_hub import file_utils, resolver, tf_utils
sizes = []
with open("good.tar.gz", "rb") as file:
    file_utils.extract_tarfile_to_destination(file, "out", log_function=sizes.append)
print(open("out/variables/a").read(), sizes)
try:
    with open("bad.tar.gz", "rb") as file:
        file_utils.extract_tarfile_to_destination(file, "out")
except ValueError as error:
    print(error)
print(resolver.create_local_module_dir("cache/of", "m"), __import__("os").path.isdir("cache/of"))
print([tf_utils.bytes_to_readable_str(n, True) for n in (None, 0, 1023, 1024, 1 << 20, 3 << 40)])
print(tf_utils.absolute_path("gs://b/m"), tf_utils.absolute_path("/a/../b"))
"""
    done = run_python(INSTALL + code, cwd=tmp_path).check()
    assert done.stdout.splitlines() == [
        "abc [3]",
        "Relative path '../a' is invalid.",
        "cache/of/m True",
        "['None', '0B', '1023B', '1.00kB', '1.00MB', '3072.00GB']",
        "gs://b/m /b",
    ]


def test_a_pickle_that_names_tensorflow_hub_can_be_read(run_python) -> None:
    code = """
import pickle
for name in "ModelLoadFormat", "PathResolver":
    assert pickle.loads(f"ctensorflow_hub.resolver\\n{name}\\n.".encode()).__name__ == name
"""
    run_python(INSTALL + code).check()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import tensorflow_hub.tf_v1", "ModuleNotFoundError: No module named 'tensorflow_hub."),
        ("from tensorflow_hub.tools import search", "No module named 'tensorflow_hub.tools'. tf"),
        ("tensorflow_hub.Modula", "AttributeError: module 'tensorflow_hub' has no attribute 'Mod"),
    ],
)
def test_what_is_not_there_is_an_error_that_says_whose_it_is_and_what_to_do(
    run_python, statement: str, message: str
) -> None:
    done = run_python(INSTALL + f"import tensorflow_hub\n{statement}")
    last_line = done.stderr.splitlines()[-1]
    assert message in last_line
    assert "tfhub_cache stands in for tensorflow_hub here" in last_line
    assert "leave out install_as_tensorflow_hub()" in last_line
    assert "`tfhub-cache stand-in disable`" in last_line


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("tensorflow_hub.Module", "AttributeError"),
        ("tensorflow_hub.text_embedding_column", "AttributeError"),
        ("from tensorflow_hub import Module", "ImportError: cannot import name 'Module'"),
        ("from tensorflow_hub import LatestModuleExporter, load", "ImportError"),
        ("from tensorflow_hub import native_module", "ImportError"),
        ("import tensorflow_hub.feature_column", "ModuleNotFoundError"),
        ("from tensorflow_hub.native_module import add_signature", "ModuleNotFoundError"),
    ],
)
def test_what_no_recent_tensorflow_hub_has_is_an_error_that_says_what_to_write_instead(
    run_python, statement: str, kind: str
) -> None:
    done = run_python(INSTALL + f"import tensorflow_hub\n{statement}")
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith(kind)
    assert "since 0.16.0. Use " in last_line
    assert "tensorflow_hub itself" not in last_line


def test_programs_that_try_for_a_name_of_old_do_without_it(run_python) -> None:
    code = """
try:
    from tensorflow_hub import native_module
except ImportError as error:
    assert "tfhub_cache" in str(error), error  # in the path of the module
import tensorflow_hub
assert not hasattr(tensorflow_hub, "Module")
assert getattr(tensorflow_hub, "text_embedding_column", None) is None
"""
    run_python(INSTALL + code).check()


# Before and after tensorflow_hub itself.


@pytest.mark.parametrize(
    "statement", ["import tensorflow_hub", "from tensorflow_hub import resolver"]
)
def test_it_refuses_when_another_tensorflow_hub_is_imported(
    run_python, other_one: dict[str, str], statement: str
) -> None:
    done = run_python(f"{statement}\n{INSTALL}", env=other_one)
    assert done.returncode == 1
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("RuntimeError: tfhub_cache can't stand in for tensorflow_hub: ")
    assert str(Path(other_one["PYTHONPATH"], "tensorflow_hub")) in last_line
    assert "python -m tfhub_cache run script.py" in last_line


def test_it_refuses_when_a_part_of_another_tensorflow_hub_is_left(
    run_python, other_one: dict[str, str]
) -> None:
    code = "import sys, tensorflow_hub.resolver\ndel sys.modules['tensorflow_hub']\n"
    done = run_python(code + INSTALL, env=other_one)
    assert "tensorflow_hub.resolver is imported already" in done.stderr.splitlines()[-1]


def test_it_refuses_when_a_test_has_put_something_in_its_place(run_python) -> None:
    code = "import sys; from unittest import mock\nsys.modules['tensorflow_hub'] = mock.Mock()\n"
    done = run_python(code + INSTALL)
    assert "RuntimeError: tfhub_cache can't stand in" in done.stderr.splitlines()[-1]


def test_its_folder_may_be_in_sys_path_behind_another_one(
    run_python, other_one: dict[str, str]
) -> None:
    path = os.pathsep.join([other_one["PYTHONPATH"], stand_in.FOLDER])
    code = f"{INSTALL}import sys, tensorflow_hub\nprint(tensorflow_hub.__file__)\n"
    code += f"print(sys.path.count({stand_in.FOLDER!r}))"
    file, count = run_python(code, env={"PYTHONPATH": path}).check().stdout.splitlines()
    assert file.startswith(stand_in.FOLDER)
    assert count == "1"


def test_it_refuses_when_something_else_than_sys_path_brings_another_one(run_python) -> None:
    code = """
import sys
from importlib.machinery import ModuleSpec

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, Finder) if name == "tensorflow_hub" else None
    create_module = exec_module = staticmethod(lambda _: None)

sys.meta_path.insert(0, Finder)
"""
    done = run_python(code + INSTALL)
    assert "imported already (a module without a file)" in done.stderr.splitlines()[-1]


def test_having_refused_it_has_changed_nothing(run_python, other_one: dict[str, str]) -> None:
    code = """
import sys, tensorflow_hub, tfhub_cache
before = list(sys.path), list(sys.meta_path)
try:
    tfhub_cache.install_as_tensorflow_hub()
except RuntimeError:
    assert (sys.path, sys.meta_path) == before
else:
    raise AssertionError
"""
    run_python(code, env=other_one).check()


@pytest.mark.tensorflow
def test_with_the_real_tensorflow_hub_it_refuses_after_it_and_wins_before_it(run_python) -> None:
    if importlib.util.find_spec("tensorflow_hub") is None:
        pytest.skip("tensorflow_hub is not installed")
    done = run_python(f"import tensorflow_hub\n{INSTALL}")
    assert "RuntimeError: tfhub_cache can't stand in for tensorflow_hub: " in done.stderr
    code = "import sys, tensorflow_hub\nassert 'tensorflow' not in sys.modules\n"
    run_python(INSTALL + code).check()


def test_calling_it_again_does_nothing_from_many_threads_too(
    run_python, other_one: dict[str, str]
) -> None:
    code = """
import sys, tfhub_cache
from concurrent.futures import ThreadPoolExecutor

def install(number):
    tfhub_cache.install_as_tensorflow_hub()
    import tensorflow_hub
    return tensorflow_hub.registry.resolver

with ThreadPoolExecutor(20) as threads:
    assert set(threads.map(install, range(100))) == {tfhub_cache.registry.resolver}
before = list(sys.path)
tfhub_cache.install_as_tensorflow_hub()
assert sys.path == before
"""
    run_python(code, env=other_one).check()


def test_the_first_entry_of_sys_path_stays_what_it_was(
    run_python, write: Callable[[str, str], Path], other_one: dict[str, str]
) -> None:
    program = write("program.py", f"{INSTALL}import sys; print(sys.path[0])")
    done = run_python(program, env=other_one).check()
    assert done.stdout.strip() == str(program.parent)


def test_a_copy_of_tensorflow_hub_beside_the_script_does_not_count(
    run_python, write: Callable[[str, str], Path]
) -> None:
    write("tensorflow_hub.py", "raise AssertionError")
    program = write(
        "program.py",
        f"{INSTALL}import importlib, tensorflow_hub; importlib.reload(tensorflow_hub)",
    )
    run_python(program).check()


def test_what_is_put_in_front_of_sys_path_later_does_not_count(
    run_python, other_one: dict[str, str]
) -> None:
    code = f"import sys; sys.path.insert(0, {other_one['PYTHONPATH']!r})\n"
    code += "import tensorflow_hub, tensorflow_hub.resolver\n"
    code += "assert tensorflow_hub.resolver.Resolver is tfhub_cache.resolver.Resolver"
    run_python(INSTALL + code).check()


MULTIPROCESSING = """
import multiprocessing

def resolver():
    import tensorflow_hub
    return tensorflow_hub.registry.resolver

if __name__ == "__main__":
    import tfhub_cache
    tfhub_cache.install_as_tensorflow_hub()
    for how in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(how).Pool(1) as pool:
            print(type(pool.apply(resolver)).__module__)
"""


def test_processes_of_multiprocessing_stand_in_too(
    run_python, write: Callable[[str, str], Path], other_one: dict[str, str]
) -> None:
    done = run_python(write("program.py", MULTIPROCESSING), env=other_one).check()
    ours = ["tfhub_cache.registry"] * len(multiprocessing.get_all_start_methods())
    assert done.stdout.split() == ours


def test_with_its_folder_in_pythonpath_every_process_stands_in(
    run_python, other_one: dict[str, str]
) -> None:
    path = os.pathsep.join([stand_in.FOLDER, other_one["PYTHONPATH"]])
    code = "import tensorflow_hub, tfhub_cache\ntfhub_cache.install_as_tensorflow_hub()\n"
    run_python(
        code + "assert tensorflow_hub.resolve is tfhub_cache.resolve", env={"PYTHONPATH": path}
    ).check()
