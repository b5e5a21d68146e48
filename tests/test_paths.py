"""Handles that are paths, and what people read when there is nothing at them."""

import pytest

import tfhub_cache as hub
from tfhub_cache.errors import ResolveError


def test_a_folder_is_its_own_path(tmp_path) -> None:
    assert hub.resolve(str(tmp_path)) == str(tmp_path)
    assert hub.resolve(f"file://{tmp_path}") == f"file://{tmp_path}"


@pytest.mark.parametrize(
    ("handle", "hint"),
    [
        ("/no/such/model", "does not exist.$"),
        ("no/such/model", "does not exist.$"),
        ("tfhub.dev/google/nnlm/2", "write https://tfhub.dev/google/nnlm/2"),
        (" no/such/model\n", "white space"),
        ("~/no/such/model", "'~' is not expanded"),
        ("", "empty"),
        ("file:///no/such/model", "does not exist.$"),
    ],
)
def test_a_path_where_nothing_is_is_an_error_with_a_hint(handle: str, hint: str) -> None:
    with pytest.raises(ResolveError, match=hint) as error:
        hub.resolve(handle)
    assert "does not exist." in str(error.value)


def test_another_file_system_needs_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(ResolveError, match=r"pip install 'tfhub-cache\[tensorflow\]'") as error:
        hub.resolve("hdfs://host/model?token=5ec2e7")
    assert "5ec2e7" not in str(error.value)
