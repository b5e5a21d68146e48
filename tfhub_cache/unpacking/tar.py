"""The structure of a tar: its members, one after the other, from a stream that can't go back.

tarfile parses each block of a header. How headers belong together is read here, since tarfile
believes what they say: it reads them however long and however many they are, takes -1 for a size,
and a damaged one for the end of the archive.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator

from tfhub_cache.errors import ArchiveError, UnsafeArchiveError
from tfhub_cache.source.contract import ByteStream

_CHUNK = 1 << 20
_LONGEST_PADDING = 16 << 20
_LONGEST_HEADERS = 64 << 10
_MOST_HEADERS = 16
_LARGEST_FILE = (1 << 63) - 1
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_PAX)
_PAX_LENGTH = re.compile(rb"([0-9]{1,6}) ")
_PAX_SIZE = re.compile(rb"[0-9]{1,20}")


class Tar:
    """The members of a tar.

    Attributes:
        header_bytes: how many bytes of long names and pax headers there were so far.
    """

    def __init__(self, plain: ByteStream) -> None:
        self._plain = plain
        self._left = self._padding = 0
        self.header_bytes = 0

    def next_member(self) -> tarfile.TarInfo | None:
        """The next member, with the name and the size that the headers before it give; or None.

        The content of the one before must have been read.

        Raises:
            ArchiveError: if the archive is damaged or ends here too early.
            UnsafeArchiveError: if it is a sparse file.
        """
        self._read(self._padding)
        given: dict[str, str] = {}
        headers = length = 0
        while True:
            block = self._read(tarfile.BLOCKSIZE)
            if not headers and not block.strip(b"\0"):
                return None
            try:
                member = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
            except (tarfile.TarError, ValueError) as error:
                raise ArchiveError(str(error)) from error
            if member.type not in _HEADERS:
                break
            headers, length = headers + 1, length + member.size
            if headers > _MOST_HEADERS or not 0 <= member.size <= length <= _LONGEST_HEADERS:
                raise ArchiveError(f"{headers} headers of {length} bytes for one member")
            content = self._read(member.size)
            self._read(-member.size % tarfile.BLOCKSIZE)
            given = {**_given(member.type, content), **given}  # the first counts, as in tarfile
        self.header_bytes += length
        member.name = given.get("path", member.name)
        member.size = int(given.get("size", member.size))
        if "sparse" in given or member.type == tarfile.GNUTYPE_SPARSE:
            raise UnsafeArchiveError(
                f"Unexpected object type in tar archive: {member.name[:300]!r} is a sparse file. "
                "Its publisher has to pack it without tar's option --sparse."
            )
        if not 0 <= member.size <= _LARGEST_FILE:
            raise ArchiveError(f"a member in it has the size {member.size}")
        self._left = member.size if member.isreg() else 0
        self._padding = -self._left % tarfile.BLOCKSIZE
        return member

    def read(self, size: int) -> bytes:
        """At most `size` bytes of the member's content, and none at its end only."""
        if not self._left:
            return b""
        data = self._plain.read(min(size, self._left))
        if not data:
            raise ArchiveError("it ends in the middle of a file")
        self._left -= len(data)
        return data

    def finish(self) -> None:
        """Reads the padding behind the last member, up to the end of the stream."""
        padding = 0
        while more := self._plain.read(_CHUNK):
            padding += len(more)
            if more.count(0) != len(more):
                raise ArchiveError("something follows its end")
            if padding > _LONGEST_PADDING:
                raise ArchiveError(f"more than {_LONGEST_PADDING >> 20} MiB follow its end")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._plain.read(size - len(data))
            if not more:
                raise ArchiveError("it ends too early")
            data += more
        return data


def _given(kind: bytes, content: bytes) -> dict[str, str]:
    """What a header says of the member that follows: its `path`, its `size`, if it is `sparse`."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode(tarfile.ENCODING, "surrogateescape")}
    given = {}
    for keyword, value in _pax_records(content) if kind in _PAX else ():
        if keyword == b"path":
            given["path"] = value.decode("utf-8", "surrogateescape")
        elif keyword == b"size":
            if not _PAX_SIZE.fullmatch(value):
                raise ArchiveError(
                    f"a member in it has the size {value[:30].decode('ascii', 'replace')!r}"
                )
            given["size"] = value.decode()
        elif keyword.startswith(b"GNU.sparse."):
            given["sparse"] = ""
    if given and kind == tarfile.XGLTYPE:
        raise ArchiveError(f"one {min(given)} is given to all its members")
    return given


def _pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keywords and values of a pax header: "length keyword=value", each with a newline."""
    end, length = 0, len(content.rstrip(b"\0"))
    while end < length:
        match = _PAX_LENGTH.match(content, end)
        start, end = (match.end(), end + int(match[1])) if match else (end, end)
        keyword, equals, value = content[start:end].partition(b"=")
        if end > length or not keyword or not equals or not value.endswith(b"\n"):
            raise ArchiveError("a pax header in it is damaged")
        yield keyword, value[:-1]
