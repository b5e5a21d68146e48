"""An entry as it is found in a store: which model, how large, whether it is whole, when used."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tfhub_cache.manifest import Manifest
from tfhub_cache.printing import printable

ABSENT = "there is no entry"
"""The flaw of an entry that is not there."""
MANIFEST_UNREADABLE = "its manifest can't be read"
"""The flaw of an entry that has something in place of a manifest."""
NOT_PERMITTED = "the permission is missing to read"
"""How the flaw of an entry begins that may be whole, but is somebody else's."""
State: TypeAlias = Literal["ok", "foreign", "downloading", "incomplete"]

DESCRIPTOR_BYTES = 1 << 17
"""Bytes that a descriptor file may have, which is made of a handle and little else."""
RECORD_SECONDS = 3600.0
"""How often the use of an entry is recorded, at most."""


@dataclass(frozen=True)
class Entry:
    """An entry of the cache, or what there is of one.

    Attributes:
        key: its name in the cache, the sha1 of the handle.
        path: where it is.
        handle: the handle as the user wrote it; None if nothing tells it, as of a small model that
            is being downloaded for the first time.
        state: `ok`; `foreign`, made by tensorflow_hub and whole as far as names of files tell;
            `downloading`, somebody is making it and there is nothing else to be used; or
            `incomplete`, which is damaged, or what a dead process left behind.
        flaw: why it can't be used, in words; None if it can.
        size: bytes of the model's files; where it is being downloaded for the first time, what has
            arrived so far.
        files: the number of the model's files.
        downloaded: when it was downloaded, with a time zone; None if nothing tells it.
        used: when its last use was recorded, which is done at most once an hour; None if nothing
            tells it.
        holder: who is making or removing it at this moment, `<host>.<pid>.<id>`; None if nobody.
        leftovers: what dead processes left of it: names in the cache, and bytes.
        received: bytes of its archive that are there, of a download that is going on or was
            interrupted, which the next one goes on with; None if there are none that would outlive
            their process.
        expected: bytes that the archive of that download has.
        manifest: what is known of it; None of an entry that tensorflow_hub made.
    """

    key: str
    path: str
    handle: str | None = None
    state: State = "incomplete"
    flaw: str | None = None
    size: int = 0
    files: int = 0
    downloaded: datetime.datetime | None = None
    used: datetime.datetime | None = None
    holder: str | None = None
    leftovers: Mapping[str, int] = field(default_factory=dict)
    received: int | None = None
    expected: int | None = None
    manifest: Manifest | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is a model, whole or damaged."""
        return self.flaw != ABSENT

    @property
    def is_versioned(self) -> bool | None:
        """Whether the handle names a version; None if the handle is not known.

        One that doesn't means "the latest", and stays what was the latest when it was downloaded.
        """
        return None if self.handle is None else is_versioned(self.handle)


Condition: TypeAlias = Callable[[Entry], bool]
"""Whether an entry, as it is when nobody else works on it, is to be removed."""


class InUse(OSError):  # noqa: N818 - it reads as what it is
    """Somebody alive is making or removing the entry."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"it is in use by {printable(holder) or 'somebody'}")
        self.holder = holder


def key_of(handle: str) -> str:
    """The name of a handle's entry; as tensorflow_hub has it, the handle is not normalised."""
    return hashlib.sha1(handle.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def is_versioned(handle: str) -> bool:
    """Whether a handle names a version, which never changes."""
    return re.search(r"/[0-9]+(\.tar|\.tgz|\.tar\.gz)?/?$", handle.partition("?")[0]) is not None


def names_by_key(names: Iterable[str]) -> dict[str, list[str]]:
    """The names at the top of a cache by the entry that they belong to; others are not ours."""
    found: dict[str, list[str]] = {}
    for name in names:
        if _OF_AN_ENTRY.fullmatch(name):
            found.setdefault(name[:40], []).append(name)
    return found


_OF_AN_ENTRY = re.compile(r"[0-9a-f]{40}(\..*)?", re.DOTALL)


def is_left_behind(name: str, *, has_entry: bool) -> bool:
    """Whether a name at the top of a cache is of no use to anybody when nobody has the lock."""
    suffix = name[40:]
    return (
        suffix in (".lock", ".unfinished")
        or suffix.endswith(".tmp")
        or suffix.startswith(".part")
        or (not has_entry and suffix in ("", ".manifest.json", ".descriptor.txt", ".used"))
    )


def state_of(flaw: str | None, manifest: Manifest | None, holder: str | None) -> State:
    """The state that follows from what was found."""
    if flaw is None:
        return "ok" if manifest else "foreign"
    return "downloading" if holder is not None else "incomplete"


def origin_of(
    key: str, manifest: Manifest | None, read_descriptor: Callable[[], str]
) -> tuple[str | None, datetime.datetime | None]:
    """Handle and time of download: from the manifest, without one from the descriptor file."""
    if manifest is not None:
        handle, time = manifest.handle, manifest.downloaded.time
    else:
        fields = dict(line.partition(": ")[::2] for line in read_descriptor().splitlines())
        handle, time = fields.get("Module", ""), fields.get("Download Time", "")
    # What belongs to another entry tells nothing of this one.
    return handle if key_of(handle) == key else None, _parse_time(time)


def _parse_time(text: str) -> datetime.datetime | None:
    """A time in ISO's form; tensorflow_hub writes the local one, without a zone."""
    try:
        return datetime.datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def at(timestamp: float) -> datetime.datetime:
    """A time of the file system's, with this machine's zone: the nearest one from 1970 to 9999.

    File systems keep times that no calendar has, and some systems tell no zone of earlier ones.
    """
    bounded = min(max(0.0, timestamp), _LATEST)
    return datetime.datetime.fromtimestamp(bounded, datetime.timezone.utc).astimezone()


_LATEST = datetime.datetime(9999, 12, 30, tzinfo=datetime.timezone.utc).timestamp()
