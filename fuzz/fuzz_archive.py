"""A fuzz target for the archive reader.

Run it from the project's folder, with atheris and this package installed:

    python fuzz/fuzz_archive.py -max_total_time=60

The options are libFuzzer's. What it finds is written to `crash-*`, `timeout-*` or `oom-*` in the
current folder, and `python fuzz/fuzz_archive.py crash-...` runs that again. The seeds are
made at each start, in a temporary folder; name a folder of your own before the options to keep the
corpus from one run to the next.

The oracle: only `OSError` and `UnsafeArchiveError` may be raised; nothing may be written outside of
the folder; the files that are reported are those that were written; on failure the stream is
closed; no thread is left running.

The first byte of an input says how the others are used. Damage to compressed data seldom gets
past its checksum, nor damage to a tar past those of its headers, so that both can be made right
first: 0 mod 3 takes the bytes as they are, 1 mod 3 mends the checksums of tar headers, and
2 mod 3 mends them and compresses the result with gzip.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(include=["tfhub_cache", "tarfile"]):
    import tarfile

    from tfhub_cache.unpacking import archive

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import posixpath
import random
import threading
from collections.abc import Callable, Iterable, Iterator

import running

from tfhub_cache.errors import UnsafeArchiveError
from tfhub_cache.store.contract import Staging

MENDED = 40
"""How many headers of an input are mended at most."""


class Stream:
    """An input's bytes."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.closed = False

    def read(self, size: int, /) -> bytes:
        return b"" if self.closed else self._file.read(size)

    def close(self) -> None:
        self.closed = True


class Kept(io.BytesIO):
    """A file, of which the content counts after it was closed."""

    def close(self) -> None:
        """Stays readable."""


class Memory(Staging):
    """A folder that is only remembered, and fails if something would land outside of it."""

    def __init__(self) -> None:
        self.folders: set[str] = set()
        self.files: dict[str, Kept] = {}

    def make_folder(self, path: str) -> None:
        self._check(path)
        self.folders.add(path)

    def create_file(self, path: str, size: int, *, replace: bool) -> Kept:
        self._check(path)
        if size > 1 << 30:
            raise OSError(28, "No space left on device")
        if not path or path in self.folders:
            raise AssertionError(f"{path!r} is a folder")
        if (path in self.files) != replace:
            raise AssertionError(f"{path!r} is there: {path in self.files}, but {replace=}")
        self.files[path] = Kept()
        return self.files[path]

    def clear(self) -> None:
        self.folders.clear()
        self.files.clear()

    def _check(self, path: str) -> None:
        root = "/cache/entry"
        full = posixpath.normpath(posixpath.join(root, path))
        if full != f"{root}/{path}".rstrip("/") or "\0" in path:
            raise AssertionError(f"{path!r} is outside of the folder, or not in its plain form")


def test_one_input(data: bytes) -> None:
    """Unpacks an input, and holds what happens against the oracle."""
    if not data:
        return
    how, data = data[0] % 3, data[1:]
    if how:
        data = mended(data)
    if how == 2:
        data = gzip.compress(data, compresslevel=1)
    unpacked(data)


def unpacked(data: bytes) -> Memory | None:
    """What an archive unpacks to, held against the oracle; None if it is refused."""
    stream, staging = Stream(data), Memory()
    threads = threading.active_count()
    try:
        files = archive.unpack(stream, staging, archive.Limits(members=1000))
    except (OSError, UnsafeArchiveError):
        if not stream.closed:
            raise AssertionError("a stream was left open") from None
        return None
    finally:
        if threading.active_count() > threads:
            raise AssertionError("a thread was left running")
    reported = {file.path: (file.size, file.sha256) for file in files}
    written = {
        path: (len(file.getvalue()), hashlib.sha256(file.getvalue()).hexdigest())
        for path, file in staging.files.items()
    }
    if reported != written or len(files) != len(reported):
        raise AssertionError(f"reported: {reported}, written: {written}")
    return staging


def mended(data: bytes) -> bytes:
    """The same, with the right checksum in what may be headers: blocks of 512 bytes."""
    blocks = bytearray(data)
    for start in range(0, min(len(blocks) - 511, MENDED * 512), 512):
        block = blocks[start : start + 512]
        if block[148:156] != bytes(8) and any(block):
            total = sum(block) - sum(block[148:156]) + 8 * ord(" ")
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


def seeds() -> Iterator[bytes]:
    """Valid archives, of every format and compression, and odd ones."""
    for style in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for prefix in ("", "./", "long-" * 30 + "/"):
            with contextlib.suppress(ValueError):  # too long for this format
                plain = packed(style, prefix)
                for compress in (bytes, gzip.compress, bz2.compress, lzma.compress):
                    yield b"\0" + compress(plain)
                yield b"\1" + plain
                yield b"\2" + plain
    for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"L", b"K", b"S", b"x", b"g", b"X"):
        member = tarfile.TarInfo("odd")
        header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
        header[156:157] = kind
        header[124:136] = b"00000000011\0"
        yield (
            b"\1"
            + bytes(header)
            + b"9 size=1\n".ljust(512, b"\0")
            + packed(tarfile.USTAR_FORMAT, "")
        )
    for fields in (
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.map": "0,1,4,2", "GNU.sparse.size": "9"},
        {"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1", "GNU.sparse.offset": "1"},
        {"path": "../x", "size": "3", "hdrcharset": "BINARY"},
    ):
        member = tarfile.TarInfo("sparse")
        member.pax_headers = fields
        content = b"1\n1\n1\n".ljust(512, b"\0") + b"x"
        member.size = len(content)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
            file.addfile(member, io.BytesIO(content))
        yield b"\1" + buffer.getvalue()


def packed(style: int, prefix: str) -> bytes:
    """A small model as a tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style) as file:
        folder = tarfile.TarInfo(f"{prefix}assets")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name, content in (
            ("saved_model.pb", b"graph"),
            ("assets/größe", b""),
            ("variables/variables.index", random.Random(1).randbytes(600)),
        ):
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()[:6144]  # less padding than usual


def fuzz(test: Callable[[bytes], None], seeds: Iterable[bytes]) -> None:
    """Fuzzes with limits that suit archives."""
    archive._BYTES_BEYOND_SUSPICION = 1 << 20
    running.fuzz(test, seeds, max_len=12_000, timeout=10, rss_limit_mb=2048)


if __name__ == "__main__":
    fuzz(test_one_input, seeds())
