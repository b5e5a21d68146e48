"""Runs the part of the tests that needs no TensorFlow on every interpreter of this machine."""

import os
import shutil
import subprocess

import nox

nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True

# pyenv hides the interpreters that it does not currently point to.
if shutil.which("pyenv"):
    installed = subprocess.run(
        ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
    )
    os.environ["PYENV_VERSION"] = ":".join(installed.stdout.split())


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def light(session: nox.Session) -> None:
    """Installs the package without TensorFlow, and runs the tests that work without it."""
    session.install("--quiet", "--upgrade", "pip>=25.1")
    session.install("--quiet", "--editable", ".", "--group", "test")
    session.run("pytest", "-n", "auto", "--quiet", "-m", "not tensorflow", *session.posargs)
