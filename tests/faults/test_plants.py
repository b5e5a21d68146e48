"""What another user, or a broken disk, puts in the place of a file: a table of plants and commands.

Whatever stands there is damage of that one entry. No command fails for another entry, hangs, or
takes more memory than is there, and none reads what is outside of the cache.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checker import NOBODY
from entries import SHARD, key_of, names, ours, was_used
from models import fake_model, pack_files, read_files
from servers import Host

import tfhub_cache as hub

SOUND = "https://example.com/sound/1"
SECRET = b"what is outside of the cache"
DEEP = 1500
MEMORY = 2 << 30

COMMANDS = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
import tfhub_cache as hub
from tfhub_cache import cli
lock, sound, *planted = sys.argv[2:]

def outcome(function, *args):
    os.environ["TFHUB_CACHE_DIR"] += "/"  # what a process remembers goes by the spelling
    try:
        return function(*args)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"

def offline(handle):
    os.environ["TFHUB_OFFLINE"] = "1"
    try:
        return os.path.normpath(hub.resolve(handle))
    finally:
        del os.environ["TFHUB_OFFLINE"]

def command(*words):
    try:
        return cli.main(list(words))
    except SystemExit as error:
        return error.code

def verified(handles=None):
    return {
        one.handle: [*one.problems, *([str(one.error)] if one.error else [])]
        for one in hub.cache.verify(handles)
    }

seen = {
    "entries": outcome(lambda: {entry.key: entry.state for entry in hub.cache.entries()}),
    "verify": outcome(verified),
    "verify named": outcome(verified, [sound, *planted]),
    "lock": outcome(lambda: sorted(hub.cache.lock([sound], lock))),
    "dry prune": outcome(lambda: [e.handle for e in hub.cache.prune("1PB", dry_run=True).removed]),
    "ls": outcome(command, "ls"),
    "ls --json": outcome(command, "ls", "--json"),
    "verify command": outcome(command, "verify"),
    "info": [outcome(command, "info", handle) for handle in planted],
    "info sound": outcome(command, "info", sound),
    **{handle: outcome(offline, handle) for handle in [sound, *planted]},
}
print("\\n" + json.dumps(seen))
"""


def fifo(path: Path) -> None:
    os.mkfifo(path)


def socket_(path: Path) -> None:
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the name of a socket may not be long
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root can make a device")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "in it").write_bytes(b"x")


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_outside(path: Path) -> None:
    outside = next(above for above in path.parents if above.name == "cache").parent / "outside"
    outside.write_bytes(SECRET)
    path.symlink_to(outside)


def dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere")


def loop(path: Path) -> None:
    path.symlink_to(path)


def of_another_user(plant: Callable[[Path], None]) -> Callable[[Path], None]:
    def planted(path: Path) -> None:
        plant(path)
        if os.geteuid() != 0:
            pytest.skip("only root can act for another user")
        os.lchown(path, NOBODY, NOBODY)

    planted.__name__ = f"{plant.__name__}_of_another_user"
    return planted


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        try:
            file.truncate(50 << 30)
        except OSError:
            pytest.skip("the file system has no files with holes")


def content(name: str, data: bytes) -> Callable[[Path], None]:
    def planted(path: Path) -> None:
        path.write_bytes(data)

    planted.__name__ = name
    return planted


KINDS = [
    fifo,
    socket_,
    device,
    folder,
    link_to_zeros,
    of_another_user(link_to_zeros),
    link_to_outside,
    of_another_user(link_to_outside),
    dangling_link,
    loop,
    sparse,
    content("nested", b"[" * 1_000_000),
    content("infinite", b'{"format": Infinity, "size": Infinity}'),
    content("many_digits", b'{"format": 1, "size": 1' + b"0" * 400 + b"}"),
    content("very_many_digits", b'{"format": 2, "size": ' + b"1" * 5_000_000 + b"}"),
    content("twice", b'{"format": 1, "format": 1}'),
    content("no_object", b"7"),
    content("no_text", b"\xff\xfe\x00"),
    content("nothing", b""),
]
PLACES = [
    ".manifest.json",
    ".descriptor.txt",
    ".lock",
    ".part",
    ".part.json",
    "/saved_model.pb",
    f"/{SHARD}",
    "/variables",
    "",
]


def plant(cache: Path, handle: str, place: str, kind: Callable[[Path], None]) -> None:
    """Makes an entry, and puts something in the place of one of its files."""
    base = cache / key_of(handle)
    ours(cache, handle)
    if place in (".part", ".part.json"):
        (cache / f"{base.name}.part").write_bytes(bytes(100))
        (cache / f"{base.name}.part.json").write_text("{}")
    path = Path(f"{base}{place}")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind(path)


def run_commands(run_python, cache: Path, *handles: str) -> dict:
    """What all commands say, run in a child that has little memory and a bound on time.

    The other entry must not be disturbed.
    """
    done = run_python(
        COMMANDS,
        args=[str(MEMORY), cache.parent / "models.lock", SOUND, *handles],
        env={"TFHUB_CACHE_DIR": cache},
        timeout=100,
    ).check()
    assert SECRET.decode() not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen[SOUND] == str(cache / key_of(SOUND))
    assert seen["entries"][key_of(SOUND)] == "ok"
    assert seen["verify"][SOUND] == seen["verify named"][SOUND] == []
    assert seen["lock"] == [SOUND]
    assert seen["dry prune"] == []
    assert seen["ls"] == seen["ls --json"] == seen["info sound"] == 0
    assert seen["verify command"] in (0, 1)
    assert set(seen["info"]) <= {0, 1}
    return seen


@pytest.mark.once
@pytest.mark.parametrize("place", PLACES)
def test_what_stands_in_the_place_of_a_file_is_damage_of_that_entry_only(
    place: str, host: Host, cache_dir: Path, run_python
) -> None:
    model = fake_model(size=1000)
    ours(cache_dir, SOUND)
    planted: dict[str, Callable[[Path], None]] = {}
    for kind in KINDS:
        handle = host.publish(f"/{kind.__name__}/1", pack_files(model))
        try:
            plant(cache_dir, handle, place, kind)
        except pytest.skip.Exception:
            hub.cache.remove([handle])
        else:
            planted[handle] = kind
    seen = run_commands(run_python, cache_dir, *planted)
    for handle, kind in planted.items():
        is_usable = place in (".descriptor.txt", ".lock", ".part", ".part.json") or (
            # As without a manifest, which may be lost.
            place == ".manifest.json" and kind is dangling_link
        )
        state = seen["entries"].get(key_of(handle))
        if is_usable:
            assert seen[handle] == str(cache_dir / key_of(handle)), kind
            assert state in ("ok", "foreign"), kind
        else:
            assert seen[handle].startswith(("OfflineError", "CacheError")), kind
            assert state == "incomplete", kind
            assert seen["verify named"][handle], kind
    # Online it heals.
    for handle, kind in planted.items():
        assert read_files(Path(hub.resolve(handle))) == model, kind
    assert {entry.state for entry in hub.cache.entries()} <= {"ok", "foreign"}
    hub.cache.prune()
    hub.cache.remove([*planted])
    left = {name for name in names(cache_dir) if not name.startswith(key_of(SOUND))}
    # A lock that is none keeps this one entry from being removed, and says so.
    assert not left or place == ".lock"
    assert read_files(Path(hub.resolve(SOUND))) == model


@pytest.fixture
def make_deep(cache_dir: Path) -> Iterator[Callable[..., None]]:
    """Makes a folder of so many levels, without long paths; pytest could not remove it."""

    def make(path: Path, levels: int = DEEP) -> None:
        path.mkdir(exist_ok=True)
        here = os.open(path, os.O_RDONLY)
        for _ in range(levels):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        os.close(here)

    yield make
    subprocess.run(["rm", "-rf", cache_dir], check=True)


@pytest.mark.once
@pytest.mark.parametrize("place", ["/assets", ".cache-0.tmp", ".cache-0.old.tmp", ".lock", ""])
def test_a_tree_of_many_levels_breaks_no_command_and_is_taken_out_of_the_way(
    place: str, cache_dir: Path, run_python, make_deep: Callable[..., None]
) -> None:
    handle = "https://example.com/deep/1"
    ours(cache_dir, SOUND)
    entry = ours(cache_dir, handle)
    path = Path(f"{entry}{place}")
    if place == "":
        Path(f"{entry}.manifest.json").unlink()
    make_deep(path)
    run_commands(run_python, cache_dir, handle)
    for _ in range(2):
        hub.cache.prune()
        hub.cache.remove([handle])
    left = {name for name in names(cache_dir) if not name.startswith(key_of(SOUND))}
    # Before Python 3.13, `shutil.rmtree` goes only so deep.
    assert all(name.endswith(".gone.tmp") for name in left) or place == ".lock", left


@pytest.mark.once
def test_a_staging_folder_that_leads_elsewhere_is_not_walked_while_waiting(
    cache_dir: Path, tmp_path: Path, as_root: None
) -> None:
    handle = "https://example.com/waiting/1"
    base = cache_dir / key_of(handle)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "large").write_bytes(bytes(1000))
    cache_dir.mkdir()
    Path(f"{base}.lock").write_text("elsewhere.1.0123abcd")
    link = Path(f"{base}.0123abcd.tmp")
    link.symlink_to(elsewhere)
    os.lchown(link, NOBODY, NOBODY)
    (entry,) = hub.cache.entries()
    assert entry.state == "downloading"
    assert entry.size < 1000


@pytest.mark.once
@pytest.mark.parametrize("time", [1e12, -1e12, 2.0**40, -1.0, 253402300799.0])
@pytest.mark.parametrize("place", ["", ".manifest.json", ".lock", ".cache-0.tmp"])
def test_a_time_that_no_calendar_has_breaks_no_command(
    time: float,
    place: str,
    host: Host,
    disk: Callable[[str], Path],
    run_python,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a tmpfs, which keeps any time; other file systems keep those of a few centuries."""
    cache = disk("size=8m") / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(cache))
    model = fake_model(size=1000)
    handle = host.publish("/timeless/1", pack_files(model))
    ours(cache, SOUND)
    entry = ours(cache, handle)
    path = Path(f"{entry}{place}")
    if place == ".lock":
        path.write_text("elsewhere.1.0123abcd")
    elif place == ".cache-0.tmp":
        path.mkdir()
    try:
        os.utime(path, (time, time))
    except OSError:
        pytest.skip("the file system does not keep such a time")
    seen = run_commands(run_python, cache, handle)
    assert seen[handle] == str(entry)
    if place == "":
        os.utime(path, (time, time))
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "1B")
    hub.resolve(host.publish("/another/1", pack_files(model)))
    assert hub.cache.prune(unused_for="1d").errors == []
    assert hub.cache.prune(max_size=0).errors == []


@pytest.mark.once
def test_names_with_newlines_and_bytes_that_are_no_text_break_no_command(
    cache_dir: Path, run_python
) -> None:
    handle = "https://example.com/named/1"
    ours(cache_dir, SOUND)
    entry = ours(cache_dir, handle)
    odd = b"odd\nname\xff\x1b[2J"
    for parent in entry, entry / "assets":
        Path(os.fsdecode(os.fsencode(parent) + b"/" + odd)).write_bytes(b"x")
    for left_behind in b"." + odd + b".tmp", b".part" + odd:
        Path(os.fsdecode(os.fsencode(entry) + left_behind)).write_bytes(b"x")
    (cache_dir / os.fsdecode(odd)).write_bytes(b"not ours")
    seen = run_commands(run_python, cache_dir, handle)
    assert len(seen["verify"][handle]) == 2
    hub.cache.remove([handle])
    hub.cache.prune()
    left = {name for name in names(cache_dir) if not name.startswith(key_of(SOUND))}
    assert left == {os.fsdecode(odd)}


# Links that people make themselves.


def test_links_of_ones_own_to_an_entry_and_its_manifest_are_followed(
    cache_dir: Path, tmp_path: Path, run_python
) -> None:
    """As when the cache of a machine is linked, name by name, into one's own."""
    ours(cache_dir, SOUND)
    handle = "https://example.com/linked/1"
    ours(tmp_path / "elsewhere", handle)
    for path in (tmp_path / "elsewhere").iterdir():
        (cache_dir / path.name).symlink_to(path)
    seen = run_commands(run_python, cache_dir, handle)
    assert seen[handle] == str(cache_dir / key_of(handle))
    assert seen["entries"][key_of(handle)] == "ok"
    assert seen["verify"][handle] == []


def test_a_model_file_that_is_a_link_resolves_and_is_not_read(
    cache_dir: Path, tmp_path: Path
) -> None:
    handle = "https://example.com/linked/1"
    entry = ours(cache_dir, handle)
    (entry / "variables").rename(tmp_path / "variables")
    (entry / "variables").symlink_to(tmp_path / "variables")
    assert hub.resolve(handle) == str(entry)
    (verified,) = hub.cache.verify([handle])
    assert len(verified.problems) == 2
    assert all("A link" in problem for problem in verified.problems)


def test_removing_a_deep_tree_keeps_what_its_links_lead_to(
    cache_dir: Path, tmp_path: Path, make_deep: Callable[..., None]
) -> None:
    outside = ours(tmp_path / "elsewhere", SOUND)
    before = read_files(outside)
    entry = ours(cache_dir, SOUND)
    make_deep(entry / "assets", 20)
    (entry / "assets" / "d" / "link").symlink_to(outside)
    (entry / "assets" / "link").symlink_to(outside / "saved_model.pb")
    assert hub.cache.remove([SOUND])[0].error is None
    assert names(cache_dir) == set()
    assert read_files(outside) == before


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux lists them")
def test_a_damaged_entry_leaves_no_file_open(cache_dir: Path) -> None:
    for number, kind in enumerate((fifo, folder, link_to_zeros, sparse)):
        plant(cache_dir, f"https://example.com/{number}/1", ".manifest.json", kind)
        plant(cache_dir, f"https://example.com/{number}/2", "/saved_model.pb", kind)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        hub.cache.entries()
        list(hub.cache.verify())
        for number in range(4):
            hub.cache.info(f"https://example.com/{number}/2")
    was_used(cache_dir / key_of("https://example.com/0/1"), 0)
    assert len(os.listdir("/proc/self/fd")) <= before
