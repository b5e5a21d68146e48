"""Manifests: whatever stands in one, it is a manifest, of another format, or a `ValueError`."""

from __future__ import annotations

import errno
import hashlib
import json
import random
import subprocess
from pathlib import Path

import pytest
from hostile_json import VALUES, changed, damaged, written
from hypothesis import given, settings
from hypothesis import strategies as st

from tfhub_cache.manifest import MOST_BYTES, File, Manifest, Origin, UnknownFormat, digest_of
from tfhub_cache.notation import format_size

MANIFEST = Manifest(
    handle="https://example.com/m/1",
    url="https://example.com/m/1",
    archive_size=123,
    files=(File("saved_model.pb", 5, "1" * 64), File("variables/x", 7, "2" * 64)),
    downloaded=Origin("2026-01-02T03:04:05+00:00", "machine", 4711, "tfhub-cache 0.1.0"),
    validators={"ETag": '"1"'},
)
DATA = json.loads(MANIFEST.to_json())
many = settings(derandomize=True, deadline=None, database=None, max_examples=100)


def check(text: bytes) -> None:
    """Nothing but the documented errors, and what comes out can be used."""
    try:
        manifest = Manifest.from_json(text)
    except ValueError:
        return
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert format_size(manifest.size)
    assert len(manifest.digest) == 64
    assert format_size(manifest.archive_size)
    for file in manifest.files:
        path = Path("/cache/entry", file.path)
        assert path.is_relative_to("/cache/entry")
        assert ".." not in path.parts
        assert path != Path("/cache/entry")
        file.path.encode("utf-8", "surrogateescape")


@many
@given(st.integers(), VALUES)
def test_a_manifest_with_anything_in_it_is_read_or_refused(seed: int, value: object) -> None:
    check(written(changed(DATA, random.Random(seed), value)))


@many
@given(st.binary() | damaged(MANIFEST.to_json().encode()) | VALUES.map(written))
def test_bytes_in_place_of_a_manifest_are_refused(text: bytes) -> None:
    check(text)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('"size": 5', '"size": 1' + "0" * 400),
        ('"size": 5', '"size": ' + "1" * 5_000_000),
        ('"size": 5', '"size": 0.' + "1" * 5_000_000),
        ('"size": 5', '"size": Infinity'),
        ('"size": 5', '"size": NaN'),
        ('"size": 5', '"size": 9223372036854775808'),
        ('"size": 5', '"size": 5, "size": 5'),
        ('"format": 2', '"format": 1, "format": 2'),
        ('"format": 2', '"format": 1'),
        ('"archive_size": 123', '"archive_size": "123"'),
        ('"variables/x"', '"saved_model.pb"'),
        ('"variables/x"', r'"variables/\ud800"'),
        ('"pid": 4711', '"pid": 1e999'),
        ('"ETag"', "[" * 100_000),
        ("1" * 64, "x" * 64),
        ("{", "{" + " " * MOST_BYTES),
    ],
)
def test_what_no_manifest_says_is_refused(was: str, now: str) -> None:
    text = MANIFEST.to_json()
    assert was in text
    with pytest.raises(ValueError) as error:  # noqa: PT011 - any
        Manifest.from_json(text.replace(was, now, 1))
    assert not isinstance(error.value, UnknownFormat)
    assert len(str(error.value)) < 1000


def test_a_manifest_of_the_first_format_is_read() -> None:
    data = {**DATA, "format": 1, "archive": {"size": 123, "sha256": "0" * 64}}
    del data["archive_size"]
    assert Manifest.from_json(json.dumps(data)) == MANIFEST


def test_a_shell_computes_the_same_digest(tmp_path: Path) -> None:
    names = ["saved_model.pb", "variables/x", "assets/größe and more", "assets/back\\slash"]
    names += ["assets/new\nline", "assets.extra/\udcff", "assets/Z"]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(number))
    files = [File(name, n, hashlib.sha256(bytes(n)).hexdigest()) for n, name in enumerate(names)]
    pipeline = "find . -type f -printf '%P\\0' | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"
    done = subprocess.run(pipeline, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert digest_of(files) == done.stdout.decode().split()[0]


def test_the_digest_escapes_names_as_sha256sum_does() -> None:
    """Since coreutils 9.0."""
    line = b"\\%s  a\\rb\n" % (b"1" * 64)
    assert digest_of([File("a\rb", 5, "1" * 64)]) == hashlib.sha256(line).hexdigest()


def test_a_name_with_bytes_that_are_no_text_is_one() -> None:
    file = File("variables/\udcff", 5, "1" * 64)
    manifest = Manifest(**{**vars(MANIFEST), "files": (file,)})
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_a_manifest_of_a_later_format_with_other_numbers_is_reported_as_such() -> None:
    with pytest.raises(UnknownFormat):
        Manifest.from_json('{"format": 3, "seconds": 1.5}')


def test_what_could_not_be_read_again_is_not_written() -> None:
    files = tuple(File(f"{'x' * 4000}/{n}", n, "1" * 64) for n in range(MOST_BYTES // 4000))
    with pytest.raises(OSError, match="too many files") as error:
        Manifest(**{**vars(MANIFEST), "files": files}).to_json()
    assert error.value.errno == errno.EFBIG
