"""`python -m tfhub_cache run`: a program sees what `python` shows it, and this library."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from command import run_command
from processes import Finished


def python(*arguments: str | Path, cwd: Path, **environment: str) -> Finished:
    """`python ...`, started in a folder."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Finished(done.stdout, done.stderr, done.returncode)


def run(*arguments: str | Path, cwd: Path, **environment: str) -> Finished:
    """`python -m tfhub_cache run ...`, started in a folder."""
    return python("-m", "tfhub_cache", "run", *arguments, cwd=cwd, **environment)


@pytest.fixture
def installed(write: Callable[[str, str], Path]) -> dict[str, str]:
    """An environment in which a tensorflow_hub is installed that can't be imported."""
    package = write("installed/tensorflow_hub/__init__.py", "import pkg_resources_of_old")
    return {"PYTHONPATH": str(package.parent.parent)}


def test_a_program_that_imports_tensorflow_hub_gets_this_library(
    write: Callable[[str, str], Path], tmp_path: Path, installed: dict[str, str]
) -> None:
    write("package/__init__.py", "from tensorflow_hub import resolve")
    code = "import sys, package; print(package.resolve(sys.argv[1]), package.resolve.__module__)"
    write("program.py", code)
    for program in ["program.py"], ["-m", "program"], ["-c", code]:
        done = run(*program, tmp_path, cwd=tmp_path, **installed).check()
        assert done.stdout == f"{tmp_path} tfhub_cache.loading\n"


def test_a_program_that_the_program_starts_gets_this_library_too(
    write: Callable[[str, str], Path], tmp_path: Path, installed: dict[str, str]
) -> None:
    code = "import tensorflow_hub; print(tensorflow_hub.resolve.__module__)"
    write("starts.py", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])")
    assert run("starts.py", cwd=tmp_path, **installed).check().stdout == "tfhub_cache.loading\n"


@pytest.mark.skipif(os.name == "nt", reason="a process can't be replaced there")
def test_the_program_has_the_process_and_its_command_line_to_itself(tmp_path: Path) -> None:
    """So whatever Python does before, in and after a program, it does here."""
    code = "import os, sys; print(os.getpid()); print(sys.orig_argv, len(sys.modules))"
    arguments = ["-X", "utf8", "-c", code, "-m", "run"]
    command = [sys.executable, "-m", "tfhub_cache", "run", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        pid, seen = process.communicate(timeout=60)[0].splitlines()
    assert int(pid) == process.pid
    assert seen == python(*arguments, cwd=tmp_path).check().stdout.splitlines()[1]


MULTIPROCESSING = """
import multiprocessing

def resolver():
    import tensorflow_hub
    return tensorflow_hub.registry.resolver

if __name__ == "__main__":
    for how in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(how).Pool(1) as pool:
            print(type(pool.apply(resolver)).__module__)
"""


def test_processes_of_multiprocessing_get_this_library_too(
    write: Callable[[str, str], Path], tmp_path: Path, installed: dict[str, str]
) -> None:
    write("program.py", MULTIPROCESSING)
    ours = ["tfhub_cache.registry"] * len(multiprocessing.get_all_start_methods())
    for program in ["program.py"], ["-m", "program"]:
        done = run(*program, cwd=tmp_path, **installed).check()
        assert done.stdout.split() == ours


# As python itself.

SHOW = """
'''A program.'''
import os, pickle, sys

class Thing:
    size: int = 1

print(sys.argv)
print([entry for entry in sys.path if not entry.endswith("stand_in/site-packages")])
print(__name__, __package__, __doc__, globals().get("__file__"))
print(getattr(__spec__, "name", None), sys.modules["__main__"].Thing is Thing)
print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, Thing.__annotations__)
"""


@pytest.fixture
def programs(write: Callable[[str, str], Path], tmp_path: Path) -> Path:
    """One program in all the forms that python starts."""
    script = write("folder/show.py", SHOW)
    write("package/__init__.py", "VALUE = 7")
    write("package/sub.py", SHOW + "from . import VALUE; print(VALUE)")
    write("package/__main__.py", SHOW + "from .sub import VALUE; print(VALUE)")
    write("-odd.py", SHOW)
    shutil.copy(script, tmp_path / "show.py")
    shutil.copy(script, tmp_path / "folder" / "__main__.py")
    (tmp_path / "link.py").symlink_to(script)
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.write(script, "__main__.py")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["folder/show.py", "a", "-b", "--", "--help", "-m"],
        ["link.py"],
        ["./folder", "a"],
        ["./app.zip", "a"],
        ["-m", "package.sub", "--flag=1"],
        ["-c", SHOW, "a", "-c"],
        ["--", "-odd.py", "a"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]).split("\n")[0],
)
def test_a_program_sees_what_python_shows_it(programs: Path, arguments: list[str]) -> None:
    expected = python(*arguments, cwd=programs).check()
    found = run(*arguments, cwd=programs).check()
    assert found.stdout == expected.stdout
    assert found.stderr == expected.stderr == ""


ENDINGS = {
    "status": "import sys; sys.exit(3)",
    "error with a cause": "try: 1 / 0\nexcept ZeroDivisionError as e: raise KeyError('k') from e",
    "error in an imported module": "import broken",
    "syntax": "x = = 1",
    "warning": "import warnings; warnings.warn('old', DeprecationWarning)",
    "at exit": "import atexit\natexit.register(lambda: print(__import__('__main__').x)); x = 1",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_ends_as_under_python(
    write: Callable[[str, str], Path], tmp_path: Path, ending: str
) -> None:
    write("program.py", ENDINGS[ending])
    write("broken.py", "def fail(): raise ImportError('broken')\nfail()")
    expected = python("program.py", cwd=tmp_path, PYTHONIOENCODING="utf-8")
    found = run("program.py", cwd=tmp_path, PYTHONIOENCODING="utf-8")
    assert found == expected


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_a_program_that_is_interrupted_ends_by_the_signal(
    write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write("program.py", "import os, signal, time; os.kill(os.getpid(), signal.SIGINT)")
    assert run("program.py", cwd=tmp_path).returncode == -signal.SIGINT


@pytest.mark.parametrize(
    "arguments", [["-m", "no_such_module"], ["no/train.py", "--epochs"], ["-m"]]
)
def test_nothing_to_run_is_what_python_says(tmp_path: Path, arguments: list[str]) -> None:
    expected = python(*arguments, cwd=tmp_path)
    assert expected.returncode in (1, 2)
    assert run(*arguments, cwd=tmp_path) == expected


@pytest.mark.parametrize("arguments", [["run"], ["--cache-dir", "c", "run", "train.py"]])
def test_no_program_or_options_before_it_are_status_2_and_say_how_it_is_called(
    arguments: list[str],
) -> None:
    done = run_command(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: tfhub-cache run SCRIPT | -m MODULE")
    assert "For the program's cache set TFHUB_CACHE_DIR" in done.stderr


def test_help_has_examples() -> None:
    for option in "--help", "-h":
        done = run_command("run", option).check()
        assert done.stdout.startswith("usage: tfhub-cache run SCRIPT | -m MODULE")
        assert "tfhub-cache run -m package.train" in done.stdout


def test_options_of_python_itself_stay_in_force(
    write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write("program.py", "import sys; print(sys.flags.optimize, sys.path[0]); assert False")
    done = python("-O", "-m", "tfhub_cache", "run", "program.py", cwd=tmp_path).check()
    assert done.stdout == f"1 {tmp_path}\n"
    done = run("-O", "program.py", cwd=tmp_path).check()
    assert done.stdout == f"1 {tmp_path}\n"
    script = Path(sys.executable).with_name("tfhub-cache")
    done = python("-O", script, "run", "program.py", cwd=tmp_path).check()
    assert done.stdout == f"1 {tmp_path}\n"


@pytest.mark.parametrize("option", ["-I", "-E"])
def test_a_python_that_ignores_pythonpath_is_refused_and_the_way_out_named(
    write: Callable[[str, str], Path], tmp_path: Path, option: str
) -> None:
    write("program.py", "print('started')")
    done = python(option, "-m", "tfhub_cache", "run", "program.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "install_as_tensorflow_hub()" in done.stderr


def test_flags_of_absl_are_the_programs_own(
    write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    write(
        "program.py",
        """
        from absl import app, flags
        import tensorflow_hub as hub

        EPOCHS = flags.DEFINE_integer("epochs", 1, "How often.")

        def main(arguments):
            print(EPOCHS.value, hub.resolver.tfhub_cache_dir(), arguments[1:])

        if __name__ == "__main__":
            app.run(main)
        """,
    )
    done = run("program.py", "--epochs=3", "--tfhub_cache_dir=/c", "x", cwd=tmp_path).check()
    assert done.stdout == "3 /c ['x']\n"
