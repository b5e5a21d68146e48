"""A fuzz target for the headers that give a name or a size to a member of a tar.

It is run like `fuzz_archive.py`, whose oracle holds here, too. More than that, what is accepted
must be what Python's own tarfile reads.

An input is the headers before one member, with a byte 255 between them. The first byte of each says
what kind of header it is; the others are what stands in it.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator

from fuzz_archive import fuzz, unpacked

KINDS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
CONTENT = bytes(range(256)) * 4


def test_one_input(data: bytes) -> None:
    """Unpacks a tar of two files, one of them behind the headers, and compares it with tarfile."""
    parts = [packed(KINDS[part[0] % len(KINDS)], part[1:]) for part in data.split(b"\xff") if part]
    whole = b"".join(parts) + packed(tarfile.REGTYPE, CONTENT)
    whole += packed(tarfile.REGTYPE, b"last", "last") + bytes(1024)
    staging = unpacked(whole)
    if staging is None:
        return
    files = {path: file.getvalue() for path, file in staging.files.items()}
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:", encoding="utf-8") as file:
        expected = {
            posixpath.normpath(member.name.lstrip("/")): file.extractfile(member).read()
            for member in file
        }
    if files != expected:
        raise AssertionError(f"{sorted(files)} instead of {sorted(expected)}")


def packed(kind: bytes, content: bytes, name: str = "name") -> bytes:
    """A header block, and what follows it."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, len(content)
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def seeds() -> Iterator[bytes]:
    """Headers as tar programs write them, and as attackers do."""
    for content in (
        b"10 path=a\n",
        b"12 path=a/b\n11 size=10\n",
        b"12 size=1024\n",
        b"11 size=-1\n",
        b"18 size=9999999999\n",
        b"24 GNU.sparse.realsize=1\n",
        b"20 GNU.sparse.map=0,1\n",
        b"21 hdrcharset=BINARY\n11 path=\xe9\n",
        b"30 mtime=1700000000.123456789\n",
        b"9" * 100,
        b"long/" * 30 + b"name\0",
    ):
        for number in range(len(KINDS)):
            yield bytes([number]) + content
            yield bytes([number]) + content + b"\xff\0" + b"10 path=b\n"


if __name__ == "__main__":
    fuzz(test_one_input, seeds())
