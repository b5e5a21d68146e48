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
from dataclasses import dataclass, field
from pathlib import PureWindowsPath
from typing import TypeAlias

from tfhub_cache.errors import ArchiveError, UnsafeArchiveError
from tfhub_cache.manifest import File
from tfhub_cache.source.contract import ByteStream
from tfhub_cache.store.contract import Staging
from tfhub_cache.unpacking.compression import PlainStream
from tfhub_cache.unpacking.readahead import read_ahead
from tfhub_cache.unpacking.tar import Tar

_CHUNK = 1 << 20
_LEAST_PARALLEL = 512 << 10
"""Bytes of an archive from which on it pays to receive and to inflate in threads of their own."""
_BYTES_BEYOND_SUSPICION = 4 << 30
"""An archive that unpacks to no more than this is accepted, however well it is compressed."""
_LONGEST_PATH = 4096
_DEEPEST_PATH = 100
_MEAN_HEADERS = 512
"""Bytes of long names and pax headers for each file that there may be, on average."""
_BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)

_Tree: TypeAlias = "dict[str, _Tree | None]"
"""The names in a folder: folders with what is in them, and files with None."""


@dataclass(frozen=True)
class Limits:
    """What an archive may unpack to.

    Attributes:
        ratio: how many times larger than the archive the files may be.
        members: how many files and folders there may be, including those that only paths name.
        size: how many bytes the files may have at any moment; None: any number. Where an archive
            holds a file twice, the later one replaces the earlier, which counts until then.
    """

    ratio: float = 200.0
    members: int = 100_000
    size: int | None = None


class SizeExceeded(UnsafeArchiveError):  # noqa: N818 - it reads as what it is
    """The files of an archive have more bytes than `Limits.size`."""


def unpack(
    stream: ByteStream, staging: Staging, limits: Limits, size: int | None = None
) -> tuple[File, ...]:
    """Unpacks an archive into a folder.

    Args:
        stream: the archive's bytes; read to the end, and closed if that fails.
        staging: the folder, empty.
        limits: what is too much.
        size: the number of the archive's bytes, if it is known beforehand.

    Returns:
        The files, in the order of their paths. Where an archive holds a file twice, the later
        one counts, as tar has it.

    Raises:
        ArchiveError: if it is no archive, damaged, ends too early, or holds no file.
        SizeExceeded: if the files have more than `limits.size` bytes.
        UnsafeArchiveError: if a member is a link or a device, or escapes from the folder; if the
            archive exceeds the other limits, or holds names that this file system does not take or
            can't tell apart.
        OSError: as `stream` and `staging` raise it.
    """
    is_large = size is None or size >= _LEAST_PARALLEL
    reader: ByteStream = stream
    try:
        reader = read_ahead(stream) if is_large else stream
        reader = plain = PlainStream(reader)
        if is_large and plain.is_compressed:
            reader = read_ahead(plain)
        return _Unpacking(plain, Tar(reader), staging, limits, size).run()
    except BaseException:
        reader.close()
        raise


@dataclass
class _Unpacking:
    """One run through an archive, and what is known of it so far."""

    _plain: PlainStream
    _tar: Tar
    _staging: Staging
    _limits: Limits
    _size: int | None
    _files: dict[str, File] = field(default_factory=dict)
    _tree: _Tree = field(default_factory=dict)
    _count: int = 0
    _written: int = 0
    _size_of_files: int = 0

    def run(self) -> tuple[File, ...]:
        while (member := self._tar.next_member()) is not None:
            path = _safe_path(member)
            self._count_one()
            if path:
                self._place(path, is_file=member.isreg())
            if member.isreg():
                self._files[path] = self._write(path, member.size)
            elif path:
                with _names_checked(path):
                    self._staging.make_folder(path)
        self._tar.finish()
        if not self._files:
            raise ArchiveError("it holds no files")
        return tuple(dict(sorted(self._files.items())).values())

    def _place(self, path: str, *, is_file: bool) -> None:
        """Records the names in a path, each once, since many long paths may begin alike."""
        *above, name = path.split("/")
        folder: _Tree | None = self._tree
        for part in above:
            if folder is None:
                break
            if part not in folder:
                self._count_one()
            folder = folder.setdefault(part, {})
        if folder is None or (folder.setdefault(name, None if is_file else {}) is None) != is_file:
            raise UnsafeArchiveError(f"The archive holds {path!r} as a file and as a folder.")

    def _count_one(self) -> None:
        self._count += 1
        most = self._limits.members
        if self._count > most or self._tar.header_bytes > _MEAN_HEADERS * most:
            raise UnsafeArchiveError(
                f"The archive holds more than {most} files and folders, or headers that are longer "
                "than so many need. If you trust it, raise TFHUB_UNPACK_MAX_FILES."
            )

    def _write(self, path: str, size: int) -> File:
        before = self._files.get(path)
        self._size_of_files += size - (before.size if before else 0)
        if self._limits.size is not None and self._size_of_files > self._limits.size:
            raise SizeExceeded(f"The archive unpacks to more than {self._limits.size} bytes.")
        if self._size is not None:
            self._check_ratio(self._written + size, self._size)
        digest = hashlib.sha256()
        with _names_checked(path):
            file = self._staging.create_file(path, size, replace=before is not None)
        with file:
            while chunk := self._tar.read(_CHUNK):
                self._written += len(chunk)
                self._check_ratio(self._written, self._plain.received)
                digest.update(chunk)
                file.write(chunk)
        return File(path, size, digest.hexdigest())

    def _check_ratio(self, unpacked: int, archive: int) -> None:
        if unpacked > max(_BYTES_BEYOND_SUSPICION, self._limits.ratio * archive):
            raise UnsafeArchiveError(
                f"The archive unpacks to more than {self._limits.ratio:g} times its size, as an "
                "archive does that is made to fill disks. If you trust it, raise "
                "TFHUB_UNPACK_MAX_RATIO."
            )


@contextlib.contextmanager
def _names_checked(path: str) -> Iterator[None]:
    """Turns the refusal of a name by the file system into an `UnsafeArchiveError`."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise UnsafeArchiveError(
            f"The archive holds {path!r} and another name that this file system, which does "
            "not tell upper from lower case, takes for the same."
        ) from None
    except (OSError, UnicodeEncodeError) as error:
        if isinstance(error, OSError) and error.errno not in _BAD_NAME:
            raise
        raise UnsafeArchiveError(
            f"The archive holds {path[:300]!r}, a name that this file system does not take."
        ) from error


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
