"""`pip install "tfhub-cache[stand-in]"`: what it brings, and what installers make of it."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent
SITE_PACKAGES = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
SCRIPTS = Path(sysconfig.get_path("scripts")).relative_to(sys.prefix)
SHOW = "import tensorflow_hub; print(tensorflow_hub.__file__)"
CLIENT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "client"
version = "1"
dependencies = ["tensorflow-hub>=0.12"]

[tool.hatch.build.targets.wheel]
bypass-selection = true
"""


@pytest.fixture(scope="session")
def wheels(built: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The wheels of this repository, and that of a package that needs tensorflow-hub."""
    pytest.importorskip("hatchling")

    def make(folder: Path) -> None:
        client = folder.with_name("client")
        client.mkdir()
        (client / "pyproject.toml").write_text(CLIENT)
        for project in ROOT, ROOT / "stand-in", ROOT / "stand-in" / "tensorflow-hub", client:
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
            subprocess.run(command, cwd=project, check=True, timeout=60)
        leave_out_dependencies(*folder.glob("tfhub_cache-*.whl"))

    return built("wheels", make)


def leave_out_dependencies(wheel: Path) -> None:
    """There is no index here to take them from."""
    whole = wheel.rename(wheel.with_suffix(".whole"))
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(wheel, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            if member.filename.endswith(".dist-info/METADATA"):
                lines = content.splitlines(keepends=True)
                is_kept = [b"Requires-Dist" not in line or b"extra ==" in line for line in lines]
                content = b"".join(itertools.compress(lines, is_kept))
            target.writestr(member, content)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with nothing in it."""
    folder = tmp_path / "environment"
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(command, check=True, timeout=60)
    return folder


def pip(environment: Path, wheels: Path, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", "pip", "--python", environment, *arguments]
    return run(*command, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))


def uv(environment: Path, *arguments: str | Path) -> str:
    uv = pytest.importorskip("uv").find_uv_bin()
    return run(uv, "--offline", "--no-cache", "pip", *arguments, VIRTUAL_ENV=str(environment))


def run(*command: Any, **env: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_what_is_published_has_the_description_that_its_release_is_refused_without(
    wheels: Path,
) -> None:
    """`twine check --strict` refuses a distribution that says nothing of itself."""
    published = sorted(wheels.glob("tfhub_cache*.whl"))
    assert len(published) == 2
    for wheel in published:
        (of_it,) = importlib.metadata.distributions(path=[str(wheel)])
        assert of_it.metadata["Description-Content-Type"] == "text/markdown"
        assert "tfhub_cache" in str(of_it.metadata.get_payload())
        assert of_it.metadata["Author"] == "The tfhub_cache authors"
        assert of_it.metadata.get_all("Project-URL")


def check_it_stands_in(environment: Path) -> None:
    """Fails unless `import tensorflow_hub` imports what is installed in the environment."""
    site_packages = environment / SITE_PACKAGES
    # What this library depends on, which was left out.
    (site_packages / "zz.pth").write_text(sysconfig.get_path("purelib"))
    folder = site_packages / "tfhub_cache" / "stand_in" / "site-packages"
    seen = run(environment / SCRIPTS / "python", "-I", "-c", SHOW)
    assert seen == f"{folder / 'tensorflow_hub' / '__init__.py'}\n"
    (site_packages / "zz.pth").unlink()


def test_the_extra_makes_an_environment_stand_in_until_it_is_uninstalled(
    wheels: Path, environment: Path
) -> None:
    python = environment / SCRIPTS / "python"
    before = run(python, "-c", "import sys; print(sys.path)")
    pip(environment, wheels, "install", "tfhub-cache[stand-in]")
    check_it_stands_in(environment)

    # pip reads sys.path, so it takes what stands in for the real one.
    assert "tfhub.cache" not in pip(environment, wheels, "install", "client")
    assert "No broken requirements" in pip(environment, wheels, "check")

    pip(environment, wheels, "uninstall", "--yes", "tfhub-cache")
    assert run(python, "-c", "import sys; print(sys.path)") == before


def test_pip_takes_it_for_tensorflow_hub_by_a_constraint(
    wheels: Path, environment: Path, tmp_path: Path
) -> None:
    (stand_in,) = wheels.glob("tensorflow_hub-*.whl")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"tensorflow-hub @ {stand_in.as_uri()}\n")
    for _ in range(2):  # the second time, pip finds what stands in, and there's nothing to remove
        pip(environment, wheels, "install", "--constraint", constraints, "client")
    assert "No broken requirements" in pip(environment, wheels, "check")
    check_it_stands_in(environment)


def test_uv_takes_it_for_tensorflow_hub_by_an_override(
    wheels: Path, environment: Path, tmp_path: Path
) -> None:
    (stand_in,) = wheels.glob("tensorflow_hub-*.whl")
    overrides = tmp_path / "overrides.txt"
    overrides.write_text(f"tensorflow-hub @ {stand_in.as_uri()}\n")
    local = ("--no-index", "--find-links", wheels)
    uv(environment, "install", *local, "--overrides", overrides, "client")
    assert "compatible" in uv(environment, "check")
    check_it_stands_in(environment)


def test_uv_leaves_tensorflow_hub_out_by_an_override(
    wheels: Path, environment: Path, tmp_path: Path
) -> None:
    overrides = tmp_path / "overrides.txt"
    overrides.write_text("tensorflow-hub ; sys_platform == 'never'\n")
    both = ("client", "tfhub-cache[stand-in]")
    local = ("--no-index", "--find-links", wheels)
    uv(environment, "install", *local, "--overrides", overrides, *both)
    assert "tensorflow-hub" not in uv(environment, "list")
    check_it_stands_in(environment)
