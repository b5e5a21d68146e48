"""`tfhub-cache stand-in`: each process of an environment gets this library as tensorflow_hub."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Finished

import tfhub_cache

PACKAGE = Path(tfhub_cache.__file__).parent
FOLDER = PACKAGE / "stand_in" / "site-packages"
SITE_PACKAGES = Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
SCRIPTS = Path(sysconfig.get_path("scripts")).relative_to(sys.prefix)
SHOW = "import tensorflow_hub; print(tensorflow_hub.__file__)\n"
OURS = f"{FOLDER / 'tensorflow_hub' / '__init__.py'}\n"


@dataclasses.dataclass
class Environment:
    """A virtual environment in which this library and what it needs are installed."""

    folder: Path
    real: Path
    """A tensorflow_hub that is installed in it, too."""

    @property
    def site_packages(self) -> Path:
        return self.real.parent.parent

    def python(self, *arguments: str | Path, **environment: str | Path) -> Finished:
        done = subprocess.run(
            [self.folder / SCRIPTS / "python", *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        return Finished(done.stdout, done.stderr, done.returncode)

    def stand_in(self, *arguments: str, **environment: str | Path) -> str:
        command = ("-m", "tfhub_cache", "stand-in", *arguments)
        return self.python(*command, **environment).check().stdout

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}


@pytest.fixture
def make(tmp_path: Path, write: Callable[[str, str], Path]) -> Callable[..., Environment]:
    def make(name: str, *options: str, package: Path = PACKAGE) -> Environment:
        folder = tmp_path / name
        command = [sys.executable, "-m", "venv", "--without-pip", *options, str(folder)]
        subprocess.run(command, check=True, timeout=60)
        site_packages = folder / SITE_PACKAGES
        real = write(str(site_packages / "tensorflow_hub" / "__init__.py"), "'''The real one.'''")
        # Named so that it is read first, as that of an editable installation.
        write(
            str(site_packages / "_installed.pth"),
            f"{package.parent}\n{sysconfig.get_path('purelib')}\n",
        )
        return Environment(folder, real)

    return make


@pytest.fixture
def environment(make: Callable[..., Environment]) -> Environment:
    return make("environment")


MULTIPROCESSING = """
import multiprocessing

def file(_=None):
    import tensorflow_hub
    return tensorflow_hub.__file__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(file))
"""


def test_every_process_of_the_environment_gets_this_library(
    environment: Environment, write: Callable[[str, str], Path], tmp_path: Path
) -> None:
    assert environment.python("-c", SHOW).check().stdout == f"{environment.real}\n"
    environment.stand_in("enable")

    script = write("show.py", SHOW)
    starts = write(
        "starts.py",
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {SHOW!r}], env={{}}, check=True)\n",
    )
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.write(script, "__main__.py")
    for program in (
        ["-c", SHOW],
        [script],
        ["-I", script],
        ["-E", "-s", "-P", script] if sys.version_info >= (3, 11) else ["-E", "-s", script],
        [tmp_path / "app.pyz"],
        [starts],
        [write("pool.py", MULTIPROCESSING)],
    ):
        assert environment.python(*program).check().stdout == OURS, program


@pytest.mark.tensorflow
def test_what_programs_ask_of_tensorflow_hub_is_that_of_the_stand_in(
    environment: Environment,
) -> None:
    environment.stand_in("enable")
    code = (
        "import importlib.metadata, importlib.util, tensorflow_hub.keras_layer, tfhub_cache\n"
        "print(importlib.metadata.version('tensorflow_hub'), tensorflow_hub.__version__)\n"
        "print(importlib.util.find_spec('tensorflow_hub.resolver').name)\n"
        "print(tensorflow_hub.resolve is tfhub_cache.resolve)\n"
    )
    seen = environment.python("-c", code).check().stdout
    assert seen == "0.16.1 0.16.1\ntensorflow_hub.resolver\nTrue\n"


def test_a_process_that_imports_nothing_of_it_imports_nothing_for_it(
    environment: Environment,
) -> None:
    code = "import sys; print(sorted(sys.modules))"
    before = environment.python("-c", code).check()
    environment.stand_in("enable")
    assert environment.python("-c", code) == before


def test_disabling_removes_what_enabling_made_and_nothing_else(environment: Environment) -> None:
    first = environment.stand_in("status")
    before = environment.files()
    once = environment.stand_in("enable")
    assert environment.stand_in("enable") == once
    assert len(environment.files() - before) == 1
    for _ in range(2):
        assert environment.stand_in("disable") == first
        assert environment.files() == before
    assert environment.python("-c", SHOW).check().stdout == f"{environment.real}\n"


def test_the_status_says_what_is_in_force_and_which_one_is_hidden(
    environment: Environment,
) -> None:
    assert environment.stand_in("status").splitlines() == [
        f"environment            {environment.folder}",
        f"import tensorflow_hub  {environment.real}",
    ]
    assert environment.stand_in("enable").splitlines() == [
        f"environment            {environment.folder}",
        f"enabled by             {environment.site_packages / 'tfhub_cache_enabled.pth'}",
        "import tensorflow_hub  this library",
        f"instead of             {environment.real}",
    ]
    assert environment.stand_in("status") == environment.stand_in("enable")


def test_what_the_other_distribution_enables_is_shown_and_stays(environment: Environment) -> None:
    source = Path(__file__).parent.parent / "stand-in" / "tfhub_cache_stand_in.pth"
    brought = environment.site_packages / source.name
    shutil.copy(source, brought)
    environment.stand_in("enable")
    done = environment.python("-m", "tfhub_cache", "stand-in", "disable")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line.startswith("enabled by")] == [
        f"enabled by             {brought}"
    ]
    assert "import tensorflow_hub  this library" in done.stdout
    assert "distribution tfhub-cache-stand-in still enables it" in done.stderr


def test_programs_read_the_status_as_json(environment: Environment) -> None:
    name = str(environment.folder)
    assert json.loads(environment.stand_in("--json")) == {
        "format": 1,
        "environment": name,
        "is_ours": False,
        "files": [],
        "imported": str(environment.real),
        "hidden": str(environment.real),
    }
    assert json.loads(environment.stand_in("enable", "--json")) == {
        "format": 1,
        "environment": name,
        "is_ours": True,
        "files": [str(environment.site_packages / "tfhub_cache_enabled.pth")],
        "imported": OURS.rstrip(),
        "hidden": str(environment.real),
    }


def test_environments_do_not_affect_each_other(make: Callable[..., Environment]) -> None:
    one, other = make("one"), make("other")
    one.stand_in("enable")
    assert one.python("-c", SHOW).check().stdout == OURS
    assert other.python("-c", SHOW).check().stdout == f"{other.real}\n"
    other.stand_in("enable")
    one.stand_in("disable")
    assert one.python("-c", SHOW).check().stdout == f"{one.real}\n"
    assert other.python("-c", SHOW).check().stdout == OURS


def test_python_starts_silently_where_this_library_was_removed_and_finds_it_when_it_is_back(
    make: Callable[..., Environment], tmp_path: Path
) -> None:
    copy = tmp_path / "installed" / "tfhub_cache"
    shutil.copytree(PACKAGE, copy)
    environment = make("environment", package=copy)
    environment.stand_in("enable")
    ours = environment.python("-c", SHOW).check()
    assert str(copy) in ours.stdout

    copy.rename(tmp_path / "removed")
    assert environment.python("-c", SHOW).check() == Finished(f"{environment.real}\n", "", 0)
    (tmp_path / "removed").rename(copy)
    assert environment.python("-c", SHOW).check() == ours


def test_a_stand_in_of_another_installation_is_reported_and_enabling_it_again_helps(
    make: Callable[..., Environment], tmp_path: Path
) -> None:
    environment = make("environment")
    environment.stand_in("enable")
    copy = tmp_path / "installed" / "tfhub_cache"
    shutil.copytree(PACKAGE, copy)
    (environment.site_packages / "_installed.pth").write_text(
        f"{copy.parent}\n{sysconfig.get_path('purelib')}\n"
    )
    seen = environment.python("-m", "tfhub_cache", "stand-in")
    assert seen.returncode == 1
    assert f"import tensorflow_hub  {OURS}" in seen.stdout
    assert "enable it again" in seen.stderr
    assert "import tensorflow_hub  this library" in environment.stand_in("enable")


@pytest.mark.parametrize("enabled_in", ["environment", "system"])
def test_it_works_in_an_environment_over_the_packages_of_the_system(
    make: Callable[..., Environment],
    write: Callable[[str, str], Path],
    tmp_path: Path,
    enabled_in: str,
) -> None:
    """The user's packages are read as those of the system are, after the environment's."""
    environment = make("environment", "--system-site-packages")
    user = {"PYTHONUSERBASE": str(tmp_path / "user")}
    code = "import site; print(site.getusersitepackages())"
    of_system = Path(environment.python("-c", code, **user).check().stdout.strip())
    of_system.mkdir(parents=True)
    for each in environment.real.parent, environment.site_packages / "_installed.pth":
        each.rename(of_system / each.name)
    real = of_system / "tensorflow_hub" / "__init__.py"
    assert environment.python("-c", SHOW, **user).check().stdout == f"{real}\n"

    seen = environment.stand_in("enable", **user).splitlines()
    assert seen[-2:] == ["import tensorflow_hub  this library", f"instead of             {real}"]
    if enabled_in == "system":
        name = "tfhub_cache_enabled.pth"
        (environment.site_packages / name).rename(of_system / name)
    assert environment.python("-c", SHOW, **user).check().stdout == OURS


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The standard library of an installation of Python, without packages."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    home = tmp_path / "usr" / stdlib.relative_to(sys.base_prefix)
    home.mkdir(parents=True)
    for part in stdlib.iterdir():
        if part.name not in ("site-packages", "EXTERNALLY-MANAGED"):
            (home / part.name).symlink_to(part)
    (home / "site-packages").mkdir()
    return home


def enabled_in_system(tmp_path: Path, **environment: str) -> Finished:
    base = Path(sys.base_prefix, SCRIPTS, Path(sys.executable).name)
    done = subprocess.run(
        [base, "-m", "tfhub_cache", "stand-in", "enable"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHOME": str(tmp_path / "usr"), **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Finished(done.stdout, done.stderr, done.returncode)


def test_where_only_one_user_has_it_the_others_are_left_alone(system: Path, tmp_path: Path) -> None:
    of_user = tmp_path / "user" / system.relative_to(tmp_path / "usr") / "site-packages"
    of_user.mkdir(parents=True)
    (of_user / "tfhub_cache").symlink_to(PACKAGE)
    packages = f"{of_user}{os.pathsep}{sysconfig.get_path('purelib')}"
    user = {"PYTHONPATH": packages, "PYTHONUSERBASE": str(tmp_path / "user")}
    shown = enabled_in_system(tmp_path, **user).check().stdout
    assert f"enabled by             {of_user / 'tfhub_cache_enabled.pth'}\n" in shown
    assert "import tensorflow_hub  this library" in shown
    assert list((system / "site-packages").iterdir()) == []


# What can't be enabled.


def test_an_environment_that_the_system_manages_is_refused(system: Path, tmp_path: Path) -> None:
    (system / "EXTERNALLY-MANAGED").write_text("[externally-managed]\nError=Use apt.\n")
    packages = f"{PACKAGE.parent}{os.pathsep}{sysconfig.get_path('purelib')}"
    done = enabled_in_system(tmp_path, PYTHONPATH=packages)
    assert done.returncode == 1
    assert f"can't be enabled in {tmp_path / 'usr'}: the system's package manager" in done.stderr
    assert "virtual environment" in done.stderr
    assert list((system / "site-packages").iterdir()) == []


WITHOUT_RIGHTS_OF_ROOT = """
import ctypes, os, sys
if os.geteuid() == 0:
    PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # <linux/prctl.h>, <linux/capability.h>
    assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, "-m", "tfhub_cache", "stand-in", "enable"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, root may write everything")
def test_an_environment_that_may_not_be_written_is_refused(environment: Environment) -> None:
    before = environment.files()
    environment.site_packages.chmod(0o555)
    done = environment.python("-c", WITHOUT_RIGHTS_OF_ROOT)
    assert done.returncode == 1
    reason = f"{environment.site_packages / 'tfhub_cache_enabled.pth'} can't be written: Permission"
    assert f"can't be enabled in {environment.folder}: {reason}" in done.stderr
    assert "python -m tfhub_cache run script.py" in done.stderr
    assert environment.files() == before
