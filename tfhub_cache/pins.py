"""Lock files: which archives a project's models are made of, so that it gets the same everywhere.

A lock file is JSON, made to be kept beside the code and to be read by people too:

    {
      "format": 1,
      "archives": {
        "https://tfhub.dev/google/nnlm-en-dim128/2": {
          "size": 483813216,
          "sha256": "4f2b5c..."
        }
      }
    }

Handles stand as they are written, and in the order of the alphabet. (In the cache there are files
that end in `.lock`, too. Those tell who is downloading, and have nothing to do with this.)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tfhub_cache import bounded_json
from tfhub_cache.errors import LockfileError
from tfhub_cache.manifest import Archive
from tfhub_cache.urls import redact

FORMAT = 1


@dataclass(frozen=True)
class Locked:
    """What a lock file says of a handle.

    Attributes:
        archive: what the model has to be made of.
        file: the lock file, for messages.
    """

    archive: Archive
    file: str

    def check(self, handle: str, url: str, size: int | None, sha256: str | None) -> None:
        """Compares what is known of an archive.

        Args:
            handle: what it was downloaded for.
            url: where it came from, as it may be shown.
            size: its size in bytes; None: it is not known.
            sha256: its digest; None: it is not known yet.

        Raises:
            LockfileError: if it is another one.
        """
        expected = self.archive
        if size in (None, expected.size) and sha256 in (None, expected.sha256):
            return
        found = f"{size} bytes" + (f" with sha256 {sha256}" if sha256 else "")
        raise self._refusal(handle, url, found)

    def check_received(self, handle: str, url: str, received: int) -> None:
        """Compares how many bytes of an archive have come so far; arguments as of `check`.

        Raises:
            LockfileError: if they are more than all of it.
        """
        if received > self.archive.size:
            raise self._refusal(handle, url, "more")

    def _refusal(self, handle: str, url: str, found: str) -> LockfileError:
        expected = self.archive
        return LockfileError(
            f"The archive of {redact(handle)} at {url} is not the one that is locked: expected "
            f"{expected.size} bytes with sha256 {expected.sha256}, as {self.file} has it, and got "
            f"{found}. Nothing of it is used. If its publisher has changed it, and you trust that, "
            "write the lock file anew with tfhub-cache lock.",
            handle=redact(handle),
            url=url,
        )


def locked(handle: str, file: str) -> Locked:
    """What a lock file says of a handle. The file is parsed once, and again when it changes.

    Args:
        handle: the handle as the user wrote it.
        file: the lock file.

    Raises:
        LockfileError: if the handle is not in it, or it can't be read.
    """
    archive = _archives(file).get(handle)
    if archive is None:
        shown = redact(handle)
        raise LockfileError(
            f"{shown} is not in the lock file {file}, so it is not used. To use it, add it to the "
            f"list that the lock file is made of, and write it anew: tfhub-cache lock -r LIST "
            f"-o {shlex.quote(file)}",
            handle=shown,
        )
    return Locked(archive, file)


def read(file: str) -> dict[str, Archive]:
    """The archives in a lock file, by their handles.

    Raises:
        LockfileError: if it can't be read, or is none.
    """
    try:
        with open(file, encoding="utf-8-sig") as opened:  # editors of Windows put a mark there
            data = bounded_json.parse(opened.read())
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, and this version knows {FORMAT}")
        return {handle: _archive(handle, fields) for handle, fields in data["archives"].items()}
    except OSError as error:
        raise LockfileError(
            f"The lock file {file} can't be read: {error.strerror or error}. Check TFHUB_LOCKFILE, "
            f"or write it: tfhub-cache lock -r LIST -o {shlex.quote(file)}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = str(error) if isinstance(error, ValueError) else "a part of it is missing"
        raise LockfileError(
            f"{file} is no lock file: {cause}. Write it anew: tfhub-cache lock -r LIST "
            f"-o {shlex.quote(file)}"
        ) from error


def check_writable(file: str) -> None:
    """Finds out what would keep a lock file from being written, before models are downloaded.

    Raises:
        OSError: if its folder is not there or can't be written, or it is a folder itself.
    """
    target = os.path.realpath(file)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, "It is a folder", file)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "There is no such folder", folder)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, "Its folder can't be written", folder)


def write(file: str, archives: Mapping[str, Archive]) -> None:
    """Writes a lock file, in one step: there is the old one, or the new one.

    Raises:
        OSError: if it can't be written; the old one is then as it was.
    """
    import uuid  # slow to import, and of no use to those who read

    data = {
        "format": FORMAT,
        "archives": {handle: asdict(archives[handle]) for handle in sorted(archives)},
    }
    target = os.path.realpath(file)  # where it is a link, the link stays
    unfinished = f"{target}.{uuid.uuid4().hex}.tmp"
    try:
        with open(unfinished, "x", encoding="utf-8", newline="\n") as opened:
            opened.write(json.dumps(data, indent=2) + "\n")
        os.replace(unfinished, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise


def _archives(file: str) -> dict[str, Archive]:
    try:
        status = os.stat(file)
    except OSError:
        return read(file)  # which raises what is wrong
    return _read_once(file, (status.st_mtime_ns, status.st_size, status.st_dev, status.st_ino))


@functools.lru_cache(maxsize=8)
def _read_once(file: str, stamp: tuple[int, ...]) -> dict[str, Archive]:
    """The archives in a lock file; the stamp is another one when the file has changed."""
    return read(file)


def _archive(handle: str, fields: Any) -> Archive:
    size, sha256 = fields["size"], fields["sha256"]
    if type(size) is not int or size < 0:
        raise ValueError(f"the size of {redact(handle)} is {size!r}")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"the sha256 of {redact(handle)} is {sha256!r}")
    return Archive(size, sha256)
