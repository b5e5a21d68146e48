"""Both libraries in one process, imported in either order."""

from __future__ import annotations

import json
from pathlib import Path

import models
import pytest
from entries import key_of
from servers import Host

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("compat")]

FILES = models.fake_model(size=20_000)
PROGRAM = """
import importlib, json, os, sys
first, second, *handles = sys.argv[1:5]
sys.argv[1:5] = []
libraries = [importlib.import_module(name) for name in (first, second)]
resolvers = [importlib.import_module(f"{name}.resolver") for name in (first, second)]
from absl import app

def settings():
    return [[resolver.tfhub_cache_dir(), resolver.model_load_format()] for resolver in resolvers]

seen = {"unparsed": settings()}

def main(arguments):
    seen["rest"] = arguments[1:]
    seen["parsed"] = settings()
    seen["paths"] = [library.resolve(handle) for library, handle in zip(libraries, handles)]
    seen["again"] = [library.resolve(handle) for library, handle in zip(libraries, handles[::-1])]
    os.environ["TFHUB_CACHE_DIR"] = "from/environment"
    seen["environment"] = [setting[0] for setting in settings()]
    print(json.dumps(seen))

app.run(main)
"""


@pytest.mark.parametrize(
    "order", [("tensorflow_hub", "tfhub_cache"), ("tfhub_cache", "tensorflow_hub")]
)
def test_both_libraries_obey_the_flags_in_one_process(
    order: tuple[str, str], host: Host, run_python, tmp_path: Path
) -> None:
    handles = [host.publish(f"/m/{n}", models.pack_files(FILES)) for n in (1, 2)]
    cache = tmp_path / "from flag"
    flags = [f"--tfhub_cache_dir={cache}", "--tfhub_model_load_format=COMPRESSED"]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = run_python(program, args=[*order, *handles, *flags, "argument"]).check()
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["unparsed"] == [[None, "AUTO"]] * 2
    assert seen["rest"] == ["argument"]
    assert seen["parsed"] == [[str(cache), "COMPRESSED"]] * 2
    keys = [key_of(handle) for handle in handles]
    assert seen["paths"] == [str(cache / key) for key in keys]
    assert seen["again"] == seen["paths"][::-1]
    assert seen["environment"] == ["from/environment"] * 2
    assert len(host.requests) == 2
    for path in seen["paths"]:
        assert models.read_files(path) == FILES
