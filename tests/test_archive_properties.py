"""Unpacking, as properties: what holds for every archive, sound, damaged or hostile.

These are the tests of the promise on hostile input ("Hostile input" in the guarantees), and of
the part of "Downloads are verified" that is the archive's own: a sound archive comes out exactly
as it went in; a damaged one does too, or is refused; a hostile one is refused with an `OSError`
or a `ValueError`, in bounded time and memory, and without a thread left behind.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import itertools
import lzma
import os
import posixpath
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import tracemalloc
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from test_archive import Folder, Stream, special, tar
from waiting import until

from tfhub_cache.errors import ArchiveError, UnsafeArchiveError
from tfhub_cache.store.contract import Staging
from tfhub_cache.unpacking import archive
from tfhub_cache.unpacking import tar as tar_structure
from tfhub_cache.unpacking.archive import Limits, unpack

settings.register_profile(
    "archives",
    derandomize=True,  # the same examples each time, so that a failure is never a surprise
    deadline=None,
    database=None,
    max_examples=100,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("archives")

pytestmark = pytest.mark.libraries

Tree = dict[str, bytes | None]
"""Files with their content, and folders as None."""

MEGABYTE = 1 << 20


class Memory(Staging):
    """A staging folder that is only remembered, and minds where it is written."""

    def __init__(self) -> None:
        self._nodes: dict[str, io.BytesIO | None] = {}

    def make_folder(self, path: str) -> None:
        for folder in (*_above(_checked(path)), path):
            if folder and self._nodes.setdefault(self.key(folder), None) is not None:
                raise FileExistsError(17, "File exists", folder)

    def create_file(self, path: str, size: int, *, replace: bool):
        self.make_folder("/".join(_checked(path).split("/")[:-1]))
        if self.key(path) in self._nodes and not replace:
            raise FileExistsError(17, "File exists", path)
        file = self._nodes[self.key(path)] = _Kept()
        return file

    def clear(self) -> None:
        self._nodes.clear()

    def tree(self) -> Tree:
        return {
            path: None if node is None else node.getvalue() for path, node in self._nodes.items()
        }

    def key(self, path: str) -> str:
        """What the disk takes for the same."""
        return path


class CaseInsensitive(Memory):
    """A disk as macOS and Windows have them."""

    def key(self, path: str) -> str:
        return unicodedata.normalize("NFC", path).casefold()


class _Kept(io.BytesIO):
    def close(self) -> None:
        """Stays readable."""


def _checked(path: str) -> str:
    parts = path.split("/") if path else []
    assert not {"", ".", ".."} & set(parts), f"the archive reached {path!r}"
    assert "\0" not in path
    return path


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


class Endless:
    """Bytes that are made as they are asked for. `given` says how many were."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self.given = 0
        self.closed = False

    def read(self, size: int, /) -> bytes:
        if self.closed:
            raise OSError("closed")
        while len(self._rest) < min(size, 65536) and (piece := next(self._pieces, b"")):
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        self.given += len(data)
        return data

    def close(self) -> None:
        self.closed = True


class TooSlow(BaseException):
    """This is not caught by chance."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what takes longer. (Where there are no such signals, the tests' own limits have to.)"""
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise TooSlow(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def little_memory(extra: int = 256 * MEGABYTE) -> Iterator[None]:
    """Lets this process grow by no more than this; a MemoryError if it tries."""
    if sys.platform != "linux":
        pytest.skip("only Linux limits the address space of a running process")
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(
    source: bytes | Stream | Endless,
    staging: Memory | Folder | None = None,
    *,
    limits: Limits | None = None,
    seconds: float = 20,
) -> Tree | None:
    """The tree that comes out, or None if the archive is refused; nothing else may happen."""
    stream = Stream(source) if isinstance(source, bytes) else source
    folder = staging or Memory()
    threads = set(threading.enumerate())
    try:
        with within(seconds):
            files = unpack(stream, folder, limits or Limits())
    except (OSError, UnsafeArchiveError):
        assert stream.closed, "a stream was left open"
        return None
    finally:
        until(lambda: not set(threading.enumerate()) - threads, what="the end of all threads")
    tree = folder.tree()
    assert len(tree) <= (limits or Limits()).members
    key = folder.key if isinstance(folder, Memory) else str
    content = {file.path: tree[key(file.path)] for file in files}
    assert sum(node is not None for node in tree.values()) == len(files) > 0
    assert [(path, len(data), hashlib.sha256(data).hexdigest()) for path, data in content.items()] \
        == [(file.path, file.size, file.sha256) for file in files]  # fmt: skip
    return tree


# Sound archives.

ODD_NAMES = [
    " ",
    "a b ",
    "...",
    "..a",
    "a..",
    ".hidden",
    "~",
    "-rf",
    "*?[x]",
    "$HOME;&|<>",
    "'\"`",
    "%2e%2e",
    "new\nline",
    "tab\t",
    "\x01\x7f",
    "größe",
    "gro\u0308\u00dfe",
    "犬",
    "🙂",
    "\u202eltr",
    "\ufeff",
    "con",
    "PaxHeader",
    "././@LongLink",
    "x" * 100,
    "y" * 255,
    "ü" * 127,
]
if os.name != "nt":
    ODD_NAMES += ["a\\b", "c:", "..\\..\\x"]

NAMES = st.one_of(
    st.sampled_from([name for name in ODD_NAMES if "/" not in name]),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=12
    ),
    st.text("abc.", min_size=1, max_size=3),
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)

PATHS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=4),
    st.lists(st.sampled_from("ab"), min_size=30, max_size=60),
).map("/".join)

CONTENTS = st.one_of(
    st.just(b""),
    st.binary(max_size=100),
    st.builds(
        lambda seed, size: random.Random(seed).randbytes(size),
        st.integers(0, 1000),
        st.one_of(st.sampled_from([511, 512, 513, 10240]), st.integers(0, 300_000)),
    ),
    st.integers(0, 300_000).map(bytes),
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A tree of files and folders, of which each name could be on any disk."""
    tree: Tree = {}
    known: dict[str, str] = {}
    wanted = draw(st.lists(st.tuples(PATHS, st.none() | CONTENTS), max_size=8))
    for path, content in [*wanted, (draw(PATHS), draw(CONTENTS))]:
        above = _above(path)
        fold = CaseInsensitive().key
        if any(tree.get(folder) is not None for folder in above) or any(
            known.get(fold(place), place) != place for place in (*above, path)
        ):
            continue
        if path not in tree:
            known.update((fold(place), place) for place in (*above, path))
            tree |= dict.fromkeys(above)
            tree[path] = content
    assume(any(content is not None for content in tree.values()))
    return tree


def _split_gzip(data: bytes) -> bytes:
    middle = len(data) // 3
    return gzip.compress(data[:middle]) + gzip.compress(b"") + gzip.compress(data[middle:])


def _gzip_with_name(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile("model.tar", "wb", fileobj=buffer) as file:
        file.write(data)
    return buffer.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "gzip-stored": lambda data: gzip.compress(data, compresslevel=0, mtime=0),
    "gzip-named": _gzip_with_name,
    "gzip-members": _split_gzip,
    "gzip-padded": lambda data: gzip.compress(data) + bytes(1000),
    "bzip2": bz2.compress,
    "bzip2-streams": lambda data: bz2.compress(data[:700]) + bz2.compress(data[700:]),
    "xz": lzma.compress,
    "xz-streams": lambda data: lzma.compress(data[:700]) + lzma.compress(data[700:]),
    "none": bytes,
}
FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@st.composite
def archives(draw: st.DrawFn) -> tuple[Tree, bytes]:
    """A tree, and an archive of it in one of the many ways."""
    tree = draw(trees())
    prefix = draw(st.sampled_from(["", "./", "/", ".//"]))
    members = []
    needed = {folder for path in tree for folder in _above(path)}
    for path, content in tree.items():
        member = tarfile.TarInfo(prefix + path)
        member.mode = draw(st.integers(0, 0o7777))
        member.uid = draw(st.sampled_from([0, 1000, 2_000_000]))
        if content is None:
            if path in needed and draw(st.booleans()):
                continue
            member.type = tarfile.DIRTYPE
        else:
            member.type = draw(st.sampled_from([tarfile.REGTYPE, tarfile.CONTTYPE]))
            member.size = len(content)
        members.append((member, content))
    style = draw(st.sampled_from(FORMATS))
    try:
        plain = _packed(draw(st.permutations(members)), style)
    except ValueError:  # names too long for it
        plain = _packed(members, tarfile.PAX_FORMAT)
    return tree, COMPRESSIONS[draw(st.sampled_from(sorted(COMPRESSIONS)))](plain)


def _packed(members: Iterable[tuple[tarfile.TarInfo, bytes | None]], style: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style, encoding="utf-8") as file:
        for member, content in members:
            file.addfile(member, io.BytesIO(content or b""))
    return buffer.getvalue()


@settings(max_examples=50)
@given(archives())
def test_any_tree_comes_out_as_it_went_in(packed: tuple[Tree, bytes]) -> None:
    """Hostile input: odd names, set-id bits and odd modes are no reason to refuse, or to obey."""
    tree, data = packed
    with tempfile.TemporaryDirectory() as temporary:
        folder = Folder(Path(temporary, "staging"))
        assert outcome(data, folder) == tree
        for path in folder.root.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o7022 == 0, f"{path} has the mode {mode:o}"
            assert mode & 0o600 == 0o600
            assert path.is_dir() or not mode & 0o111


@pytest.mark.parametrize("mode", [0o0, 0o4755, 0o2755, 0o6777, 0o1777, 0o777, 0o7777777])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_modes_are_the_umasks(tmp_path: Path, mode: int, kind: bytes) -> None:
    """Hostile input: files get modes from the umask, never from the archive."""
    member = special("odd", kind)
    member.mode = mode
    before = os.umask(0o027)
    try:
        folder = Folder(tmp_path / "staging")
        assert outcome(tar(member, ("sound", b"x")), folder)
    finally:
        os.umask(before)
    expected = 0o640 if kind == tarfile.REGTYPE else 0o750
    assert stat.S_IMODE((folder.root / "odd").stat().st_mode) == expected


# Damaged archives.

SOUND: Tree = {
    "saved_model.pb": b"graph" * 30,
    "variables": None,
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": random.Random(1).randbytes(3000),
    "assets": None,
    "assets/empty": b"",
}
SOUND_TAR = tar(*((path, content) for path, content in SOUND.items() if content is not None))
WITH_CHECKSUM = [name for name in COMPRESSIONS if name not in ("none", "bzip2-streams")]
SOUND_ARCHIVES = {name: compress(SOUND_TAR) for name, compress in COMPRESSIONS.items()}


def _flip(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    flipped = data[at] ^ (1 << other % 8)
    return data[:at] + bytes([flipped]) + data[at + 1 :]


def _cut_off(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    return data[:at]


def _cut_out(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    return data[:at] + data[at + length :]


def _insert(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    return data[:at] + noise + data[at:]


def _overwrite(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    return data[:at] + noise + data[at + len(noise) :]


def _duplicate(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    return data[: at + length] + data[at:]


def _zero(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    gone = min(length, len(data) - at)
    return data[:at] + bytes(gone) + data[at + gone :]


def _swap(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    first, second = sorted((at, other % len(data)))
    length = min(length, second - first)
    return b"".join(
        (
            data[:first],
            data[second : second + length],
            data[first + length : second],
            data[first : first + length],
            data[second + length :],
        )
    )


def _append(data: bytes, at: int, length: int, other: int, noise: bytes) -> bytes:
    return data + noise


MUTATIONS = [
    _flip, _cut_off, _cut_out, _insert, _overwrite, _duplicate, _zero, _swap, _append
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, kinds: list[str]) -> bytes:
    data = SOUND_ARCHIVES[draw(st.sampled_from(kinds))]
    for mutation in draw(st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3)):
        end = max(0, len(data) - 1)
        near_the_ends = st.one_of(
            st.integers(0, min(30, end)), st.integers(max(0, end - 30), end), st.integers(0, end)
        )
        if data:
            data = mutation(
                data,
                draw(near_the_ends),
                draw(st.sampled_from([1, 2, 8, 18, 100, 512, 1024, len(data)])),
                draw(near_the_ends),
                draw(st.binary(max_size=20)),
            )
    return data


QUIET = settings(suppress_health_check=[HealthCheck.too_slow])


@settings(QUIET, max_examples=100)
@given(data=damaged([name for name in WITH_CHECKSUM if name.startswith("gzip")]))
def test_any_damage_to_gzip_is_noticed_or_none(data: bytes) -> None:
    """Hostile input: any mutation of the bytes gives the exact tree or an error."""
    assert outcome(data) in (SOUND, None)


@settings(max_examples=100)
@given(damaged([name for name in WITH_CHECKSUM if not name.startswith("gzip")]))
def test_any_damage_to_bzip2_and_xz_is_noticed_or_none(data: bytes) -> None:
    """Hostile input: the same, for what else has a checksum."""
    assert outcome(data) in (SOUND, None)


HEADERS = [
    offset
    for offset in range(0, len(SOUND_TAR), 512)
    if SOUND_TAR[offset + 257 : offset + 262] == b"ustar"
]


@settings(max_examples=100)
@given(st.sampled_from(HEADERS), st.integers(0, 511), st.integers(0, 7))
def test_a_flipped_bit_in_a_header_is_noticed(header: int, at: int, bit: int) -> None:
    """Hostile input: a tar without compression has a checksum too, one for each header."""
    assert outcome(_flip(SOUND_TAR, header + at, 0, bit, b"")) in (SOUND, None)


TINY: Tree = {"a": b"1", "b": b"2"}
TINY_TAR = tar(("a", b"1"), ("b", b"2"))[:3072]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_archive_that_ends_at_any_byte(compression: str) -> None:
    """Hostile input: a truncated archive, wherever it ends, is refused unless nothing is lost."""
    assert outcome(COMPRESSIONS[compression](TINY_TAR)) == TINY
    whole = COMPRESSIONS[compression](TINY_TAR)
    wrong = [end for end in range(len(whole)) if outcome(whole[:end]) not in (TINY, None)]
    assert not wrong, f"of {len(whole)} bytes"


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("split", [1024, 1025, 1536, 1540])
def test_damage_between_two_streams_is_noticed(compression: str, split: int) -> None:
    """Hostile input: archives that were compressed in pieces, as pigz and pbzip2 do."""
    first, second = (
        COMPRESSIONS[compression](part) for part in (TINY_TAR[:split], TINY_TAR[split:])
    )
    assert outcome(first + second) == TINY
    assert outcome(first) is None
    wrong = [
        (at, bit)
        for at in range(min(12, len(second)))
        for bit in range(8)
        if outcome(first + _flip(second, at, 0, bit, b"")) not in (TINY, None)
    ]
    assert not wrong


# Bytes that are no archive at all.

MAGIC = [b"", b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x1f", b"BZh9", b"BZh91AY&SY",
         b"\xfd7zXZ\x00", b"\xfd7zXZ\x00\x00\x04", SOUND_TAR[:512], TINY_TAR[:1024],
         TINY_TAR[:1536]]  # fmt: skip


@settings(QUIET, max_examples=100)
@given(
    magic=st.sampled_from(MAGIC),
    data=st.binary(max_size=2000),
    compress=st.sampled_from(sorted(COMPRESSIONS)),
)
def test_any_bytes_are_refused_in_an_orderly_way(magic: bytes, data: bytes, compress: str) -> None:
    """Hostile input: whatever the bytes are, only OSError and ValueError come out."""
    outcome(magic + data)
    outcome(COMPRESSIONS[compress](magic + data))


NUMBERS = st.one_of(
    st.integers(0, 3000).map(lambda number: b"%011o\0" % number),
    st.sampled_from([b"\0" * 12, b"            ", b"-0000000001\0", b"77777777777\0", b"x" * 12]),
    st.sampled_from([-(1 << 70), -1024, -513, -512, -1, 0, 512, 1 << 40, 1 << 63, 1 << 80]).map(
        lambda number: (
            b"\xff" + (number % (1 << 88)).to_bytes(11, "big")
            if number < 0
            else b"\x80" + number.to_bytes(11, "big")
        )
    ),
)
KINDS = b"0\0123456789LKSVMNDAxgX"
TEXTS = st.one_of(
    st.sampled_from([b"", b"/", b".", b"..", b"a", b"a/", b"./a", b"a/b", b"../x", b"\xff\xfe"]),
    st.binary(max_size=100),
)


def raw_header(
    name: bytes = b"a",
    kind: bytes = b"0",
    size: bytes | int = 0,
    *,
    link: bytes = b"",
    tail: bytes = b"ustar\x0000",
) -> bytes:
    """A header as it stands in the archive, of any content, whose checksum is right."""
    if isinstance(size, int):
        size = b"%011o\0" % size if size < 1 << 33 else b"\x80" + size.to_bytes(11, "big")
    head = name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"0" * 11 + b"\0"
    rest = kind + link[:100].ljust(100, b"\0") + tail[:255].ljust(255, b"\0")
    checksum = b"%06o\0 " % (sum(head) + sum(rest) + 8 * 32)
    return head + checksum + rest


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(**fields: str) -> bytes:
    """The content of a pax header; two underscores stand for a dot."""
    return b"".join(
        _pax_record(name.replace("__", "."), value.encode()) for name, value in fields.items()
    )


def _pax_record(name: str, value: bytes) -> bytes:
    rest = b" %s=%s\n" % (name.encode(), value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


PAX_FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "path", "size", "linkpath", "hdrcharset", "mtime", "GNU__sparse__major",
            "GNU__sparse__minor", "GNU__sparse__map", "GNU__sparse__size", "GNU__sparse__name",
            "GNU__sparse__realsize", "GNU__sparse__numblocks", "GNU__sparse__offset",
            "GNU__sparse__numbytes", "VENDOR",
        ]
    ),
    st.sampled_from(
        ["", "0", "1", "-1", "-512", "512", "1e9", "inf", "nan", "9" * 30, "9" * 5000, "BINARY",
         "0,1", "0,512,1024,512", "5,-3,1", "a", "../a", "/a", "a\0b", "ü", "1\n2"]
    ),
    max_size=6,
)  # fmt: skip


@st.composite
def hostile_tars(draw: st.DrawFn) -> bytes:
    """Headers with right checksums and wrong contents."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        kind = bytes([draw(st.sampled_from(KINDS))])
        content = draw(
            st.one_of(
                st.binary(max_size=600), PAX_FIELDS.map(lambda fields: pax(**fields)), st.just(b"")
            )
        )
        size = draw(st.one_of(st.just(b"%011o\0" % len(content)), NUMBERS))
        tail = draw(
            st.one_of(
                st.just(b"ustar\x0000"),
                st.just(b"ustar  \0"),
                st.binary(max_size=255),
                st.lists(NUMBERS, min_size=8, max_size=10).map(
                    lambda numbers: bytes(129) + b"".join(numbers)[:97] + b"\1" + numbers[-1]
                ),
            )
        )
        parts.append(raw_header(draw(TEXTS), kind, size, link=draw(TEXTS), tail=tail))
        parts.append(padded(content))
    return b"".join(parts) + draw(st.sampled_from([b"", bytes(512), bytes(1024)]))


@settings(max_examples=100)
@given(hostile_tars())
def test_any_headers_are_refused_in_an_orderly_way(data: bytes) -> None:
    """Hostile input: as above, behind the checksums of the headers."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Instead of 4 GiB, which would have to be unpacked first; as in the tests below.
        monkeypatch.setattr(archive, "_BYTES_BEYOND_SUSPICION", MEGABYTE)
        outcome(data)


# Sizes: whatever they are written as, they are checked before anything is read or made.


ZEROS = gzip.compress(bytes(8 * MEGABYTE), mtime=0)


BASE_256 = st.one_of(
    st.integers(-(1 << 87), -1), st.sampled_from([-1, -512, -(1 << 40), -(1 << 63), -(1 << 87)])
).map(lambda number: b"\xff" + (number % (1 << 88)).to_bytes(11, "big"))
HUGE = st.sampled_from([1 << 63, 1 << 64, (1 << 87) - 1]).map(
    lambda number: b"\x80" + number.to_bytes(11, "big")
)
NO_SIZES = st.one_of(
    st.integers(max_value=-1).map(str),
    st.integers(1 << 63, 10**40).map(str),
    st.sampled_from(["", " 1", "+1", "1_0", "1.0", "1e3", "inf", "nan", "0x1", "\u0661", "1\n1"]),
    st.integers(4000, 60_000).map(lambda digits: "9" * digits),
)
MEMBERS = [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE]


@st.composite
def wrong_sizes(draw: st.DrawFn) -> bytes:
    """What a file of a size that no file has may begin with."""
    before = draw(st.sampled_from([b"", raw_header(b"folder", b"5"), raw_header(b"empty")]))
    where = draw(st.sampled_from(["header", "header of headers", "pax", "sparse", "global"]))
    member = raw_header(b"a", draw(st.sampled_from(MEMBERS)), draw(st.sampled_from([0, 1, 4096])))
    if where == "header":
        member = raw_header(b"a", draw(st.sampled_from(MEMBERS)), draw(BASE_256 | HUGE))
        return before + member
    if where == "header of headers":
        kind = bytes([draw(st.sampled_from(b"LKxgX"))])
        return before + raw_header(b"a", kind, draw(BASE_256 | HUGE)) + member
    if where == "sparse":
        key = draw(st.sampled_from(["GNU__sparse__realsize", "GNU__sparse__size"]))
        fields = pax(**{key: draw(NO_SIZES | st.integers(0, 1 << 40).map(str))})
    elif where == "global":
        fields = pax(size=draw(NO_SIZES | st.integers(0, 1 << 40).map(str)))
    else:
        fields = pax(size=draw(NO_SIZES))
    kind = b"g" if where == "global" else draw(st.sampled_from([b"x", b"X"]))
    return before + raw_header(b"pax", kind, len(fields)) + padded(fields) + member


@settings(max_examples=100)
@given(wrong_sizes(), st.booleans())
def test_a_size_that_no_file_has_is_refused_before_anything_is_read(
    data: bytes, compressed: bool
) -> None:
    """Hostile input: negative sizes, huge ones, and what is no number, however they are written."""
    head = gzip.compress(data) if compressed else data
    # What follows unpacks to gigabytes, for who does not stop.
    stream = Endless(itertools.chain([head], itertools.repeat(ZEROS, 400)))
    counting = Counting()
    with little_memory(), within(20), pytest.raises((ArchiveError, UnsafeArchiveError)):
        unpack(stream, counting, Limits())
    assert (stream.closed, counting.written) == (True, 0)
    assert stream.given < 4 * MEGABYTE


@pytest.mark.parametrize("ratio", [200, 2e9])
def test_a_file_that_is_larger_than_its_archive_can_hold_is_refused_before_it_is_made(
    ratio: float,
) -> None:
    """Hostile input: a member of 1 TB in an archive whose size the server has announced."""
    data = gzip.compress(raw_header(b"a", b"0", 1 << 40) + bytes(MEGABYTE))
    counting = Counting()
    with pytest.raises(UnsafeArchiveError if ratio == 200 else ArchiveError):
        unpack(Stream(data), counting, Limits(ratio=ratio), size=len(data))
    assert counting.made == (0 if ratio == 200 else 1)


# Pax headers and long names: bounded before they are parsed, and never believed.


@st.composite
def hopeless_headers(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A kind of header, and content that has no meaning, however long it goes on."""
    length = draw(st.sampled_from([1, 100, 4300, 60_000, 65_536, 65_537, MEGABYTE, 1 << 30]))
    part = draw(
        st.sampled_from(
            [b"1", b"9", b"12 ", b"7 a=bc\n0", b"5 ab\n", b"6 =ab\n", b"1 a=b\n", b"999999 a=\n",
             b"11 a==", b"7 a=b\n", b"0 a=b\n", b"-6 a=b\n", b" 6 a=b\n", b"hdrcharset=", b"\xff"]
        )
    )  # fmt: skip
    return draw(st.sampled_from([b"x", b"g", b"X"])), raw_header(b"h", b"x", length), part


@settings(max_examples=100)
@given(hopeless_headers(), st.booleans())
def test_a_pax_header_without_meaning_is_refused_when_little_is_read(
    header: tuple[bytes, bytes, bytes], compressed: bool
) -> None:
    """Hostile input: digits that go on and on, lengths that lie."""
    kind, head, part = header
    head = head[:156] + kind + head[157:]
    pieces = itertools.chain([_mended(head)], itertools.repeat(part * (65536 // len(part)), 300))
    if compressed:
        pieces = iter([gzip.compress(b"".join(itertools.islice(pieces, 40)))])
    stream = Endless(pieces)
    with little_memory(), within(20), pytest.raises(ArchiveError):
        unpack(stream, Memory(), Limits(), size=1 << 16)  # so small that no thread reads ahead
    assert stream.given <= 512 + 65536 + 512


def _mended(header: bytes) -> bytes:
    total = sum(header[:148]) + sum(header[156:]) + 8 * 32
    return header[:148] + b"%06o\0 " % total + header[156:]


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"x", b"X", b"g", b"L", b"K"]),
            st.one_of(
                PAX_FIELDS.map(lambda fields: pax(**fields)),
                st.integers(7, 13).map(lambda length: b"%d path=ab\n" % length),
                st.binary(max_size=40),
            ),
        ),
        max_size=3,
    ),
    st.sampled_from([b"0", b"5", b"7"]),
    st.integers(0, 600),
)
def test_what_is_accepted_is_what_tarfile_reads(
    headers: list[tuple[bytes, bytes]], kind: bytes, size: int
) -> None:
    """Unpacking: a stricter reader than Python's own, not another one."""
    data = b"".join(
        raw_header(b"header", of, len(content)) + padded(content) for of, content in headers
    )
    content = random.Random(size).randbytes(size) if kind != b"5" else b""
    data += raw_header(b"name", kind, len(content)) + padded(content)
    data += raw_header(b"last", b"0", 1) + padded(b"x") + bytes(1024)
    tree = outcome(data)
    if tree is not None:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as file:
            for member in file:
                path = posixpath.normpath(member.name.lstrip("/"))
                expected = file.extractfile(member)
                assert path == "." or tree.pop(path) == (expected and expected.read())
        assert all(content is None for content in tree.values())


# Hostile archives: each of these once did harm to some reader.


def _recursion() -> Iterator[bytes]:
    for _ in range(3000):
        yield raw_header(b"././@LongLink", b"L", 2) + padded(b"a\0")
    yield TINY_TAR


def _global_headers() -> Iterator[bytes]:
    for number in range(600):
        content = _pax_record(f"comment{number}", bytes(MEGABYTE - 100))
        yield raw_header(b"global", b"g", len(content)) + padded(content)
        yield raw_header(b"folder", b"5")
    yield TINY_TAR


def _headers_before_one_member() -> Iterator[bytes]:
    for _ in range(250):
        content = _pax_record("comment", bytes(MEGABYTE - 100))
        yield raw_header(b"pax", b"x", len(content)) + padded(content)
    yield TINY_TAR


def _many_holes() -> Iterator[bytes]:
    content = pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="1")
    yield raw_header(b"pax", b"x", len(content)) + padded(content)
    yield raw_header(b"sparse", b"0", 1 << 40) + b"999999999\n"
    yield from itertools.repeat(b"%0100d\n" % 9 * 600, 20_000)  # 1.2 GB, nearly all the same


def _many_holes_of_old() -> Iterator[bytes]:
    yield _old_sparse(b"sparse", stored=512, real=1, extended=True)
    numbers = b"00000001000\0" * 42
    yield from itertools.repeat((numbers + b"\1" + bytes(7)) * 100, 2_000)  # 100 MB


def _old_sparse(name: bytes, *, stored: int, real: int, extended: bool = False) -> bytes:
    tail = b"ustar  \0" + bytes(386 - 257 - 8 + 4 * 24) + bytes([extended])
    size = b"%011o\0" % real if real < 1 << 33 else b"\x80" + real.to_bytes(11, "big")
    return raw_header(name, b"S", stored, tail=tail + size)


def _xz_with_a_huge_window() -> bytes:
    """Says that it needs 4 GB of memory, and that is one byte of its header."""
    data = bytearray(lzma.compress(TINY_TAR, check=lzma.CHECK_CRC32))
    assert data[14:16] == b"\x21\x01"  # LZMA2, with one byte of properties
    data[16] = 40
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(data[12 : 12 + size - 4]))
    return bytes(data)


def _long_name(name: bytes) -> bytes:
    return raw_header(b"././@LongLink", b"L", len(name) + 1) + padded(name + b"\0")


HOSTILE: dict[str, Callable[[], bytes | Iterable[bytes]]] = {
    "a name of 8 GB": lambda: raw_header(b"././@LongLink", b"L", 8 << 30) + TINY_TAR,
    "a link of 8 GB": lambda: raw_header(b"././@LongLink", b"K", 8 << 30) + TINY_TAR,
    "a pax header of 8 GB": lambda: raw_header(b"pax", b"x", 8 << 30) + TINY_TAR,
    "a global header of 8 GB": lambda: raw_header(b"pax", b"g", 8 << 30) + TINY_TAR,
    "a solaris header of 8 GB": lambda: raw_header(b"pax", b"X", 8 << 30) + TINY_TAR,
    "a name of 8 GB that is there": lambda: itertools.chain(
        [raw_header(b"././@LongLink", b"L", 8 << 30)], itertools.repeat(b"a" * 65536)
    ),
    "a pax header of negative size": lambda: (
        raw_header(b"pax", b"x", b"\xff" * 10 + b"\xfc\0") + TINY_TAR
    ),
    "a name of negative size": lambda: (
        raw_header(b"././@LongLink", b"L", b"\xff" * 10 + b"\xfc\0") + TINY_TAR
    ),
    "a file of negative size": lambda: raw_header(b"x", b"0", b"\xff" * 10 + b"\xfc\0") + TINY_TAR,
    "headers before headers": _recursion,
    "large headers before one member": _headers_before_one_member,
    "global headers that add up": _global_headers,
    "a path of 50,000 folders": lambda: _long_name(b"a/" * 50_000 + b"a") + TINY_TAR,
    "a path of 1,500 folders": lambda: _long_name(b"a/" * 1_500 + b"a") + TINY_TAR,
    "a folder 1,500 folders deep": lambda: (
        _long_name(b"a/" * 1_500 + b"a") + raw_header(b"a", b"5") + TINY_TAR
    ),
    "a pax header of digits": lambda: (
        raw_header(b"pax", b"x", MEGABYTE) + b"1" * MEGABYTE + TINY_TAR
    ),
    "a hole of 1 EB": lambda: _old_sparse(b"sparse", stored=0, real=1 << 60) + TINY_TAR,
    "a sparse file of 1 EB with nothing in it": lambda: (
        _old_sparse(b"sparse", stored=1 << 60, real=0) + TINY_TAR
    ),
    "a sparse file whose map breaks off": lambda: _old_sparse(
        b"sparse", stored=0, real=0, extended=True
    ),
    "a sparse file with a map of 1 GB": _many_holes,
    "a sparse file with an old map of 100 MB": _many_holes_of_old,
    "a window of 4 GB": _xz_with_a_huge_window,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_costs_little(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hostile input: refused, or unpacked, but never at the price of all memory or time."""
    monkeypatch.setattr(archive, "_BYTES_BEYOND_SUSPICION", MEGABYTE)
    made = HOSTILE[name]()
    stream = Stream(made) if isinstance(made, bytes) else Endless(made)
    with little_memory():
        outcome(stream, Folder(tmp_path / "staging"))


def test_millions_of_members_end_at_the_limit() -> None:
    """Hostile input: millions of members."""
    stream = Endless(raw_header(b"f%d" % number, b"5") for number in itertools.count())
    with little_memory():
        assert outcome(stream, limits=Limits(members=1000)) is None
    assert stream.given < 4 * MEGABYTE
    exactly = tar(*((f"f{number}", b"") for number in range(1000)))
    assert outcome(exactly, limits=Limits(members=1000))
    assert outcome(exactly, limits=Limits(members=999)) is None


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.booleans()),
        min_size=1,
        max_size=10,
        unique_by=lambda member: tuple(member[0]),
    ),
    st.sampled_from(FORMATS),
)
def test_folders_count_that_only_paths_name(
    named: list[tuple[list[str], bool]], style: int
) -> None:
    """Hostile input: a few members that make very many folders."""
    paths = ["/".join(names) + ("" if is_folder else "/file") for names, is_folder in named]
    members = [
        special(path, tarfile.DIRTYPE) if is_folder else (path, b"x")
        for path, (_, is_folder) in zip(paths, named, strict=True)
    ]
    data = tar(*members, ("last", b"x"), format=style)
    made = {"last", *paths, *(folder for path in paths for folder in _above(path))}
    assert outcome(data, limits=Limits(members=len(made) - 1)) is None
    again = sum(path in _above(later) for path in paths for later in paths[: paths.index(path)])
    assert outcome(data, limits=Limits(members=len(made) + again)) is not None


def _many_folders() -> Iterator[bytes]:
    for number in itertools.count():
        content = pax(path="/".join(f"{number:x}-{level}" for level in range(98)) + "/x")
        yield raw_header(b"pax", b"x", len(content)) + padded(content) + raw_header(b"x", b"5")


def _long_names() -> Iterator[bytes]:
    for number in itertools.count():
        content = pax(path=f"{number:05}/" + "/".join(["x" * 200] * 20))
        yield raw_header(b"pax", b"x", len(content)) + padded(content) + raw_header(b"x")


@pytest.mark.parametrize("members", [_many_folders, _long_names])
def test_what_is_kept_of_names_is_bounded(
    members: Callable[[], Iterator[bytes]], tmp_path: Path
) -> None:
    """Hostile input: memory does not grow with the names that an archive makes up."""
    stream = Endless(members())
    tracemalloc.start()
    try:
        with pytest.raises(UnsafeArchiveError, match="TFHUB_UNPACK_MAX_FILES"):
            unpack(stream, Counting(), Limits())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * MEGABYTE
    assert stream.given < 100 * MEGABYTE


class Counting(Memory):
    """Counts what is written, and forgets it, folders too."""

    written = made = 0

    def create_file(self, path: str, size: int, *, replace: bool):
        staging = self
        staging.made += 1

        class Counted(io.RawIOBase):
            def write(self, data) -> int:
                staging.written += len(data)
                return len(data)

        return Counted()

    def make_folder(self, path: str) -> None:
        pass


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz"])
@pytest.mark.parametrize("files", [1, 50])
def test_a_compression_bomb_stops(
    compression: str, files: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hostile input: a compression bomb, in one file or in many."""
    monkeypatch.setattr(archive, "_BYTES_BEYOND_SUSPICION", MEGABYTE)
    bomb = COMPRESSIONS[compression](
        tar(*((f"f{number}", bytes(50 * MEGABYTE // files)) for number in range(files)))
    )
    counting = Counting()
    stream = Stream(bomb)
    with little_memory(), pytest.raises(UnsafeArchiveError, match="TFHUB_UNPACK_MAX_RATIO"):
        unpack(stream, counting, Limits(ratio=20))
    assert stream.closed
    assert counting.written <= max(MEGABYTE, 20 * len(bomb)) + MEGABYTE
    # A generous limit lets it through.
    unpack(Stream(bomb), Counting(), Limits(ratio=1e6))


def test_what_hardly_compresses_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile input: the limit on the ratio is for bombs only."""
    monkeypatch.setattr(archive, "_BYTES_BEYOND_SUSPICION", 0)
    tree: Tree = {"a": random.Random(1).randbytes(5 * MEGABYTE), "b": b"small"}
    data = gzip.compress(tar(*tree.items()), compresslevel=1)
    assert outcome(data, limits=Limits(ratio=1.5)) == tree


# Behind the end.


@settings(QUIET, max_examples=60)
@given(compression=st.sampled_from(sorted(COMPRESSIONS)), garbage=st.binary(max_size=3000))
def test_garbage_behind_the_end(compression: str, garbage: bytes) -> None:
    """Hostile input: what follows an archive changes nothing, or is a reason to refuse it."""
    whole = SOUND_ARCHIVES[compression]
    assert outcome(whole + garbage) in (SOUND, None)
    assert outcome(COMPRESSIONS[compression](SOUND_TAR + garbage)) in (SOUND, None)


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "zeros behind a tar": (TINY_TAR, bytes(65536)),
    "zeros behind gzip": (gzip.compress(TINY_TAR), bytes(65536)),
    "zeros behind bzip2": (bz2.compress(TINY_TAR), bytes(65536)),
    "zeros behind xz": (lzma.compress(TINY_TAR), bytes(65536)),
    "noise behind gzip": (gzip.compress(TINY_TAR), b"x" * 65536),
    "zeros in gzip": (b"", gzip.compress(bytes(MEGABYTE))),
    "empty gzip behind gzip": (gzip.compress(TINY_TAR), gzip.compress(b"") * 1000),
    "empty bzip2 behind bzip2": (bz2.compress(TINY_TAR), bz2.compress(b"") * 1000),
    "empty xz behind xz": (lzma.compress(TINY_TAR), lzma.compress(b"") * 1000),
    "empty gzip only": (b"", gzip.compress(b"") * 1000),
    "empty blocks in gzip": (b"\x1f\x8b\x08\0\0\0\0\0\0\0", b"\0\0\0\xff\xff" * 10_000),
    "a name in the gzip header": (b"\x1f\x8b\x08\x08\0\0\0\0\0\0", b"a" * 65536),
    "zeros only": (b"", bytes(65536)),
    "text": (b"", b"text" * 10_000),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_endless_body_is_given_up(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile input: endless bodies, of which not one byte is written to the disk."""
    monkeypatch.setattr(tar_structure, "_LONGEST_PADDING", MEGABYTE)
    head, rest = ENDLESS[what]
    stream = Endless(itertools.chain([head], itertools.repeat(rest)))
    with little_memory():
        assert outcome(stream) is None
    # What is empty is given up soon; what is padding or a header may be a little longer.
    assert stream.given < (2 if what.startswith("empty gzip") else 48) * MEGABYTE


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("before", [0, 1])
def test_a_thousand_empty_streams_are_too_many_whatever_compressed_them(
    compress: Callable[[bytes], bytes], before: int
) -> None:
    """Hostile input: empty streams, which cost time and give nothing, wherever they stand."""
    whole = compress(TINY_TAR)
    for empty, expected in (999, TINY), (1002, None):
        data = compress(b"") * empty
        assert outcome(data + whole if before else whole + data) == expected
    many = [compress(b"") * 100 + compress(TINY_TAR[at : at + 1]) for at in range(20)]
    assert outcome(b"".join(many) + compress(TINY_TAR[20:])) is None


@pytest.mark.parametrize("size", [100, 65536, 1_000_000])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_padding_between_two_streams_is_no_content(
    compress: Callable[[bytes], bytes], size: int
) -> None:
    """As the gzip and xz programs have it."""
    padding = bytes(size)
    assert outcome(compress(TINY_TAR[:700]) + padding + compress(TINY_TAR[700:])) == TINY
    assert outcome(compress(TINY_TAR) + padding) == TINY


# Links.


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["{outside}", "../outside", "."])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_nothing_is_written_through_a_link(
    tmp_path: Path, kind: bytes, target: str, compression: str
) -> None:
    """Hostile input: links, and a file written through a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"mine")
    folder = Folder(tmp_path / "staging")
    for members in (
        [special("link", kind, target.format(outside=outside)), ("link/file", b"evil")],
        [special("link", kind, f"{target.format(outside=outside)}/file"), ("link", b"evil")],
        [special("link", kind, "x"), special("link", tarfile.DIRTYPE), ("link/../../x", b"evil")],
    ):
        assert outcome(COMPRESSIONS[compression](tar(*members)), folder) is None
    assert (outside / "file").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "staging"]
    assert not any(path.is_symlink() for path in folder.root.rglob("*"))


# Disks that don't tell upper from lower case.

CASE_NAMES = st.lists(
    st.lists(
        st.sampled_from(["a", "A", "b", "B", "ß", "SS", "é", "e\u0301"]), min_size=1, max_size=3
    ).map("/".join),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", ["x" * 300, "\u00fc" * 200, "a/" + "x" * 300 + "/b", "\0"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_a_name_that_no_disk_takes_is_the_archives_fault(
    name: str, kind: bytes, tmp_path: Path
) -> None:
    """Hostile input: so it can be said of the archive, and another mirror can be asked."""
    content = pax(path=name)
    data = raw_header(b"pax", b"x", len(content)) + padded(content) + raw_header(b"x", kind)
    folder = Folder(tmp_path / "staging")
    with pytest.raises(UnsafeArchiveError, match=r"name|invalid"):
        unpack(Stream(data + TINY_TAR), folder, Limits())


def test_a_name_beyond_the_encoding_of_the_system_is_the_archives_fault(tmp_path: Path) -> None:
    """Hostile input: the same where names are ASCII."""
    content = pax(path="\u72ac")
    data = raw_header(b"pax", b"x", len(content)) + padded(content) + raw_header() + bytes(1024)
    (tmp_path / "a.tar").write_bytes(data)
    code = (
        "import sys, pathlib, test_archive as t; from tfhub_cache.unpacking import archive\n"
        "data = pathlib.Path(sys.argv[1], 'a.tar').read_bytes()\n"
        "folder = t.Folder(pathlib.Path(sys.argv[1], 'staging'))\n"
        "try: archive.unpack(t.Stream(data), folder, archive.Limits())\n"
        "except archive.UnsafeArchiveError as error: print(ascii(str(error)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
             "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert "name that this file system does not take" in done.stdout, done.stderr


@settings(max_examples=100)
@given(CASE_NAMES, st.booleans())
def test_names_that_collide_are_refused(names: list[str], folders: bool) -> None:
    """Hostile input: names that collide on case-insensitive disks."""
    disk = CaseInsensitive()
    members: list[tarfile.TarInfo | tuple[str, bytes]] = [
        special(name, tarfile.DIRTYPE) if folders and index % 2 else (name, name.encode())
        for index, name in enumerate(names)
    ]
    tree = outcome(gzip.compress(tar(*members)), disk)
    if tree is not None:
        assert tree == {
            disk.key(place): None for name in names for place in _above(name)
        } | {
            disk.key(member.name if isinstance(member, tarfile.TarInfo) else member[0]): (
                None if isinstance(member, tarfile.TarInfo) else member[1]
            )
            for member in members
        }  # fmt: skip
    elif all(name == disk.key(name) for name in names):
        # Nothing collides by its case: then it is refused on other disks too.
        assert outcome(gzip.compress(tar(*members))) is None


@pytest.fixture
def blind_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that does not tell upper from lower case."""
    (tmp_path / "Case").touch()
    if (tmp_path / "case").exists():
        yield tmp_path
        return
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root on Linux to mount a disk that does not tell upper from lower case")
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    mounted.mkdir()
    troubles = []
    for make, after in (
        (["mkfs.vfat"], []),
        (["mkfs.ext4", "-q", "-F", "-O", "casefold", "-E", "encoding=utf8"], ["chattr", "+F"]),
    ):
        if not shutil.which(make[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            troubles.append(f"no {make[0]}")
            continue
        image.unlink(missing_ok=True)
        with open(image, "xb") as file:
            file.truncate(16 * MEGABYTE)
        commands = [[*make, str(image)], ["mount", "-o", "loop", str(image), str(mounted)]]
        if not _run(commands, troubles):
            continue
        try:
            folder = mounted / "folder"
            folder.mkdir()
            if not after or _run([[*after, str(folder)]], troubles):
                yield folder
                return
        finally:
            subprocess.run(["umount", str(mounted)], check=True, timeout=60)
    pytest.skip("no disk that does not tell upper from lower case: " + "; ".join(troubles))


def _run(commands: list[list[str]], troubles: list[str]) -> bool:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for command in commands:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, "PATH": path},
        )  # fmt: skip
        if done.returncode:
            troubles.append(f"{command[0]}: {done.stderr.strip().splitlines()[-1:]}")
            return False
    return True


def test_names_that_collide_on_a_real_disk(blind_disk: Path) -> None:
    """Hostile input: names that collide on case-insensitive disks, on one."""
    refused = [
        [("a", b"1"), ("A", b"2")],
        [("a", b"1"), ("A/b", b"2")],
        [("A/b", b"2"), ("a", b"1")],
    ]
    for number, members in enumerate(refused):
        folder = Folder(blind_disk / f"refused{number}")
        assert outcome(gzip.compress(tar(*members)), folder) is None, members
    folder = Folder(blind_disk / "merged")
    unpack(Stream(tar(("Sub/a", b"1"), ("sub/b", b"2"), ("sub/b", b"3"))), folder, Limits())
    assert (folder.root / "sub" / "a").read_bytes() == b"1"
    assert (folder.root / "Sub" / "b").read_bytes() == b"3"


# On failure.


class Failing(Memory):
    """A disk with trouble at some step."""

    def __init__(self, step: str, error: BaseException) -> None:
        super().__init__()
        self._step, self._error = step, error

    def make_folder(self, path: str) -> None:
        self._fail("make_folder")

    def create_file(self, path: str, size: int, *, replace: bool):
        self._fail("create_file")
        disk = self

        class File(io.BytesIO):
            def write(self, data) -> int:
                disk._fail("write")
                return len(data)

        return File()

    def _fail(self, step: str) -> None:
        if step == self._step:
            raise self._error


@pytest.mark.parametrize("step", ["make_folder", "create_file", "write"])
@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "none"])
def test_nothing_is_left_open_on_failure(step: str, error: BaseException, compression: str) -> None:
    """Bad days: the stream is closed and no thread runs on, whatever goes wrong."""
    body = random.Random(1).randbytes(20 * MEGABYTE if compression == "gzip" else 100_000)
    whole = tar(special("folder", tarfile.DIRTYPE), ("a", body))
    data = (
        gzip.compress(whole, compresslevel=0)
        if compression == "gzip"
        else COMPRESSIONS[compression](whole)
    )
    threads = set(threading.enumerate())
    stream = Stream(data)
    with within(20), pytest.raises(type(error)) as raised:
        unpack(stream, Failing(step, error), Limits())
    assert raised.value is error
    assert stream.closed
    assert set(threading.enumerate()) <= threads


@pytest.mark.parametrize("arrived", [0, 1, 5, 6, 100, 300])
@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "none"])
def test_a_stream_that_fails_is_closed(compression: str, arrived: int) -> None:
    """Bad days: a connection cut at any byte, the first ones too."""
    stream = Stream(SOUND_ARCHIVES[compression][:arrived], error=ConnectionResetError("cut"))
    assert outcome(stream) is None


def test_a_server_that_stalls_does_not_hold_the_thread() -> None:
    """Bad days: closing the stream wakes its reader, and unpacking ends soon after."""

    class Stalling(Stream):
        def __init__(self, data: bytes) -> None:
            super().__init__(data)
            self._woken = threading.Event()

        def read(self, size: int, /) -> bytes:
            if data := super().read(min(size, 1000)):
                return data
            self._woken.wait(60)
            raise OSError("closed")

        def close(self) -> None:
            super().close()
            self._woken.set()

    # All of the first file arrives, more never does; what is wrong with it is known by then.
    body = gzip.compress(tar(("../evil", b""), ("a", bytes(20 * MEGABYTE))), compresslevel=0)
    body = body[: 12 * MEGABYTE]  # some of it is read ahead
    assert outcome(Stalling(body)) is None
