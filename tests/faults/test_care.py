"""Removing models on bad days: full disks, processes that are killed on the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from checker import Checker
from entries import DAY, left_behind, names, ours
from models import pack_files, read_files
from processes import END_AT_STEP
from servers import Host

import tfhub_cache as hub

A, B = (f"https://example.com/{name}/1" for name in "ab")


def test_room_can_be_made_on_a_full_disk(
    disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock file that there is no room to write into still is a lock."""
    folder = disk("size=1m")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    ours(folder, A, used=2 * DAY)
    ours(folder, B, used=1 * DAY)
    with contextlib.suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    assert hub.cache.free_space() == 0
    pruned = hub.cache.prune(max_size="15kB")
    assert [entry.handle for entry in pruned.removed] == [A]
    assert pruned.errors == []
    assert hub.cache.remove([B])[0].error is None
    assert names(folder) == {"full"}


@pytest.mark.once
def test_whoever_is_killed_while_removing_leaves_a_whole_model_or_none(
    host: Host, cache: Checker, model: dict[str, bytes], run_python
) -> None:
    """At each step that changes something; what is left is swept by the next one."""
    handle = host.publish("/demo/model/1", pack_files(model))
    code = END_AT_STEP + "assert hub.cache.remove([sys.argv[1]])[0].error is None"
    gone = 0
    for step in range(1, 100):
        hub.resolve(handle)
        done = run_python(code, args=[handle, str(step)])
        if done.returncode == 0:
            break
        assert done.returncode == 99, done.stderr
        gone += not cache.is_whole(handle, model)
        if step % 2:
            hub.cache.prune()
            assert not [name for name in names(cache.cache) if name.endswith((".tmp", ".lock"))]
        assert read_files(hub.resolve(handle)) == model
        cache.is_all(handle)
    assert step > 5
    assert gone > 3
    assert names(cache.cache) == set()


def test_a_link_in_place_of_an_entry_is_removed_and_not_what_it_leads_to(
    cache_dir: Path, tmp_path: Path
) -> None:
    target = ours(tmp_path / "elsewhere", A)
    cache_dir.mkdir()
    (cache_dir / target.name).symlink_to(target)
    left_behind(cache_dir, B)
    os.symlink(target, cache_dir / f"{target.name}.cache-1.tmp")
    before = read_files(target)
    assert hub.cache.remove([A])[0].error is None
    hub.cache.prune()
    assert names(cache_dir) == set()
    assert read_files(target) == before


@pytest.mark.once
def test_whoever_is_killed_while_refreshing_leaves_the_old_model_the_new_one_or_none(
    host: Host, cache: Checker, model: dict[str, bytes], run_python
) -> None:
    old, new = {**model, "saved_model.pb": b"old"}, {**model, "saved_model.pb": b"new"}
    code = (
        "import os, sys, tfhub_cache as hub\n"
        "step = 0\n"
        "def watch(event, args):\n"
        "    global step\n"
        "    if event == 'os.rename' and sys.argv[3] in args[0]:\n"
        "        step += 1\n"
        "        if step == int(sys.argv[2]): os._exit(99)\n"
        "sys.addaudithook(watch)\n"
        "hub.cache.refresh(sys.argv[1])"
    )
    seen = set()
    for step in range(1, 100):
        handle = host.publish(f"/demo/{step}", pack_files(old))
        hub.resolve(handle)
        host.publish(f"/demo/{step}", pack_files(new))
        done = run_python(code, args=[handle, str(step), cache.entry(handle).name])
        entry = cache.entry(handle)
        seen.add((entry / "saved_model.pb").read_bytes() if entry.exists() else b"")
        if done.returncode == 0:
            break
        assert done.returncode == 99, done.stderr
        found = hub.cache.find(handle)
        assert found.state == ("ok" if entry.exists() else "incomplete")
        assert read_files(hub.resolve(handle)) in (old, new)
        assert hub.cache.prune().errors == []
        assert {name for name in names(cache.cache) if name.startswith(entry.name)} == {
            entry.name,
            f"{entry.name}.manifest.json",
            f"{entry.name}.descriptor.txt",
        }
    assert seen == {b"old", b"", b"new"}
