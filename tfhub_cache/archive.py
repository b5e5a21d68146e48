"""Unpacking: a stream of a tar archive, compressed or not, becomes files.

The archive is read once, from its first byte to its last, and never as a whole in memory. Its
compression is told from its first bytes. What a member may be and where it may land is the rule
of tensorflow_hub: files and folders below the model's folder, nothing else.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import lzma
import os
import posixpath
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, Protocol, cast

from tfhub_cache.errors import ArchiveError, ResolveError, UnsafeArchiveError
from tfhub_cache.source import ByteStream
from tfhub_cache.store import Staging

_CHUNK = 1 << 20
_RECEIVE = 256 << 10


@dataclass(frozen=True)
class UnpackedFile:
    """One file of a model: its path in the model's folder, its size in bytes, its digest."""

    path: str
    size: int
    sha256: str


def unpack(stream: ByteStream, staging: Staging) -> list[UnpackedFile]:
    """Unpacks an archive into a folder.

    Args:
        stream: the archive's bytes; read to the end, and closed if that fails.
        staging: the folder.

    Returns:
        The files, in the order of their paths. Where an archive holds a file twice, the later
        one counts, as tar has it.

    Raises:
        ArchiveError: if it is no archive, damaged, ends too early, or holds no file.
        UnsafeArchiveError: if a member is a link or a device, or escapes from the folder.
        OSError: as `stream` and `staging` raise it.
    """
    try:
        with _decompressed(stream) as plain:
            return _unpack_tar(plain, staging)
    except tarfile.TarError as error:
        raise ArchiveError(str(error)) from error


def _unpack_tar(plain: _Plain, staging: Staging) -> list[UnpackedFile]:
    files: dict[str, UnpackedFile] = {}
    folders: set[str] = set()
    with tarfile.open(mode="r|", fileobj=cast(Any, plain), bufsize=_CHUNK) as tar:
        for member in tar:
            path = _safe_path(member)
            if path in (folders if member.isreg() else files) or not files.keys().isdisjoint(
                _folders_of(path)
            ):
                raise ArchiveError(f"it holds {path!r} as a file and as a folder")
            folders.update(_folders_of(path))
            if member.isreg():
                files[path] = _write(tar, member, path, staging)
            elif path:
                folders.add(path)
                staging.make_folder(path)
    while plain.read(_CHUNK):  # the checksum of the whole stands at its very end
        pass
    if not files:
        raise ArchiveError("it holds no files")
    return [files[path] for path in sorted(files)]


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


def _folders_of(path: str) -> list[str]:
    """The folders above a path: `a` and `a/b` for `a/b/c`."""
    return [path[:index] for index, character in enumerate(path) if character == "/"]


def _write(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: str, staging: Staging
) -> UnpackedFile:
    source = tar.extractfile(member)
    assert source is not None  # regular members have content
    digest = hashlib.sha256()
    size = 0
    with staging.create_file(path) as file:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            size += len(chunk)
    return UnpackedFile(path, size, digest.hexdigest())


class _Received(io.RawIOBase):
    """The stream as a file: what was read ahead to look at first, then the rest."""

    def __init__(self, stream: ByteStream, head: bytes) -> None:
        self._stream = stream
        self._head = head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        # In small pieces, so that a thread that reads here can be stopped soon.
        data = self._head or self._stream.read(min(len(buffer), _RECEIVE))
        data, self._head = data[: len(buffer)], self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class _Reader(Protocol):
    """What the decompressors have in common."""

    def read(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


class _Plain:
    """Decompressed bytes, whose damage is told as an `ArchiveError`."""

    def __init__(self, stream: ByteStream, reader: _Reader) -> None:
        self._stream = stream
        self._reader = reader

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
        return _Plain(stream, _open_gzip(received))
    if head.startswith(b"BZh"):
        return _Plain(stream, bz2.BZ2File(cast(Any, received)))
    if head.startswith(b"\xfd7zXZ\x00"):
        return _Plain(stream, lzma.LZMAFile(cast(Any, received)))
    return _Plain(stream, io.BufferedReader(received, _CHUNK))


def _open_gzip(file: io.RawIOBase) -> _Reader:
    try:
        from isal import igzip_threaded  # twice as fast as zlib, and in a thread of its own
    except ImportError:  # no wheel for this machine
        import gzip

        return gzip.GzipFile(fileobj=cast(Any, file), mode="rb")
    reader: _Reader = igzip_threaded.open(file, "rb")
    return reader
