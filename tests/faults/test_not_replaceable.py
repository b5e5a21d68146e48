"""Damaged models in a cache that can't be replaced: each is an error, and never a path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import models
import pytest
from checker import Checker
from children import Child, Outcome
from servers import Host

Children = Callable[..., Child]
OWNER, OTHER = 1001, 1002


@pytest.fixture
def shared(public_dir: Path) -> Checker:
    """A cache that every user may write to, as a temporary folder is."""
    cache = Checker(public_dir / "cache")
    cache.cache.mkdir()
    cache.cache.chmod(0o1777)
    return cache


def is_refused(outcome: Outcome, handle: str, *words: str) -> None:
    """Fails unless it names the handle, what is wrong, why it stays so, and what to do."""
    assert outcome.path is None
    assert "CacheError" in outcome.error
    for word in handle, "fetching it again failed", "TFHUB_CACHE_DIR", *words:
        assert word in outcome.message


def state(cache: Path) -> dict[str, object]:
    """Everything in a cache."""
    return {
        str(path.relative_to(cache)): path.lstat().st_mtime_ns for path in sorted(cache.rglob("*"))
    }


def lose_a_file(cache: Checker, handle: str) -> None:
    (cache.entry(handle) / "saved_model.pb").unlink()


def cut_a_file(cache: Checker, handle: str) -> None:
    os.truncate(cache.entry(handle) / "saved_model.pb", 0)


def spoil_the_manifest(cache: Checker, handle: str) -> None:
    Path(f"{cache.entry(handle)}.manifest.json").write_text("{")


def plant_a_link(cache: Checker, handle: str) -> None:
    """The owner of an entry puts a link in its place, to a folder that looks like a model."""
    entry = cache.entry(handle)
    elsewhere = cache.cache.parent / "elsewhere"
    shutil.move(entry, elsewhere)
    (elsewhere / "saved_model.pb").write_bytes(b"theirs")
    Path(f"{entry}.manifest.json").unlink()
    entry.symlink_to(elsewhere)
    os.lchown(entry, OWNER, OWNER)


def leave_the_manifest(cache: Checker, handle: str) -> None:
    shutil.rmtree(cache.entry(handle))
    Path(f"{cache.entry(handle)}.descriptor.txt").unlink()


def test_what_another_user_has_put_beside_a_model_that_is_absent_is_an_error_before_the_download(
    host: Host, child: Children, shared: Checker, packed: bytes
) -> None:
    handle = host.publish("/demo/model/1", packed)
    child(handle, cache=shared.cache, uid=OWNER).outcome().check()
    leave_the_manifest(shared, handle)
    before = state(shared.cache)
    outcome = child(handle, cache=shared.cache, uid=OTHER).outcome()
    assert "CacheError" in outcome.error
    for word in handle, "sticky", f"{shared.entry(handle)}.manifest.json", "TFHUB_CACHE_DIR":
        assert word in outcome.message
    assert len(host.requests) == 1
    assert state(shared.cache) == before


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lose_a_file, "saved_model.pb is missing"),
        (cut_a_file, "saved_model.pb has 0 bytes"),
        (spoil_the_manifest, "its manifest can't be read"),
        (plant_a_link, "another user has put a link in its place"),
    ],
)
def test_a_damaged_model_of_another_user_is_an_error_and_is_not_downloaded_in_vain(
    host: Host,
    child: Children,
    shared: Checker,
    packed: bytes,
    damage: Callable[[Checker, str], None],
    what: str,
) -> None:
    """Promises 3, 4 and 11: what is returned is intact, even if others may replace it."""
    handle = host.publish("/demo/model/1", packed)
    child(handle, cache=shared.cache, uid=OWNER).outcome().check()
    damage(shared, handle)
    before = state(shared.cache)
    other = child(handle, cache=shared.cache, uid=OTHER)
    is_refused(other.outcome(), handle, what, "sticky", str(shared.entry(handle)))
    is_refused(other.resolve_again(), handle, what, "sticky")
    assert len(host.requests) == 1
    assert state(shared.cache) == before


def test_the_owner_of_a_damaged_model_mends_it_for_all(
    host: Host, child: Children, shared: Checker, model: dict[str, bytes], packed: bytes
) -> None:
    handle = host.publish("/demo/model/1", packed)
    owner = child(handle, cache=shared.cache, uid=OWNER)
    owner.outcome().check()
    lose_a_file(shared, handle)
    assert child(handle, cache=shared.cache, uid=OTHER).outcome().error
    owner.resolve_again().check()
    child(handle, cache=shared.cache, uid=OTHER).outcome().check()
    assert shared.is_whole(handle, model)
    shared.is_all(handle)


def test_a_model_that_another_user_keeps_private_is_an_error_and_not_an_unreadable_path(
    host: Host, child: Children, shared: Checker, packed: bytes
) -> None:
    """Their umask lets no other user read it."""
    handle = host.publish("/demo/model/1", packed)
    child(handle, cache=shared.cache, uid=OWNER, umask=0o077).outcome().check()
    before = state(shared.cache)
    other = child(handle, cache=shared.cache, uid=OTHER)
    for outcome in other.outcome(), other.resolve_again():
        is_refused(outcome, handle, "unreadable", "the permission is missing to read")
    assert len(host.requests) == 1
    assert state(shared.cache) == before


def test_a_folder_that_can_not_be_moved_is_not_taken_for_a_model_of_another_process(
    host: Host, child: Children, cache: Checker, packed: bytes, disk: Callable[..., Path]
) -> None:
    """Whatever keeps it from being replaced: here a disk is mounted at its place."""
    handle = host.publish("/demo/model/1", packed)
    cache.cache.mkdir()
    models.write_files({"half": b"of a model"}, disk("size=1m", folder=cache.entry(handle)))
    before = state(cache.cache)
    one = child(handle)
    is_refused(one.outcome(), handle, "damaged", "busy", str(cache.entry(handle)))
    assert len(host.requests) == 1
    assert state(cache.cache) == before
    is_refused(one.resolve_again(), handle, "damaged", "busy")
    assert len(host.requests) == 2
