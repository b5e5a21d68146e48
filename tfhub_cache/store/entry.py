"""An entry as it is found in a store: which model, how large, whether intact, when used."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from tfhub_cache.manifest import Manifest
from tfhub_cache.store.flaw import ABSENT, Flaw
from tfhub_cache.urls import key_of, printable, redact

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
        handle: the handle as the user wrote it; None if it is not known, such as for a small model
            that is being downloaded for the first time.
        state: `ok`; `foreign`, made by tensorflow_hub and intact as far as names of files say;
            `downloading`, a process is making it and there is nothing else to be used; or
            `incomplete`, which is damaged, or what a crashed process left behind.
        flaw: why it can't be used, as a text; None if it can.
        is_there: whether there is a model, intact or damaged.
        size: bytes of the model's files; where it is being downloaded for the first time, what has
            arrived so far.
        files: the number of the model's files.
        downloaded: when it was downloaded, with a time zone; None if that is not known.
        used: when its last use was recorded, which is done at most once an hour; None if that is
            not known.
        holder: which process makes or removes it at this moment, `<host>.<pid>.<id>`, or None.
        leftovers: what crashed processes left of it: names in the cache, and bytes.
        received: bytes of its archive that are there, of a download that is running or was
            interrupted, which the next one resumes; None if there are none that would outlive
            their process.
        expected: bytes that the archive of that download has.
        manifest: what is known of it; None of an entry that tensorflow_hub made.
    """

    key: str
    path: str
    handle: str | None = None
    state: State = "incomplete"
    flaw: str | None = None
    is_there: bool = True
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
    def name(self) -> str:
        """The handle as it may be shown, without its query; where it is not known, the key."""
        shown = redact(self.handle or self.key)
        return f"{shown}?..." if "?" in (self.handle or "") else shown

    @property
    def is_versioned(self) -> bool | None:
        """Whether the handle names a version; None if the handle is not known.

        One that doesn't means "the latest", and stays what was the latest when it was downloaded.
        """
        return None if self.handle is None else is_versioned(self.handle)


def describe(
    key: str,
    path: str,
    sizes: Mapping[str, int],
    flaw: Flaw | None,
    *,
    files: Collection[int] = (),
    used: float | None = None,
    holder: str | None = None,
    manifest: Manifest | None = None,
    descriptor: str = "",
    partial: tuple[str, int, int] | None = None,
) -> Entry:
    """An entry, from what a store has of it.

    Args:
        key: its name in the cache.
        path: where it is.
        sizes: bytes by the names at the top of the cache: `<key>`, `<key>.lock`, `<key>.part` etc.
        flaw: why it can't be used; None if it can.
        files: sizes of the model's files.
        used: when its last use was recorded, by the store's clock.
        holder: which process makes or removes it at this moment.
        manifest: its manifest, if there is a valid one.
        descriptor: the text of its descriptor, if there is no manifest, which says the same.
        partial: handle, bytes received and bytes expected of an archive that has not all arrived.
    """
    is_there = flaw != ABSENT
    fields = dict(line.partition(": ")[::2] for line in descriptor.splitlines())
    handle, time = fields.get("Module", ""), fields.get("Download Time", "")
    if manifest is not None:
        handle, time = manifest.handle, manifest.downloaded.time
    part_of, received, expected = partial or ("", None, None)
    leftovers = {name: sizes[name] for name in removable(sizes, with_model=not is_there)}
    state: State = "incomplete"
    if flaw is None:
        state = "ok" if manifest else "foreign"
    elif holder is not None:
        state = "downloading"
    return Entry(
        key=key,
        path=path,
        # What belongs to another entry says nothing of this one.
        handle=next((one for one in (handle, part_of) if key_of(one) == key), None),
        state=state,
        flaw=None if flaw is None else str(flaw),
        is_there=is_there,
        size=sum(leftovers.values() if holder is not None and not is_there else files),
        files=len(files),
        downloaded=_parse_time(time),
        used=at(used) if is_there and used is not None else None,
        holder=holder,
        leftovers={} if holder is not None else leftovers,
        received=received,
        expected=expected,
        manifest=manifest,
    )


def removable(names: Iterable[str], *, with_model: bool) -> list[str]:
    """Which names of an entry are removed when no process holds it.

    Args:
        names: those that there are at the top of the cache.
        with_model: whether the model goes, too, if there is one. Without a model, what else belongs
            to one is left over.
    """
    of_model = ("", ".manifest.json", ".descriptor.txt", ".used") if with_model else ()
    return [
        name
        for name in names
        if name[40:] in (".lock", ".unfinished", *of_model)
        or name[40:].startswith((".part", ".cache-"))
        or name.endswith(".tmp")
    ]


Condition: TypeAlias = Callable[[Entry], bool]
"""Whether an entry, as it is when no other process works on it, is to be removed."""


class InUse(OSError):  # noqa: N818 - it reads as what it is
    """A running process makes or removes the entry."""

    def __init__(self, holder: str) -> None:
        who = f" ({printable(holder)})" if holder else ""
        super().__init__(f"another process is downloading it{who}")


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


def _parse_time(text: str) -> datetime.datetime | None:
    """A time in ISO's form; tensorflow_hub writes the local one, without a zone."""
    try:
        return datetime.datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def at(timestamp: float) -> datetime.datetime:
    """A time of the file system's, with this machine's zone: the nearest one from 1970 to 9999.

    File systems keep times that no calendar has, and some systems know no zone of earlier ones.
    """
    bounded = min(max(0.0, timestamp), _LATEST)
    return datetime.datetime.fromtimestamp(bounded, datetime.timezone.utc).astimezone()


_LATEST = datetime.datetime(9999, 12, 30, tzinfo=datetime.timezone.utc).timestamp()
