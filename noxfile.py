"""Runs the part of the tests that needs no TensorFlow on the other interpreters of this machine.

The default one runs all tests, by `make unit`.
"""

import os
import shutil
import subprocess
import sys

import nox

nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

# pyenv hides the interpreters that it does not currently point to.
if shutil.which("pyenv"):
    installed = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
    )
    os.environ["PYENV_VERSION"] = ":".join(installed.stdout.split())


DEFAULT = f"{sys.version_info.major}.{sys.version_info.minor}"


@nox.session(python=[v for v in ("3.10", "3.11", "3.12", "3.13") if v != DEFAULT])
def light(session: nox.Session) -> None:
    """Installs the package without TensorFlow, and runs the tests that work without it.

    Those that take long and tell little of an interpreter are run on the default one only.
    """
    session.install("--quiet", "--upgrade", "pip>=25.1")
    session.install("--quiet", "--editable", ".", "--group", "test")
    workers = ("-n", "auto", "--dist", "loadgroup")
    session.run(
        "pytest", *workers, "--quiet", "-m", "not tensorflow and not once", *session.posargs
    )
