"""Runs the tests that need no TensorFlow on other interpreters than the one of `make unit`.

`nox` alone runs, on the newest interpreter of this machine, those that say something of an
interpreter, and on the oldest one, with the oldest libraries that are admitted, those that say
something of libraries as well. `nox -s light` runs all on each interpreter of this machine.
`nox -s engines` runs those that need Beam, Ray and Spark.
"""

import os
import shutil
import subprocess
import sys

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

os.environ["UV_PYTHON_DOWNLOADS"] = "never"  # what is not here is not tested

# pyenv hides the interpreters that it does not currently point to.
if shutil.which("pyenv"):
    installed = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
    )
    os.environ["PYENV_VERSION"] = ":".join(installed.stdout.split())


VERSIONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
OLDEST = VERSIONS[0]
DEFAULT = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in VERSIONS if version != DEFAULT]
NEWEST = [version for version in OTHERS if shutil.which(f"python{version}")][-1:]

NO_FAULTS = "--ignore=tests/faults"
"""Kills, full disks and locks of the system are the same to every interpreter."""

nox.options.sessions = [*(f"newest-{version}" for version in NEWEST), "lowest"]


@nox.session(python=VERSIONS)
def light(session: nox.Session) -> None:
    """Runs all tests that need no TensorFlow, except those marked `once`."""
    session.install("--quiet", "--editable", ".", "--group", "test")
    _run_tests(session, "not tensorflow and not once")


@nox.session(python=NEWEST)
def newest(session: nox.Session) -> None:
    """Runs those of them that say more of an interpreter than of servers, libraries and systems."""
    session.install("--quiet", "--editable", ".", "--group", "test")
    _run_tests(session, "not tensorflow and not once and not libraries", NO_FAULTS)


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """Runs those that say more of an interpreter and of libraries than of systems.

    On the oldest interpreter, with the oldest of all that pyproject.toml admits.
    """
    oldest = os.path.join(session.create_tmp(), "oldest.txt")
    compiled = ("uv", "pip", "compile", "--quiet", "pyproject.toml", "--extra", "completion")
    lowest = ("--resolution", "lowest-direct", "--python-version", OLDEST)
    session.run(*compiled, *lowest, "--output-file", oldest)
    session.install("--quiet", "--editable", ".", "--group", "test", "--constraint", oldest)
    _run_tests(session, "not tensorflow and not once", NO_FAULTS)


@nox.session(venv_backend="uv")
def engines(session: nox.Session) -> None:
    """Runs the tests with engines, in an environment in which the package stands in."""
    groups = ("--group", "test", "--group", "engines")
    session.install("--quiet", "--editable", ".", *groups)
    session.install("--quiet", "--no-deps", "--group", "engines-text")
    session.run("tfhub-cache", "stand-in", "enable")
    session.run("pytest", "tests/test_engines.py", *session.posargs)


def _run_tests(session: nox.Session, which: str, *options: str) -> None:
    """Runs twice as many tests at once as there are processors, as most of them wait."""
    workers = ("-n", str(2 * (os.cpu_count() or 1)), "--dist", "loadgroup")
    session.run("pytest", *workers, "--quiet", "-m", which, *options, *session.posargs)
