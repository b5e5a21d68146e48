"""A fuzz target for the notes of part files, which say what has been received of an archive.

Run it from the project's folder, with atheris and this package installed:

    python fuzz/fuzz_part_notes.py -max_total_time=60

See `fuzz_archive.py` for what it writes and how an input is run again.

The oracle: nothing is raised. Notes are those of an archive of a size that there can be, or none.
A part file that is resumed has no segment outside of its bytes, and what is read from it is
there or reported as damaged.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(
    include=["tfhub_cache.store.disk.part", "tfhub_cache.bounded_json", "json"]
):
    from tfhub_cache.store.disk.part import look_at_part, open_part

import tempfile
from collections.abc import Iterator

from running import fuzz

from tfhub_cache.transfer.spool import Identity

SIZE = 2 << 20
IDENTITY = Identity("https://example.com/m/1", SIZE, '"1"')
_folder = tempfile.TemporaryDirectory()
BASE = f"{_folder.name}/entry"


def test_one_input(data: bytes) -> None:
    """Opens a part file with such notes, and checks the result by the oracle."""
    Path(f"{BASE}.part.json").write_bytes(data)
    with open(f"{BASE}.part", "wb") as file:
        file.truncate(SIZE)
    seen = look_at_part(BASE)
    if seen is not None and not (0 < (seen[0].size or 0) < 1 << 63 and seen[1] >= 0):
        raise AssertionError(f"{seen}")
    part = open_part(BASE, IDENTITY, lambda: False)
    try:
        total = sum(part.received.values())
        if total and (seen is None or seen[0] != IDENTITY):
            raise AssertionError("two readers see different archives")
        if total > SIZE:
            raise AssertionError(f"{total} bytes of {SIZE}")
        for index in sorted(part.received):
            data = part.read(index * part.segment, part.segment)
            if data and index not in part.received:
                raise AssertionError(f"bytes of segment {index}, which is not there")
    finally:
        part.close(keep=True)


def seeds() -> Iterator[bytes]:
    """The notes of a download that was interrupted, and odd ones."""
    part = open_part(BASE, IDENTITY, lambda: False)
    for index in range(SIZE >> 20):
        part.write(index, bytes(1 << 20))
    part.close(keep=True)
    valid = Path(f"{BASE}.part.json").read_bytes()
    yield valid
    first = valid.strip().partition(b"\n")[0]
    yield first
    for line in b"[0, 0]", b"[99, 0]", b"[0, 9223372036854775808]", b"[0, 1", b"[]", b"{}":
        yield first + b"\n\n" + line + b"\n" + line
    for was, now in (b"2097152", b"1" + b"0" * 400), (b"2097152", b"Infinity"), (b"{", b"[" * 2000):
        yield valid.replace(was, now, 1)


if __name__ == "__main__":
    fuzz(test_one_input, seeds(), max_len=4096, timeout=10, rss_limit_mb=1024)
