"""Unpacking: a stream of a tar archive, compressed or not, becomes files.

The archive is read once, from its first byte to its last, and never as a whole in memory. What a
member may be and where it may land is the rule of tensorflow_hub: files and folders below the
model's folder, nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any, BinaryIO, NoReturn, cast

from tfhub_cache.compression import PlainStream, decompress
from tfhub_cache.errors import ArchiveError, UnsafeArchiveError
from tfhub_cache.manifest import File
from tfhub_cache.source import ByteStream
from tfhub_cache.store import Staging

_CHUNK = 1 << 20
_BYTES_BEYOND_SUSPICION = 4 << 30
"""An archive that unpacks to no more than this is no bomb, however well it is compressed."""
_LONGEST_PADDING = 16 << 20
_OF_A_NAME = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ})
_LONGEST_PATH = 4096
_DEEPEST_PATH = 100
_LONGEST_HEADERS = 64 << 10
_MOST_HEADERS = 16
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


def unpack(
    stream: ByteStream, staging: Staging, limits: Limits, parallel: bool = True
) -> tuple[File, ...]:
    """Unpacks an archive into a folder.

    Args:
        stream: the archive's bytes; read to the end, and closed if that fails.
        staging: the folder, empty.
        limits: what is too much.
        parallel: whether to inflate in a thread of its own, where that is possible.

    Returns:
        The files, in the order of their paths. Where an archive holds a file twice, the later
        one counts, as tar has it.

    Raises:
        ArchiveError: if it is no archive, damaged, ends too early, or holds no file.
        UnsafeArchiveError: if a member is a link or a device, or escapes from the folder; if the
            archive exceeds the limits, or holds names that this file system can't tell apart.
        OSError: as `stream` and `staging` raise it.
    """
    try:
        with decompress(stream, parallel) as plain:
            return _Unpacking(plain, staging, limits).run()
    except BaseException:
        stream.close()
        raise


class _Unpacking:
    """One run through an archive, and what is known of it so far."""

    def __init__(self, plain: PlainStream, staging: Staging, limits: Limits) -> None:
        self._plain = plain
        self._file = _ForwardFile(plain)
        self._staging = staging
        self._limits = limits
        self._files: dict[str, File] = {}
        self._folders: set[str] = set()
        self._written = 0

    def run(self) -> tuple[File, ...]:
        file = cast(Any, self._file)
        with _damage_told(), tarfile.TarFile(fileobj=file, tarinfo=_Member) as tar:
            members = 0
            while (member := tar.next()) is not None:
                # tarfile would remember everything, which is a way to exhaust memory.
                tar.members = []  # type: ignore[attr-defined]
                tar.pax_headers = {}
                members += 1
                if members > self._limits.members:
                    raise UnsafeArchiveError(
                        f"The archive holds more than {self._limits.members} files and folders. "
                        "If you trust it, raise TFHUB_UNPACK_MAX_FILES."
                    )
                self._unpack(member)
            self._read_to_the_end()
        if not self._files:
            raise ArchiveError("it holds no files")
        return tuple(self._files[path] for path in sorted(self._files))

    def _unpack(self, member: tarfile.TarInfo) -> None:
        path = _safe_path(member)
        above = [path[:index] for index, character in enumerate(path) if character == "/"]
        if path in (self._folders if member.isreg() else self._files) or any(
            folder in self._files for folder in above
        ):
            raise UnsafeArchiveError(f"The archive holds {path!r} as a file and as a folder.")
        self._folders.update(above)
        if member.isreg():
            self._files[path] = self._write(path, member.size)
        elif path:
            self._folders.add(path)
            with self._names_told(path):
                self._staging.make_folder(path)

    def _write(self, path: str, size: int) -> File:
        digest = hashlib.sha256()
        left = size
        with self._create(path, size) as file:
            while left:
                chunk = self._file.read_some(min(left, _CHUNK))
                if not chunk:
                    raise ArchiveError("it ends in the middle of a file")
                self._check_ratio(len(chunk))
                digest.update(chunk)
                file.write(chunk)
                left -= len(chunk)
        return File(path, size, digest.hexdigest())

    def _create(self, path: str, size: int) -> BinaryIO:
        with self._names_told(path):
            return self._staging.create_file(path, size, replace=path in self._files)

    @contextlib.contextmanager
    def _names_told(self, path: str) -> Iterator[None]:
        """Tells what the file system refuses because of a name as the archive's fault."""
        try:
            yield
        except FileExistsError:
            raise UnsafeArchiveError(
                f"The archive holds {path!r} and another name that this file system, which does "
                "not tell upper from lower case, takes for the same."
            ) from None
        except OSError as error:
            if error.errno not in _OF_A_NAME:
                raise
            raise UnsafeArchiveError(
                f"The archive holds {path[:100]!r}, a name that this file system does not take: "
                f"{error.strerror}."
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
        while more := self._file.read_some(_CHUNK):
            padding += len(more)
            if more.count(0) != len(more):
                raise ArchiveError("something follows its end")
            if padding > _LONGEST_PADDING:
                raise ArchiveError("it goes on and on after its end")
        self._plain.exhaust()


class _ForwardFile:
    """A stream as tarfile wants to see it: as a file, in which one can go forward only.

    tarfile has such a thing too, for its mode "r|", but copies each byte five times.
    """

    def __init__(self, plain: PlainStream) -> None:
        self._plain = plain
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        while self._position < position and self.read_some(min(position - self._position, _CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """`size` bytes, or less at the end."""
        data = self.read_some(size)
        while len(data) < size and (more := self.read_some(size - len(data))):
            data += more
        return data

    def read_some(self, size: int) -> bytes:
        """At most `size` bytes, and none at the end only."""
        data = self._plain.read(size)
        self._position += len(data)
        return data


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
    """A member as tarfile reads it, but for what it is too trusting about.

    It reads headers that belong to a member (long names, pax) as a whole, however long and however
    many they are; it takes a damaged header for the end of the archive, which leaves out whatever
    comes after it; and the maps of sparse files can be endless.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the two blocks of zeros that end an archive
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, archive: Any) -> Any:
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        headers, length = getattr(archive, "headers_so_far", (0, 0))
        if self.type in _HEADERS:
            headers, length = headers + 1, length + self.size
            if headers > _MOST_HEADERS or length > _LONGEST_HEADERS:
                raise tarfile.ReadError(f"{headers} headers of {length} bytes for one member")
        else:
            headers, length = 0, 0
        archive.headers_so_far = (headers, length)
        return super()._proc_member(archive)  # type: ignore[misc]

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise UnsafeArchiveError(
            f"Unexpected object type in tar archive: {self.name!r} is a sparse file."
        )

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _safe_path(member: tarfile.TarInfo) -> str:
    """The member's path below the model's folder, normalised; "" for that folder itself."""
    if not (member.isreg() or member.isdir()):
        raise UnsafeArchiveError(
            f"Unexpected object type in tar archive: {member.name!r} is neither a file nor a "
            f"folder (type {member.type!r})."
        )
    # As in tensorflow_hub, a leading slash means the model's folder.
    path = posixpath.normpath(member.name.lstrip("/"))
    unsafe = path == ".." or path.startswith("../") or "\0" in path
    if os.name == "nt":
        unsafe = unsafe or ":" in path or ".." in PureWindowsPath(path).parts
    if len(path) > _LONGEST_PATH or path.count("/") > _DEEPEST_PATH:
        raise UnsafeArchiveError(f"The path {path[:100]!r}... is too long, or too deep.")
    if unsafe or (path == "." and member.isreg()):
        raise UnsafeArchiveError(
            f"Relative path {member.name!r} is invalid: it leaves the model's folder."
        )
    return "" if path == "." else path
