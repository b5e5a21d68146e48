"""Settings: the environment first, then the flag, then the default, read at each call."""

import os
import tempfile

import pytest
from absl import flags

from tfhub_cache import resolver, settings


@pytest.fixture
def flag(monkeypatch: pytest.MonkeyPatch):
    def set_flag(name: str, value: str) -> None:
        monkeypatch.setattr(flags.FLAGS[name], "value", value)

    return set_flag


def test_the_default_cache_is_in_the_temporary_folder() -> None:
    assert settings.cache_dir() == os.path.join(tempfile.gettempdir(), "tfhub_modules")


def test_the_environment_comes_before_the_flag_and_the_flag_before_the_default(
    monkeypatch: pytest.MonkeyPatch, flag
) -> None:
    flag("tfhub_cache_dir", "/from/flag")
    assert settings.cache_dir() == "/from/flag"
    monkeypatch.setenv("TFHUB_CACHE_DIR", "/from/environment")
    assert settings.cache_dir() == "/from/environment"


def test_an_empty_setting_counts_as_unset(monkeypatch: pytest.MonkeyPatch, flag) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", "")
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "")
    monkeypatch.setenv("TFHUB_HTTP_TIMEOUT", "")
    flag("tfhub_cache_dir", "")
    assert settings.cache_dir().endswith("tfhub_modules")
    assert settings.model_load_format() is settings.ModelLoadFormat.AUTO
    assert settings.http_timeout() == 60


def test_settings_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "COMPRESSED", "UNCOMPRESSED", "AUTO":
        monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", name)
        assert settings.model_load_format().value == name


def test_a_tilde_in_the_cache_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", os.path.join("~", "models"))
    assert settings.cache_dir() == os.path.join(os.path.expanduser("~"), "models")


@pytest.mark.parametrize("value", ["compressed", "ZIP", "COMPRESSED "])
def test_an_unknown_load_format_is_an_error_that_lists_the_three(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", value)
    with pytest.raises(ValueError, match="COMPRESSED, UNCOMPRESSED, AUTO") as error:
        settings.model_load_format()
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_no_positive_number_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TFHUB_LOCK_TIMEOUT", value)
    with pytest.raises(ValueError, match="TFHUB_LOCK_TIMEOUT must be a positive number"):
        settings.lock_timeout()


@pytest.mark.parametrize(("value", "verified"), [("true", False), ("True", True), ("1", True)])
def test_only_the_exact_word_true_turns_certificate_checks_off(
    monkeypatch: pytest.MonkeyPatch, value: str, verified: bool
) -> None:
    monkeypatch.setenv("TFHUB_DISABLE_CERT_VALIDATION", value)
    assert settings.verify_certificates() is verified


def test_custom_resolvers_can_ask_for_the_settings_as_in_tensorflow_hub(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolver.tfhub_cache_dir() is None
    assert resolver.tfhub_cache_dir("/mine") == "/mine"
    assert resolver.tfhub_cache_dir(use_temp=True) == settings.cache_dir()
    assert resolver.tfhub_cache_dir("/mine", use_temp=True) == "/mine"
    assert resolver.model_load_format() == "AUTO"
    monkeypatch.setenv("TFHUB_CACHE_DIR", "/given")
    assert resolver.tfhub_cache_dir("/mine", use_temp=True) == "/given"


def test_the_limit_of_the_cache_is_a_size_and_none_by_default(
    monkeypatch: pytest.MonkeyPatch, flag
) -> None:
    assert settings.cache_max_size() is None
    flag("tfhub_cache_max_size", "500MiB")
    assert settings.cache_max_size() == 500 << 20
    monkeypatch.setenv("TFHUB_CACHE_MAX_SIZE", "20GB")
    assert settings.cache_max_size() == 20 * 10**9
    assert settings.cache_keep_used() == 3600
    monkeypatch.setenv("TFHUB_CACHE_KEEP_USED", "2d")
    assert settings.cache_keep_used() == 172_800


def test_a_default_of_a_process_gives_way_to_what_a_user_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settings, "_overridden_defaults", {})
    assert not settings.show_progress()
    settings.DOWNLOAD_PROGRESS.set_default("1")
    assert settings.show_progress()
    assert settings.DOWNLOAD_PROGRESS.source() == "default"
    monkeypatch.setenv("TFHUB_DOWNLOAD_PROGRESS", "yes")
    assert settings.DOWNLOAD_PROGRESS.source() == "environment"


def test_all_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.problems() == []
    monkeypatch.setenv("TFHUB_UNPACK_KEEP_FREE", "-1")
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "ZIP")
    assert len(settings.problems()) == 2


@pytest.mark.parametrize("value", ["fast", "-1", "nan", "1kB"])
def test_a_least_rate_that_is_no_number_is_an_error_that_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TFHUB_HTTP_MIN_RATE", value)
    told = f"TFHUB_HTTP_MIN_RATE must be a number of at least 0, not {value!r}."
    assert settings.problems() == [told]
    monkeypatch.setenv("TFHUB_HTTP_MIN_RATE", "0")
    assert settings.http_min_rate() == 0
