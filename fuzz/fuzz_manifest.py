"""A fuzz target for manifests, which every user who may write to a cache can write.

Run it from the project's folder, with atheris and this package installed:

    python fuzz/fuzz_manifest.py -max_total_time=60

See `fuzz_archive.py` for what it writes and how an input is run again.

The oracle: only `ValueError` may be raised. What is read is the same when it is written and read
again; its files are below the model's folder, each is there once, and their names and sizes are
such as a file system and a message can have.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

with atheris.instrument_imports(
    include=["tfhub_cache.manifest", "tfhub_cache.bounded_json", "json"]
):
    import json

    from tfhub_cache import manifest
    from tfhub_cache.manifest import File, Manifest, Origin

import posixpath
from collections.abc import Iterator

from running import fuzz

from tfhub_cache.notation import format_size


def test_one_input(data: bytes) -> None:
    """Reads an input, and checks the result by the oracle."""
    try:
        found = Manifest.from_json(data)
    except ValueError:
        return
    if Manifest.from_json(found.to_json()) != found:
        raise AssertionError("it is another one when it is read again")
    names = [file.path for file in found.files]
    if not names or len(set(names)) != len(names):
        raise AssertionError(f"there is none, or one is there twice: {names!r}")
    for name in names:
        if not posixpath.normpath(posixpath.join("/cache/entry", name)).startswith("/cache/entry/"):
            raise AssertionError(f"{name!r} is outside of the folder")
        name.encode("utf-8", "surrogateescape")
    format_size(found.size + found.archive_size)
    found.digest  # noqa: B018 - whatever the names are


def seeds() -> Iterator[bytes]:
    """A valid manifest, as it is written and in its shortest form, and odd ones."""
    valid = Manifest(
        handle="https://example.com/m/1",
        url="https://example.com/m/1",
        archive_size=123,
        files=(File("saved_model.pb", 5, "1" * 64), File("variables/größe", 7, "2" * 64)),
        downloaded=Origin("2026-01-02T03:04:05+00:00", "machine", 4711, "tfhub-cache 0.1.0"),
        validators={"ETag": '"1"'},
    ).to_json()
    short = json.dumps(json.loads(valid), separators=(",", ":"))
    yield valid.encode()
    yield short.encode()
    yield short.encode("utf-16")
    for was, now in (
        ("variables", "../variables"),
        ("variables", r"\ud800"),
        ("variables", r"\udcff"),
        ("variables/gr", "saved_model.pb"),
        (":5,", ":1e999,"),
        (":5,", ":1" + "0" * 400 + ","),
        (":5,", ":Infinity,"),
        (":5,", ':5,"size":5,'),
        ('"format":1', f'"format":{manifest.FORMAT + 1}'),
        ("{", "[" * 2000 + "{"),
    ):
        yield short.replace(was, now, 1).encode()


if __name__ == "__main__":
    fuzz(test_one_input, seeds(), max_len=4096, timeout=10, rss_limit_mb=1024)
