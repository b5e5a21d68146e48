"""Unpacking: a stream of a tar archive, compressed or not, becomes files.

The archive is read once, from its first byte to its last, and never as a whole in memory. Its
compression is told from its first bytes. What a member may be and where it may land is the rule
of tensorflow_hub: files and folders below the model's folder, nothing else.
"""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import io
import lzma
import os
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, BinaryIO, Protocol, cast

from tfhub_cache.errors import ArchiveError, ResolveError, UnsafeArchiveError
from tfhub_cache.manifest import File
from tfhub_cache.source import ByteStream
from tfhub_cache.store import Staging

_CHUNK = 1 << 20
_RECEIVE = 256 << 10


_BYTES_BEYOND_SUSPICION = 4 << 30
"""An archive that unpacks to no more than this is no bomb, however well it is compressed."""
_LONGEST_PADDING = 16 << 20
_LONGEST_HEADER = 1 << 20
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        ratio: how many times larger than the archive the files may be.
        members: how many files and folders there may be.
    """

    ratio: float = 200.0
    members: int = 100_000


def unpack(stream: ByteStream, staging: Staging, limits: Limits) -> tuple[File, ...]:
    """Unpacks an archive into a folder.

    Args:
        stream: the archive's bytes; read to the end, and closed if that fails.
        staging: the folder, empty.
        limits: what is too much.

    Returns:
        The files, in the order of their paths. Where an archive holds a file twice, the later
        one counts, as tar has it.

    Raises:
        ArchiveError: if it is no archive, damaged, ends too early, or holds no file.
        UnsafeArchiveError: if a member is a link or a device, or escapes from the folder; if the
            archive exceeds the limits, or holds names that this file system can't tell apart.
        OSError: as `stream` and `staging` raise it.
    """
    with _decompressed(stream) as plain:
        return _Unpacking(plain, staging, limits).run()


class _Unpacking:
    """One run through an archive, and what is known of it so far."""

    def __init__(self, plain: _Plain, staging: Staging, limits: Limits) -> None:
        self._plain = plain
        self._staging = staging
        self._limits = limits
        self._files: dict[str, File] = {}
        self._folders: set[str] = set()
        self._written = 0

    def run(self) -> tuple[File, ...]:
        with (
            _damage_told(),
            tarfile.open(
                mode="r|", fileobj=cast(Any, self._plain), bufsize=_CHUNK, tarinfo=_Member
            ) as tar,
        ):
            members = 0
            while (member := tar.next()) is not None:
                # tarfile would remember all of them, which is a way to exhaust memory.
                tar.members = []  # type: ignore[attr-defined]
                members += 1
                if members > self._limits.members:
                    raise UnsafeArchiveError(
                        f"The archive holds more than {self._limits.members} files and folders. "
                        "If you trust it, raise TFHUB_UNPACK_MAX_FILES."
                    )
                self._unpack(tar, member)
        self._read_to_the_end()
        if not self._files:
            raise ArchiveError("it holds no files")
        return tuple(self._files[path] for path in sorted(self._files))

    def _unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = _safe_path(member)
        above = [path[:index] for index, character in enumerate(path) if character == "/"]
        if path in (self._folders if member.isreg() else self._files) or any(
            folder in self._files for folder in above
        ):
            raise UnsafeArchiveError(f"The archive holds {path!r} as a file and as a folder.")
        self._folders.update(above)
        if member.isreg():
            self._files[path] = self._write(tar, member, path)
        elif path:
            self._folders.add(path)
            self._staging.make_folder(path)

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> File:
        self._staging.check_space(member.size)
        source = tar.extractfile(member)
        assert source is not None  # regular members have content
        digest = hashlib.sha256()
        size = 0
        with self._create(path) as file:
            while True:
                with _damage_told():
                    chunk = source.read(_CHUNK)
                if not chunk:
                    return File(path, size, digest.hexdigest())
                self._check_ratio(len(chunk))
                digest.update(chunk)
                file.write(chunk)
                size += len(chunk)

    def _create(self, path: str) -> BinaryIO:
        try:
            return self._staging.create_file(path, replace=path in self._files)
        except FileExistsError:
            raise UnsafeArchiveError(
                f"The archive holds {path!r} and another name that this file system, which does "
                "not tell upper from lower case, takes for the same."
            ) from None

    def _check_ratio(self, size: int) -> None:
        self._written += size
        allowed = max(_BYTES_BEYOND_SUSPICION, self._limits.ratio * self._plain.received)
        if self._written > allowed:
            raise UnsafeArchiveError(
                f"The archive unpacks to more than {self._limits.ratio:g} times its size, as an "
                "archive does that is made to fill disks. If you trust it, raise "
                "TFHUB_UNPACK_MAX_RATIO."
            )

    def _read_to_the_end(self) -> None:
        # The checksum of the whole stands at its very end, behind the padding.
        padding = 0
        while more := self._plain.read(_CHUNK):
            padding += len(more)
            if padding > _LONGEST_PADDING:
                raise ArchiveError("it goes on and on after its end")
        self._plain.exhaust()


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    """Tells damage to the tar structure as an `ArchiveError`."""
    try:
        yield
    except (UnsafeArchiveError, OSError):
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        # tarfile lets some ValueErrors of broken headers through.
        raise ArchiveError(str(error) or type(error).__name__) from error


class _Member(tarfile.TarInfo):
    """A member whose name can't fill the memory: tarfile reads headers as a whole."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def _safe_path(member: tarfile.TarInfo) -> str:
    """The member's path below the model's folder, normalised; "" for that folder itself."""
    if not (member.isreg() or member.isdir()):
        raise UnsafeArchiveError(
            f"Unexpected object type in tar archive: {member.name!r} is neither a file nor a "
            f"folder (type {member.type!r}). Nothing of it was kept."
        )
    # As in tensorflow_hub, a leading slash means the model's folder.
    path = posixpath.normpath(member.name.lstrip("/"))
    unsafe = path == ".." or path.startswith("../") or "\0" in path
    if os.name == "nt":
        windows = PureWindowsPath(path)
        unsafe = unsafe or bool(windows.drive or windows.root) or ".." in windows.parts
    if unsafe or (path == "." and member.isreg()):
        raise UnsafeArchiveError(
            f"Relative path {member.name!r} is invalid: it leaves the model's folder. Nothing of "
            "the archive was kept."
        )
    return "" if path == "." else path


class _Received(io.RawIOBase):
    """The stream as a file: what was read ahead to look at first, then the rest."""

    def __init__(self, stream: ByteStream, head: bytes) -> None:
        self._stream = stream
        self._head = head
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        # In small pieces, so that a thread that reads here can be stopped soon.
        data = self._head or self._stream.read(min(len(buffer), _RECEIVE))
        data, self._head = data[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Reader(Protocol):
    """What the decompressors have in common."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class _Plain:
    """Decompressed bytes, whose damage is told as an `ArchiveError`."""

    def __init__(self, stream: ByteStream, received: _Received, reader: _Reader) -> None:
        self._stream = stream
        self._received = received
        self._reader = reader

    @property
    def received(self) -> int:
        """How many compressed bytes have arrived."""
        return self._received.count

    def exhaust(self) -> None:
        """Reads what the decompressor did not want, since the stream is checked at its end."""
        wanted = self.received
        while self._received.read(_RECEIVE):
            if self.received > wanted + _LONGEST_PADDING:
                raise ArchiveError("it goes on and on after its end")

    def read(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except ResolveError:
            raise
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise ArchiveError(str(error).rstrip(".") or type(error).__name__) from error

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._stream.close()  # first, since a thread that inflates may be waiting for it
        self._reader.close()


def _decompressed(stream: ByteStream) -> _Plain:
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    received = _Received(stream, head)
    if head.startswith(b"\x1f\x8b"):
        return _Plain(stream, received, _open_gzip(received))
    if head.startswith(b"BZh"):
        return _Plain(stream, received, bz2.BZ2File(cast(Any, received)))
    if head.startswith(b"\xfd7zXZ\x00"):
        return _Plain(stream, received, lzma.LZMAFile(cast(Any, received)))
    return _Plain(stream, received, io.BufferedReader(received, _CHUNK))


def _open_gzip(file: io.RawIOBase) -> _Reader:
    try:
        from isal import igzip_threaded  # twice as fast as zlib, and in a thread of its own
    except ImportError:  # no wheel for this machine
        import gzip

        return gzip.GzipFile(fileobj=cast(Any, file), mode="rb")
    reader: _Reader = igzip_threaded.open(file, "rb")
    return reader
