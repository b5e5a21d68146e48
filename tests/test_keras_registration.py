"""`import tfhub_cache` beside whatever is called keras, in a program without TensorFlow."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KERAS = """
class utils:
    known = {}
    get_custom_objects = staticmethod(lambda: utils.known)
"""
KNOWN = "print(list(keras.utils.get_custom_objects()))"
IS_KNOWN = "['tfhub_cache>KerasLayer']\n"


@pytest.fixture
def ran(run_python: Any, tmp_path: Path) -> Callable[..., str]:
    """What a program prints beside a module `keras`."""

    def run(code: str, keras: str = KERAS, name: str = "keras.py") -> str:
        (tmp_path / name).write_text(keras)
        return run_python(code, env={"PYTHONPATH": tmp_path}, cwd=tmp_path).check().stdout

    return run


@pytest.mark.parametrize(
    "code", ["import keras, tfhub_cache", "import tfhub_cache, keras", "import tf_keras as keras"]
)
def test_the_layer_is_known_to_keras_in_either_order(ran: Any, code: str) -> None:
    name = "tf_keras.py" if "tf_keras" in code else "keras.py"
    assert ran(f"import tfhub_cache\n{code}\n{KNOWN}", name=name) == IS_KNOWN
    assert ran(f"{code}\nimport tfhub_cache\n{KNOWN}", name=name) == IS_KNOWN


@pytest.mark.parametrize("first", ["keras", "tfhub_cache"])
@pytest.mark.parametrize("keras", ["", "utils = 1", "__version__ = None", "__spec__ = None"])
def test_a_module_that_is_called_keras_and_is_not_does_no_harm(
    ran: Any, keras: str, first: str
) -> None:
    code = f"import {first}\nimport tfhub_cache, keras\nprint(keras.__name__)"
    assert ran(code, keras) == "keras\n"


def test_a_stub_in_place_of_keras_does_no_harm(ran: Any) -> None:
    code = (
        "import sys, types; sys.modules['keras'] = object(); sys.modules['tf_keras'] = None\n"
        "import tfhub_cache\ndel sys.modules['keras']\nimport keras\n"
    )
    assert ran(code + KNOWN) == IS_KNOWN


def test_it_can_be_imported_while_another_thread_imports_keras(ran: Any) -> None:
    keras = "import events; events.begun.set(); assert events.go_on.wait(60)\n" + KERAS
    code = (
        "import sys, threading, types\n"
        "events = sys.modules['events'] = types.ModuleType('events')\n"
        "events.begun, events.go_on = threading.Event(), threading.Event()\n"
        "thread = threading.Thread(target=__import__, args=['keras']); thread.start()\n"
        "assert events.begun.wait(60)\n"
        "import tfhub_cache\n"
        "events.go_on.set(); thread.join(60)\n"
        "import keras\n"
        "[one.join(60) for one in threading.enumerate() if one is not threading.main_thread()]\n"
    )
    assert ran(code + KNOWN, keras) == IS_KNOWN


def test_keras_may_import_it(ran: Any) -> None:
    code = (
        "import keras, threading\n"
        "[one.join(60) for one in threading.enumerate() if one is not threading.main_thread()]\n"
    )
    assert ran(code + KNOWN, "import tfhub_cache\n" + KERAS) == IS_KNOWN


def test_a_loader_of_several_modules_goes_on_loading_the_others(ran: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "modules.zip", "w") as file:
        file.writestr("keras.py", KERAS)
        file.writestr("other.py", "print('other')")
    code = (
        "import sys; sys.path.insert(0, 'modules.zip')\nimport tfhub_cache, keras, other\n"
        "print(type(keras.__loader__).__name__, keras.__spec__.loader is keras.__loader__)\n"
    )
    assert ran(code + KNOWN) == f"other\nzipimporter True\n{IS_KNOWN}"


def test_a_loader_of_the_old_kind_goes_on_working(ran: Any) -> None:
    code = (
        "import sys, types\n"
        "from importlib.machinery import ModuleSpec\n"
        "class Old:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        return ModuleSpec(name, self) if name == 'keras' else None\n"
        "    def load_module(self, name):\n"
        "        return sys.modules.setdefault(name, types.ModuleType(name))\n"
        "sys.meta_path.insert(0, Old())\n"
        "import tfhub_cache, keras\nprint(keras.__name__)"
    )
    if sys.version_info >= (3, 12):
        pytest.skip("this Python may have no loaders of the old kind")
    assert ran(code) == "keras\n"


@pytest.mark.parametrize("first", ["wrapt", "tfhub_cache"])
def test_hooks_of_wrapt_are_called_as_well(ran: Any, first: str) -> None:
    pytest.importorskip("wrapt")
    hook = "wrapt.when_imported('keras')(lambda module: print('imported', module.__name__))"
    both = ["import tfhub_cache", f"import wrapt; {hook}"]
    code = "\n".join(both if first == "tfhub_cache" else reversed(both))
    assert ran(f"{code}\nimport keras\n{KNOWN}") == f"imported keras\n{IS_KNOWN}"


def test_reloading_adds_no_second_hook(ran: Any) -> None:
    code = (
        "import importlib, sys, tfhub_cache\n"
        "before = list(sys.meta_path); importlib.reload(tfhub_cache)\n"
        "print(sys.meta_path == before)"
    )
    assert ran(code) == "True\n"


def test_an_import_of_keras_that_fails_fails_as_it_does(ran: Any) -> None:
    code = "import tfhub_cache\ntry:\n    import keras\nexcept OSError as error:\n    print(error)"
    assert ran(code, "raise OSError('broken')") == "broken\n"
