"""A cache on disk that several users share: none is led astray by another's links."""

import os
from pathlib import Path

import pytest
from entries import key_of, names
from models import fake_model, pack_files, read_files, write_files
from servers import Host

import tfhub_cache as hub
from tfhub_cache.errors import CacheError

MODEL = fake_model()
NOBODY = 65534
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can act for another user"
)


def planted_link(path: Path, target: Path) -> None:
    """A link that another user has put there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    os.lchown(path, NOBODY, NOBODY)


@needs_root
def test_a_link_of_another_user_in_place_of_the_cache_is_not_followed(
    host: Host, cache_dir: Path, tmp_path: Path
) -> None:
    """Promise 11: no following of links that another user planted."""
    handle = host.publish("/m/1", pack_files(MODEL))
    write_files({"saved_model.pb": b"evil"}, tmp_path / "trap" / key_of(handle))
    planted_link(cache_dir, tmp_path / "trap")
    with pytest.raises(CacheError, match="another user") as error:
        hub.resolve(handle)
    assert str(cache_dir) in str(error.value)
    assert len(list((tmp_path / "trap").iterdir())) == 1


@needs_root
def test_a_link_of_another_user_in_place_of_a_model_is_replaced(
    host: Host, cache_dir: Path, tmp_path: Path
) -> None:
    """Promise 11: no following of links that another user planted."""
    handle = host.publish("/m/1", pack_files(MODEL))
    trap = write_files({"saved_model.pb": b"evil"}, tmp_path / "trap")
    planted_link(cache_dir / key_of(handle), trap)
    assert read_files(hub.resolve(handle)) == MODEL
    assert not (cache_dir / key_of(handle)).is_symlink()
    assert read_files(trap) == {"saved_model.pb": b"evil"}


@needs_root
def test_a_link_in_place_of_the_lock_file_is_refused(
    host: Host, cache_dir: Path, tmp_path: Path
) -> None:
    """Promise 11: no following of links that another user planted."""
    handle = host.publish("/m/1", pack_files(MODEL))
    victim = tmp_path / "victim"
    victim.write_text("")
    planted_link(cache_dir / f"{key_of(handle)}.lock", victim)
    with pytest.raises(CacheError, match=r"symbolic links.*\.lock"):
        hub.resolve(handle)
    assert victim.read_text() == ""


def test_a_link_of_ones_own_is_followed(host: Host, cache_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "big disk").mkdir()
    cache_dir.symlink_to(tmp_path / "big disk")
    handle = host.publish("/m/1", pack_files(MODEL))
    assert hub.resolve(handle) == str(cache_dir / key_of(handle))
    assert read_files(tmp_path / "big disk" / key_of(handle)) == MODEL


def test_what_dead_downloads_left_is_swept_and_other_files_stay(
    host: Host, cache_dir: Path
) -> None:
    """Promise 9: what a killed process left behind is removed by the next download."""
    handle = host.publish("/m/1", pack_files(MODEL))
    other = key_of("another handle")
    write_files({"half": b"x"}, cache_dir / f"{key_of(handle)}.cache-0.tmp")
    write_files({"half": b"x"}, cache_dir / f"{key_of(handle)}.{'0' * 32}.tmp")
    write_files({"old": b"x"}, cache_dir / f"{key_of(handle)}.cache-1.old.tmp")
    (cache_dir / f"{key_of(handle)}.cache-1.manifest.tmp").write_text("{")
    write_files({"half": b"x"}, cache_dir / f"{other}.cache-2.tmp")
    (cache_dir / "notes.tmp").write_text("mine")
    hub.resolve(handle)
    assert names(cache_dir) == {
        key_of(handle),
        f"{key_of(handle)}.descriptor.txt",
        f"{key_of(handle)}.manifest.json",
        f"{other}.cache-2.tmp",
        "notes.tmp",
    }


def test_what_another_process_published_in_the_meantime_stays(host: Host, cache_dir: Path) -> None:
    """Promise 8: neither library publishes over the other."""
    theirs = {**MODEL, "assets/vocab.txt": b"theirs"}
    archive = pack_files(MODEL)
    handle = host.url + "/m/1"

    def answer_late(request) -> None:
        write_files(theirs, cache_dir / key_of(handle))
        request.answer(200, archive)

    host.route("/m/1", answer_late)
    assert read_files(hub.resolve(handle)) == theirs
    assert read_files(hub.resolve(handle)) == theirs
    assert len(host.requests) == 1
    assert names(cache_dir) == {key_of(handle)}
