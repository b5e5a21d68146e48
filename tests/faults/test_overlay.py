"""Models that were baked into a container's image: overlayfs renames no folder of a lower layer."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checker import Checker
from entries import foreign, key_of, left_behind, names, ours
from models import fake_model, pack_files, read_files
from processes import END_AT_STEP, Finished
from servers import Host

import tfhub_cache as hub
from tfhub_cache.store.disk.store import LocalStore

OLD = {**fake_model(size=1000), "saved_model.pb": b"old", "assets/vocab.txt": b"old"}
NEW = {**fake_model(size=1000), "saved_model.pb": b"new", "assets/vocab.txt": b"new"}

Bake = Callable[[], None]


@pytest.fixture
def bake(disk: Callable[..., Path], cache_dir: Path) -> Bake:
    """Makes the cache, as it is, part of an image on which a container runs."""

    def run_a_container() -> None:
        layers = disk("size=16m")
        shutil.copytree(cache_dir, layers / "image", symlinks=True)
        for layer in "upper", "work":
            (layers / layer).mkdir()
        disk(
            f"redirect_dir=off,lowerdir={layers}/image,upperdir={layers}/upper,"
            f"workdir={layers}/work",
            "overlay",
            cache_dir,
        )
        entry = next(path for path in cache_dir.iterdir() if path.is_dir())
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
            entry.rename(cache_dir / "elsewhere")

    return run_a_container


@pytest.fixture
def handle(host: Host, cache_dir: Path) -> str:
    """A model of which the cache has an older version, as of a handle without one."""
    handle = host.publish("/demo/model", pack_files(NEW))
    ours(cache_dir, handle, OLD)
    return handle


def test_a_baked_model_is_refreshed(handle: str, bake: Bake, cache: Checker, host: Host) -> None:
    bake()
    assert read_files(hub.resolve(handle)) == OLD
    assert read_files(hub.cache.refresh(handle)) == NEW
    assert len(host.requests) == 1
    cache.is_all(handle)
    assert read_files(hub.cache.refresh(handle)) == NEW  # it is the container's own now
    cache.is_all(handle)


@pytest.mark.parametrize("lost", ["saved_model.pb", "variables/variables.index"])
def test_a_baked_model_that_lost_a_file_heals(
    lost: str, handle: str, bake: Bake, cache: Checker, host: Host
) -> None:
    """Promise 4."""
    (cache.entry(handle) / lost).unlink()
    bake()
    assert read_files(hub.resolve(handle)) == NEW
    assert len(host.requests) == 1
    cache.is_all(handle)


def test_a_model_that_loses_a_file_in_the_container_heals(
    handle: str, bake: Bake, cache: Checker, host: Host
) -> None:
    bake()
    (cache.entry(handle) / "saved_model.pb").unlink()
    assert read_files(hub.resolve(handle)) == NEW
    assert len(host.requests) == 1
    cache.is_all(handle)


def test_a_baked_model_with_other_contents_is_fixed(
    handle: str, bake: Bake, cache: Checker
) -> None:
    (cache.entry(handle) / "saved_model.pb").write_bytes(b"0ld")
    bake()
    (verified,) = hub.cache.verify([handle], fix=True)
    assert verified.fixed, verified
    assert cache.is_whole(handle, NEW)
    cache.is_all(handle)


def test_a_baked_model_is_removed(handle: str, bake: Bake, cache: Checker) -> None:
    bake()
    (removed,) = hub.cache.remove([handle])
    assert removed.error is None, removed.error
    cache.is_all()
    assert read_files(hub.resolve(handle)) == NEW
    cache.is_all(handle)


def test_baked_models_and_what_a_killed_download_left_are_pruned(
    handle: str, bake: Bake, cache: Checker, cache_dir: Path
) -> None:
    """tensorflow_hub's models, and what was left in the image, too."""
    foreign(cache_dir, "https://example.com/foreign/1")
    left = left_behind(cache_dir, "https://example.com/left/1")
    bake()
    pruned = hub.cache.prune(max_size=0)
    assert pruned.errors == []
    assert pruned.leftovers == left
    assert len(pruned.removed) == 2
    cache.is_all()


@pytest.mark.once
@pytest.mark.parametrize("with_manifest", [True, False])
def test_whoever_is_killed_while_a_baked_model_is_replaced_leaves_the_old_one_the_new_one_or_none(
    host: Host,
    cache: Checker,
    cache_dir: Path,
    bake: Bake,
    run_python: Callable[..., Finished],
    with_manifest: bool,
) -> None:
    """Promise 1, at each step: what readers see then is what they see between two steps."""
    code = END_AT_STEP + "hub.cache.refresh(sys.argv[1])"
    handles = [host.publish(f"/demo/{number}", pack_files(NEW)) for number in range(60)]
    for handle in handles:
        entry = ours(cache_dir, handle, OLD)
        if not with_manifest:  # as tensorflow_hub makes them
            Path(f"{entry}.manifest.json").unlink()
    bake()
    store = LocalStore(str(cache_dir))
    seen = []
    for step, handle in enumerate(handles, 1):
        done = run_python(code, args=[handle, str(step)])
        whole = store.flaw(key_of(handle)) is None
        seen.append((cache.entry(handle) / "saved_model.pb").read_bytes() if whole else b"")
        if whole:
            assert read_files(cache.entry(handle)) == model_with(seen[-1])
        assert read_files(hub.resolve(handle)) == model_with(seen[-1] or b"new")
        if done.returncode == 0:
            break
        assert done.returncode == 99, done.stderr
    assert seen == sorted(seen, key=[b"old", b"", b"new"].index)
    assert {b"old", b"", b"new"} == set(seen)
    assert hub.cache.prune().errors == []
    assert not [name for name in names(cache_dir) if name.endswith((".tmp", ".lock"))]


def model_with(first: bytes) -> dict[str, bytes]:
    """The model that has this file."""
    return NEW if first == b"new" else OLD
