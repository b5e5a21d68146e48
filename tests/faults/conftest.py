"""What the tests of faults share: children, and what a cache must look like."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
import pytest
from checker import Checker
from children import Child

collect_ignore_glob = [] if os.name == "posix" else ["test_*.py"]  # these are POSIX's signals


@pytest.fixture(autouse=True)
def _one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests count requests; what several connections do is in test_transfer.py."""
    monkeypatch.setenv("TFHUB_DOWNLOAD_CONNECTIONS", "1")


@pytest.fixture
def child(cache_dir: Path) -> Iterator[Callable[..., Child]]:
    """Makes children that resolve into this test's cache, and ends them.

    `child(handle, stop_at=..., ...)`, see `Child`; `cache=` for another folder.
    """
    children: list[Child] = []

    def make(handle: str, *, cache: Path | str | None = None, **options: Any) -> Child:
        children.append(Child(handle, cache or cache_dir, **options))
        return children[-1]

    yield make
    for one in children:
        one.close()


@pytest.fixture
def cache(cache_dir: Path) -> Checker:
    return Checker(cache_dir)


@pytest.fixture(scope="session")
def model() -> dict[str, bytes]:
    """The files of a small model."""
    return models.fake_model()


@pytest.fixture(scope="session")
def packed(model: dict[str, bytes]) -> bytes:
    return models.pack_files(model)


@pytest.fixture(scope="session")
def long_model() -> dict[str, bytes]:
    """The files of a model of which a half is enough to begin to unpack it."""
    return models.fake_model(size=6_000_000, seed=1)


@pytest.fixture(scope="session")
def long_packed(long_model: dict[str, bytes]) -> bytes:
    return models.pack_files(long_model)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount file systems and be other users")


@pytest.fixture
def public_dir(as_root: None) -> Iterator[Path]:
    """A folder that other users reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="tfhub_cache_test_"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def disk(as_root: None, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system with options as `mount -o` takes them, and returns its folder.

    It is a tmpfs in a folder of its own; `disk(options, kind, folder)` for others.
    """
    mounted: list[Path] = []

    def mount(options: str, kind: str = "tmpfs", folder: Path | None = None) -> Path:
        folder = folder or tmp_path / f"disk{len(mounted)}"
        folder.mkdir(exist_ok=True)
        try:
            subprocess.run(
                ["mount", "-t", kind, "-o", options, kind, folder],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no file system can be mounted here: {error}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", folder], check=True)
