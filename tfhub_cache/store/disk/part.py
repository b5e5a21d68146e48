"""The part file of an entry: what has been received of an archive, to resume it later.

`<key>.part` has the bytes at their places in the archive. `<key>.part.json`, its journal, says
which archive they belong to, in its first line, and then, a line each, which segments are complete,
with their checksums. A line is added when the segment is written, so a process may die at any time.
After a power failure a line may be on the disk and its bytes not: the checksum shows it.

The owner of the entry's lock may use them. A process that lost the lock without noticing (on a
machine that was asleep) may still write for a while. That does no harm: a file is never used for
another version, but removed and created again, so it writes the same bytes to the same places, or
into a file that has no name any more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import io
import os
import re
import sys
from collections.abc import Callable

from tfhub_cache import bounded_json
from tfhub_cache.bounded_json import number, text
from tfhub_cache.store.disk import files
from tfhub_cache.store.disk.aside import remove
from tfhub_cache.transfer.spool import Identity, Spool, note

_FORMAT = 4
PART = ".part"
_ENDS = PART, f"{PART}.json"
_LONGEST = 4 << 20
"""Bytes of a journal that are read: of an archive of a few hundred GB."""
_LINE = re.compile(rb"^\[([0-9]{1,9}), ([0-9]{1,10})\]$", re.MULTILINE)

_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError)


def open_part(base: str, identity: Identity, is_lost: Callable[[], bool]) -> Spool:
    """The part file of an entry, to resume with; a new one if there is none of the same archive.

    Args:
        base: the path of the entry.
        identity: the archive.
        is_lost: whether another process has the entry's lock by now, and may resume with it.

    Raises:
        OSError: if it can't be created, as when another user's is in the way.
    """
    found: dict[int, int] = {}
    with contextlib.ExitStack() as undo:
        try:
            file, journal = (undo.enter_context(_open(base + end, os.O_RDWR)) for end in _ENDS)
            kept, found = _read_journal(journal, os.fstat(file.fileno()).st_size)
            if kept != identity:
                raise ValueError("a part file of another archive")
        except _UNUSABLE:
            undo.close()
            discard_part(base)
            undo.callback(discard_part, base)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            file, journal = (undo.enter_context(_open(base + end, flags)) for end in _ENDS)
            note(journal, {"format": _FORMAT, **dataclasses.asdict(identity)})
            found = {}
        undo.pop_all()
    return Spool(identity, file, journal, functools.partial(discard_part, base, is_lost), found)


def look_at_part(base: str) -> tuple[Identity, int] | None:
    """Which archive is being received, or was, and how many of its bytes are there.

    Returns:
        None if there is no part file.
    """
    try:
        with _open(f"{base}.part.json", os.O_RDWR) as journal:
            identity, found = _read_journal(journal, sys.maxsize)
    except _UNUSABLE:
        return None
    return identity, sum(identity.stop(index) - index * identity.segment for index in found)


def discard_part(base: str, is_lost: Callable[[], bool] = lambda: False) -> None:
    """Removes an entry's part file, if there is one, and no other process owns it by now."""
    if is_lost():
        return
    for end in reversed(_ENDS):
        remove(base + end)


def _open(path: str, flags: int) -> io.FileIO:
    """Opens a regular file of this user; refuses links, FIFOs and files of other users."""
    file = io.FileIO(files.open_regular(path, flags), "r+")
    if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
        file.close()
        raise PermissionError(errno.EPERM, "It is another user's", path)
    return file


def _read_journal(journal: io.FileIO, there: int) -> tuple[Identity, dict[int, int]]:
    """Which archive, and the checksums of the segments that are complete in so many bytes."""
    header, _, lines = journal.read(_LONGEST).lstrip().partition(b"\n")
    data = bounded_json.parse(header)
    identity = Identity(text(data["handle"]), number(data["size"]), text(data["version"]))
    if data["format"] != _FORMAT or not identity.size:
        raise ValueError("a part file of another format")
    found: dict[int, int] = {}
    # Half a line, which a process has left that died in the midst of it, does not match.
    for index, checksum in (map(int, match.groups()) for match in _LINE.finditer(lines)):
        if index < identity.count and identity.stop(index) <= there:
            found[index] = checksum
    return identity, found
