"""What is not a SavedModel, or can not be loaded: the error says what it is, and what to do."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import models
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


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", KINDS)
def test_a_local_file_of_another_kind_is_named_with_its_use(tmp_path: Path, name: str) -> None:
    content, kind, use = KINDS[name]
    (tmp_path / name).write_bytes(content)
    for handle in f"{tmp_path}/{name}", f"file://{tmp_path}/{name}":
        assert hub.resolve(handle) == handle
        with pytest.raises(ValueError, match="incompatible/unknown type") as error:
            hub.load(handle)
        assert f"I{kind[1:]}: " in str(error.value)
        assert use in str(error.value)


@pytest.mark.tensorflow
def test_of_a_saved_model_its_folder_is_named(tmp_path: Path) -> None:
    for name in "saved_model.pb", "saved_model.pbtxt":
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ValueError, match=f"Pass its folder: {tmp_path}\\.$"):
            hub.load(f"{tmp_path}/{name}")


@pytest.mark.tensorflow
def test_a_local_archive_has_to_be_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "my model.tar.gz", "w:gz"):
        pass
    (tmp_path / "vectors.bin").write_bytes(b"vectors")
    with pytest.raises(ValueError, match=f"tar -xf '{tmp_path}/my model.tar.gz', and pass"):
        hub.load(f"{tmp_path}/my model.tar.gz")
    with pytest.raises(ValueError, match=r"It is a file, not a folder\.$"):
        hub.load(f"{tmp_path}/vectors.bin")


@pytest.mark.tensorflow
@pytest.mark.parametrize("form", ["{}", "file://{}/"])
def test_a_model_one_folder_down_is_found(tmp_path: Path, text_embedding: Path, form: str) -> None:
    models.write_files(models.read_files(text_embedding), tmp_path / "nnlm")
    (tmp_path / "a file").write_bytes(b"")
    with pytest.raises(ValueError, match="contains neither") as error:
        hub.load(form.format(tmp_path))
    assert f"It is one folder down: pass {tmp_path}/nnlm." in str(error.value)


@pytest.mark.tensorflow
def test_of_a_model_one_folder_down_in_an_archive_the_handle_is_named_and_the_way_to_it(
    host: Host, cache_dir: Path, text_embedding: Path
) -> None:
    files = models.read_files(text_embedding)
    archive = models.pack_files({f"nnlm/{name}": content for name, content in files.items()})
    handle = host.publish("/nnlm/1", archive) + "?sig=5ec2e7"
    with pytest.raises(ValueError, match="'nnlm': hub") as error:
        hub.load(handle)
    message = str(error.value)
    assert f"It is the folder of {handle.partition('?')[0]}." in message
    assert "5ec2e7" not in message
    model = eval(message.partition("'nnlm': ")[2].partition(" loads")[0])
    assert model(["the cat"]).shape == (1, models.DIMENSIONS)


@pytest.mark.tensorflow
def test_of_a_folder_with_other_files_some_are_named(host: Host, cache_dir: Path) -> None:
    handle = host.publish("/lite/1", models.pack_files({f"{n}.tflite": b"x" for n in range(7)}))
    with pytest.raises(ValueError, match=r"'4\.tflite' and 2 more") as error:
        hub.load(handle)
    assert "It holds '0.tflite', '1.tflite'" in str(error.value)


# SavedModels that are there, and TensorFlow can't load.

SAVE_WITH_TENSORFLOW_TEXT = """
import sys, tensorflow as tf, tensorflow_text

class Folded(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts):
        return tensorflow_text.case_fold_utf8(texts)

tf.saved_model.save(Folded(), sys.argv[1])
"""
LOAD = """
import sys
{imports}
import tfhub_cache as hub
print(hub.load(sys.argv[1])(["GROSS"]).numpy()[0].decode())
"""


@pytest.fixture(scope="module")
def of_text(built) -> Path:
    """A SavedModel with an operation of TensorFlow Text."""
    pytest.importorskip("tensorflow_text")
    code = SAVE_WITH_TENSORFLOW_TEXT
    return built(
        "of_text", lambda folder: subprocess.run([sys.executable, "-c", code, folder], check=True)
    )


@pytest.mark.tensorflow
def test_a_model_with_operations_of_tensorflow_text_says_what_to_import(
    run_python, host: Host, cache_dir: Path, of_text: Path
) -> None:
    handle = host.publish("/text/1", models.pack(of_text))
    failed = run_python(LOAD.format(imports=""), args=[handle])
    assert failed.returncode != 0
    assert "Op type not registered 'CaseFoldUTF8'" in failed.stderr
    assert f"{handle} uses the operation CaseFoldUTF8" in failed.stderr
    assert "add `import tensorflow_text` before the model is loaded" in failed.stderr
    import tensorflow as tf

    minor = ".".join(tf.__version__.split(".")[:2])
    assert f"pip install 'tensorflow-text=={minor}.*'" in failed.stderr
    done = run_python(LOAD.format(imports="import tensorflow_text"), args=[handle])
    assert done.check().stdout == "gross\n"


@pytest.mark.tensorflow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
def test_a_model_with_operations_of_another_package_says_which_is_missing(
    tmp_path: Path, text_embedding: Path
) -> None:
    files = models.read_files(text_embedding)
    model = files["saved_model.pb"]
    assert b"StringSplitV2" in model
    files["saved_model.pb"] = model.replace(b"StringSplitV2", b"StringSplitX2")
    models.write_files(files, tmp_path / "model")
    with pytest.raises(Exception, match="StringSplitX2") as error:
        hub.load(f"{tmp_path}/model")
    [note] = error.value.__notes__
    assert f"{tmp_path}/model uses the operation StringSplitX2" in note
    assert "import it before the model is loaded" in note
    assert "tensorflow_text" not in note


@pytest.mark.tensorflow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")
@pytest.mark.parametrize(("name", "part"), [("a[x]b", "[x]"), ("a\\b", "\\")])
def test_a_path_that_tensorflow_reads_as_a_pattern_is_named_and_no_worker(
    host: Host,
    tmp_path: Path,
    text_embedding: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    part: str,
) -> None:
    models.write_files(models.read_files(text_embedding), tmp_path / name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / name))
    for handle in (
        f"{tmp_path}/{name}",
        f"file://{tmp_path}/{name}",
        host.publish("/text/1", models.pack(text_embedding)),
    ):
        with pytest.raises(Exception, match="variables") as error:
            hub.load(handle)
        [note] = error.value.__notes__
        assert f"TensorFlow reads {part!r} in the path {hub.resolve(handle)} as a pattern" in note
        assert "set TFHUB_CACHE_DIR" in note
