"""Handles that are paths, and what people read when there is nothing at them."""

import re
import sys

import pytest

import tfhub_cache as hub
from tfhub_cache.errors import ResolveError
from tfhub_cache.urls import printable


def test_a_folder_is_its_own_path(tmp_path) -> None:
    assert hub.resolve(str(tmp_path)) == str(tmp_path)
    assert hub.resolve(f"file://{tmp_path}") == f"file://{tmp_path}"


@pytest.mark.parametrize(
    ("handle", "hint"),
    [
        ("/no/such/model", "does not exist.$"),
        ("no/such/model", "does not exist.$"),
        ("./models/bert/1", "does not exist.$"),
        ("C:\\models\\bert", "does not exist.$"),
        (" no/such/model\n", "does not exist.$"),
        ("~/no/such/model", "'~' is not expanded"),
        ("", "empty"),
        ("\n", "empty"),
        ("file:///no/such/model", "does not exist.$"),
        ("file:///no/such [model]", "does not exist.$"),
        ("outputs.2024/model/1", "does not exist.$"),
    ],
)
def test_a_path_where_nothing_is_is_an_error_with_a_hint(handle: str, hint: str) -> None:
    with pytest.raises(ResolveError, match=hint) as error:
        hub.resolve(handle)
    assert "does not exist." in str(error.value)


@pytest.mark.parametrize("handle", ["my.model/2", "google/nnlm-en-dim128/2", "http/models/1"])
def test_a_path_in_a_folder_that_is_there_is_not_taken_for_a_url(
    tmp_path, monkeypatch: pytest.MonkeyPatch, handle: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / handle).parent.mkdir(parents=True)
    with pytest.raises(ResolveError, match=r"does not exist\.$"):
        hub.resolve(handle)


@pytest.mark.parametrize(
    ("handle", "meant"),
    [
        ("tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("//tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("www.kaggle.com/models/g/m/keras/v/1", "https://www.kaggle.com/models/g/m/keras/v/1"),
        ("https//tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("https:/tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("https:tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("https/tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("https;//tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("https ://tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("HTTP:\\\\tfhub.dev\\google\\nnlm\\2", "http://tfhub.dev/google/nnlm/2"),
        ("htp://tfhub.dev/google/nnlm/2", "http://tfhub.dev/google/nnlm/2"),
        ("htps://tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("hhtps://tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("ttps://tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("'https://tfhub.dev/google/nnlm/2'", "https://tfhub.dev/google/nnlm/2"),
        ('"https://tfhub.dev/google/nnlm/2",', "https://tfhub.dev/google/nnlm/2"),
        ("<https://tfhub.dev/google/nnlm/2>", "https://tfhub.dev/google/nnlm/2"),
        ("URL: https://tfhub.dev/google/nnlm/2", "https://tfhub.dev/google/nnlm/2"),
        ("gs:/bucket/model", "gs://bucket/model"),
        ("gcs://bucket/model", "gs://bucket/model"),
        ("file:/no/such/model", "file:///no/such/model"),
        ("google/nnlm-en-dim128/2", "https://tfhub.dev/google/nnlm-en-dim128/2"),
        ("google/imagenet/v2/vector/5", "https://tfhub.dev/google/imagenet/v2/vector/5"),
        (
            "google/nnlm/tensorFlow2/en-dim128/1",
            "https://www.kaggle.com/models/google/nnlm/tensorFlow2/en-dim128/1",
        ),
        (
            "models/g/nnlm/frameworks/TensorFlow2/variations/en/versions/1",
            "https://www.kaggle.com/models/g/nnlm/frameworks/TensorFlow2/variations/en/versions/1",
        ),
    ],
)
@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_typing_error_in_a_handle_is_met_with_what_may_be_meant(
    monkeypatch: pytest.MonkeyPatch, handle: str, meant: str, offline: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # it takes long to import
    monkeypatch.setenv("TFHUB_OFFLINE", offline)
    with pytest.raises(ResolveError, match=f"write {re.escape(meant)}\\.$") as error:
        hub.resolve(handle)
    assert str(error.value).startswith(f"{printable(handle)} does not exist.")


@pytest.mark.parametrize(
    "handle",
    ["https:/me:5ec2e7@h.com/m?sig=5ec2e7", "h.com/m?sig=5ec2e7", "'https://h.com/m?sig=5ec2e7'"],
)
def test_a_hint_shows_no_secret_of_the_url_that_is_meant(handle: str) -> None:
    with pytest.raises(ResolveError, match=r"write https://h\.com/m\.$") as error:
        hub.resolve(handle)
    assert "5ec2e7" not in str(error.value)


def test_white_space_around_a_path_is_left_out_unless_it_is_part_of_the_name(tmp_path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "other ").mkdir()
    assert hub.resolve(f" {tmp_path}/model\n") == f"{tmp_path}/model"
    assert hub.resolve(f"{tmp_path}/other ") == f"{tmp_path}/other "


def test_another_file_system_needs_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ResolveError, match=r"pip install 'tfhub-cache\[tensorflow\]'") as error:
        hub.resolve("hdfs://host/model?token=5ec2e7")
    assert "5ec2e7" not in str(error.value)


def test_the_file_system_of_a_plugin_is_not_taken_for_a_typing_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for scheme in "s3", "hdfs", "viewfs", "gfs", "oss", "har", "ram":
        with pytest.raises(ResolveError, match=f"only TensorFlow may know {scheme}://"):
            hub.resolve(f"{scheme}://host/model")
