"""What is not a SavedModel, or can not be loaded: the error says what it is, and what to do."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from servers import Host

import tfhub_cache as hub
from tfhub_cache.errors import OtherFileError


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("saved_model.pb", b"")
    return buffer.getvalue()


KINDS = {
    "model.zip": (_zip(), "it is a zip archive", "unzip it and pass the folder"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + bytes(99), "it is a TensorFlow Lite model", "Interpreter"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is an HDF5 file", "models.load_model"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_download_of_another_kind_is_named_at_once_with_the_way_to_the_file(
    host: Host, cache_dir: Path, log: pytest.LogCaptureFixture, name: str
) -> None:
    content, kind, use = KINDS[name]
    handle = host.publish(f"/m/{name}", content)
    with pytest.raises(OtherFileError, match="does not appear to be a valid module") as error:
        hub.resolve(handle)
    for words in kind, "not a SavedModel in a .tar.gz archive", "with a browser or curl -L", use:
        assert words in str(error.value)
    assert len(host.requests) == 1
    assert "once more" not in log.text


def test_a_web_page_that_is_not_said_to_be_one_is_named(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/m/1", b"<!doctype html><title>Log in</title>")
    with pytest.raises(OtherFileError, match="it is a web page") as error:
        hub.resolve(handle)
    assert "open the handle in a browser" in str(error.value)
