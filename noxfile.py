"""Runs the part of the tests that needs no TensorFlow on the newest interpreter of this machine,
and on the oldest with the oldest libraries that are admitted.

The default one runs all tests, by `make unit`. `nox -s light` runs them on those in between, too.
"""

import os
import shutil
import subprocess
import sys

import nox

nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

os.environ["UV_PYTHON_DOWNLOADS"] = "never"  # what is not here is not tested

# pyenv hides the interpreters that it does not currently point to.
if shutil.which("pyenv"):
    installed = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
    )
    os.environ["PYENV_VERSION"] = ":".join(installed.stdout.split())


OLDEST = "3.10"
DEFAULT = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in ("3.11", "3.12", "3.13") if version != DEFAULT]

installed_here = [version for version in OTHERS if shutil.which(f"python{version}")]
nox.options.sessions = [*(f"light-{version}" for version in installed_here[-1:]), "lowest"]


@nox.session(python=OTHERS)
def light(session: nox.Session) -> None:
    """Installs the package without TensorFlow, and runs the tests that work without it.

    Those that say little of an interpreter, and more of the libraries, are left to the others.
    """
    session.install("--quiet", "--upgrade", "pip>=25.1")
    session.install("--quiet", "--editable", ".", "--group", "test")
    _run_tests(session, "not tensorflow and not once and not libraries")


def _run_tests(session: nox.Session, which: str) -> None:
    workers = ("-n", "auto", "--dist", "loadgroup")
    session.run("pytest", *workers, "--quiet", "-m", which, *session.posargs)


@nox.session(python=OLDEST, venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Runs them on the oldest interpreter, with the oldest of all that pyproject.toml admits."""
    oldest = os.path.join(session.create_tmp(), "oldest.txt")
    compiled = ("uv", "pip", "compile", "--quiet", "pyproject.toml", "--output-file", oldest)
    session.run(*compiled, "--resolution", "lowest-direct", "--python-version", OLDEST)
    session.install("--quiet", "--editable", ".", "--group", "test", "--constraint", oldest)
    _run_tests(session, "not tensorflow and not once")
