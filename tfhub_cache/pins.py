"""Lock files: which files a project's models consist of, so that they are the same on each machine.

A lock file is JSON, kept beside the code, and read by people too:

    {
      "format": 2,
      "models": {
        "https://tfhub.dev/google/nnlm-en-dim128/2": {
          "size": 483813216,
          "sha256": "4f2b5c..."
        }
      }
    }

Size and SHA-256 are those of the model's files (`manifest.digest_of`), however they were packed.
Handles are as the user writes them, in alphabetical order. (The files in the cache that end in
`.lock` say which process is downloading, and are another thing.)
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from tfhub_cache import bounded_json
from tfhub_cache.bounded_json import number, sha256
from tfhub_cache.errors import LockfileError
from tfhub_cache.manifest import Manifest
from tfhub_cache.urls import redact

FORMAT = 2


@dataclass(frozen=True)
class Pin:
    """What a model consists of.

    Attributes:
        size: bytes of its files.
        sha256: their digest, see `manifest.digest_of`.
    """

    size: int
    sha256: str

    @classmethod
    def of(cls, manifest: Manifest) -> Pin:
        """The pin of the model that a manifest describes."""
        return cls(manifest.size, manifest.digest)

    def __str__(self) -> str:
        return f"{self.size} bytes with sha256 {self.sha256}"


@dataclass(frozen=True)
class Locked:
    """What a lock file says of a handle.

    Attributes:
        pin: what the model has to consist of.
        file: the lock file, for messages.
    """

    pin: Pin
    file: str

    def refusal(self, handle: str, url: str, found: str) -> LockfileError:
        """What is raised if the model at a URL is another one.

        Args:
            handle: what it was downloaded for.
            url: where it came from, as it may be shown.
            found: what it consists of.
        """
        return LockfileError(
            f"The model of {redact(handle)} at {url} is not the one that is locked: expected "
            f"{self.pin}, as {self.file} has it, and got {found}. Nothing of it is used. If its "
            "publisher has changed it, and you trust that, write the lock file again with "
            "tfhub-cache lock.",
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
    stamp: tuple[int, ...] = ()
    with contextlib.suppress(OSError):  # which reading it raises, too
        status = os.stat(file)
        stamp = status.st_mtime_ns, status.st_size, status.st_dev, status.st_ino
    pin = _read_once(file, stamp).get(handle)
    if pin is None:
        shown = redact(handle)
        raise LockfileError(
            f"{shown} is not in the lock file {file}, so it is not used. To use it, add it to the "
            f"list that the lock file is made of, and write it again: {_how_to_write(file)}",
            handle=shown,
        )
    return Locked(pin, file)


def read(file: str) -> dict[str, Pin]:
    """The models in a lock file, by their handles.

    Raises:
        LockfileError: if it can't be read, or is not a valid lock file.
    """
    try:
        with open(file, encoding="utf-8-sig") as opened:  # editors of Windows put a mark there
            data = bounded_json.parse(opened.read())
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, and this version reads {FORMAT}")
        return {
            handle: Pin(number(fields["size"]), sha256(fields["sha256"]))
            for handle, fields in data["models"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        otherwise = error if isinstance(error, ValueError) else "a part of it is missing"
        cause = getattr(error, "strerror", None) or otherwise
        raise LockfileError(
            f"The lock file {file} can't be used: {cause}. Check TFHUB_LOCKFILE, or write it: "
            f"{_how_to_write(file)}"
        ) from error


def check_writable(file: str) -> None:
    """Checks that a lock file can be written, before models are downloaded.

    Raises:
        LockfileError: if its folder does not exist or can't be written, or it is a folder itself.
    """
    target = os.path.realpath(file)
    if os.path.isdir(target) or not os.access(os.path.dirname(target), os.W_OK):
        reason = "it is a folder, or its folder does not exist or can't be written"
        raise LockfileError(f"The lock file {file} can't be written: {reason}.")


def write(file: str, pins: Mapping[str, Pin]) -> None:
    """Writes a lock file, in one step: readers see the old one or the new one.

    Raises:
        LockfileError: if it can't be written; the old one is then as it was.
    """
    import uuid  # slow to import, and not needed to read

    data = {"format": FORMAT, "models": {handle: asdict(pins[handle]) for handle in sorted(pins)}}
    target = os.path.realpath(file)  # where it is a link, the link stays
    unfinished = f"{target}.{uuid.uuid4().hex}.tmp"
    try:
        with open(unfinished, "x", encoding="utf-8", newline="\n") as opened:
            opened.write(json.dumps(data, indent=2) + "\n")
        os.replace(unfinished, target)
    except OSError as error:
        reason = error.strerror or error
        raise LockfileError(f"The lock file {file} can't be written: {reason}.") from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)


@functools.lru_cache(maxsize=8)
def _read_once(file: str, stamp: tuple[int, ...]) -> dict[str, Pin]:
    """The pins in a lock file; the stamp is another one when the file has changed."""
    return read(file)


def _how_to_write(file: str) -> str:
    return f"tfhub-cache lock -r LIST -o {shlex.quote(file)}"
