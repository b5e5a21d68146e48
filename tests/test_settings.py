"""Settings: an option first, then the environment, the flag, the default, read at each call."""

import ast
import os
import tempfile
from pathlib import Path

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

import tfhub_cache as hub
from tfhub_cache import notation, resolver, settings
from tfhub_cache.settings import Setting

PACKAGE = Path(hub.__file__).parent


@pytest.fixture
def flag(monkeypatch: pytest.MonkeyPatch):
    def set_flag(name: str, value: str) -> None:
        monkeypatch.setattr(flags.FLAGS[name], "value", value)

    return set_flag


# Where a value is looked for.


def test_the_default_cache_is_in_the_temporary_folder() -> None:
    assert settings.cache_dir() == os.path.join(tempfile.gettempdir(), "tfhub_modules")


def test_without_a_temporary_folder_the_error_says_what_to_set(run_python) -> None:
    code = """
import resource
import tfhub_cache as hub
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # as on a full disk
for resolve in hub.resolve, hub.cache.refresh, hub.cache.find:
    try:
        resolve("https://example.invalid/m/1")
    except hub.errors.CacheError as error:
        print(error)
"""
    for line in run_python(code).check().stdout.splitlines():
        assert line.startswith("There is no cache: No usable temporary directory")
        assert line.endswith("Set TFHUB_CACHE_DIR, or TMPDIR, to a folder that can be written.")


@pytest.mark.parametrize("path", ["~/models", "~no-such-user/models"])
def test_a_home_folder_that_is_not_there_is_an_error_and_no_folder_of_that_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    def no_such_user(_: object) -> None:
        raise KeyError("no such user")

    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    monkeypatch.delenv("HOME")
    monkeypatch.chdir(tmp_path)
    for name in "TFHUB_CACHE_DIR", "TFHUB_LOCKFILE":
        with monkeypatch.context() as patched:
            patched.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
            patched.setenv(name, path)
            with pytest.raises(ValueError, match=f"{name}: invalid path '{path}'.*HOME"):
                hub.resolve("https://example.invalid/m/1")
    with pytest.raises(ValueError, match="HOME is not set"):
        hub.cache.lock([], path)
    assert list(tmp_path.iterdir()) == []


def test_an_option_comes_before_the_environment_that_before_the_flag_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch, flag
) -> None:
    assert settings.CACHE_DIR.read()[1] == "default"
    flag("tfhub_cache_dir", "/from/flag")
    assert (settings.cache_dir(), settings.CACHE_DIR.read()[1]) == ("/from/flag", "flag")
    monkeypatch.setenv("TFHUB_CACHE_DIR", "/from/environment")
    assert settings.cache_dir() == "/from/environment"
    assert settings.CACHE_DIR.read()[1] == "environment"
    with settings.overridden({"TFHUB_CACHE_DIR": "/from/option"}):
        assert (settings.cache_dir(), settings.CACHE_DIR.read()[1]) == ("/from/option", "option")
        assert os.environ["TFHUB_CACHE_DIR"] == "/from/environment"
        with settings.overridden({"TFHUB_CACHE_DIR": None, "TFHUB_MODEL_LOAD_FORMAT": ""}):
            assert settings.cache_dir() == "/from/option"
    assert settings.cache_dir() == "/from/environment"


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda setting: setting.env)
def test_an_empty_setting_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch, flag, setting: Setting[object]
) -> None:
    default = setting.value()
    monkeypatch.setenv(setting.env, "")
    if setting.flag:
        flag(setting.flag, "")
    assert (setting.value(), setting.read()[1]) == (default, "default")
    assert (default is None) == (setting.default == "")


def test_settings_are_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "COMPRESSED", "UNCOMPRESSED", "AUTO":
        monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", name)
        assert settings.LOAD_FORMAT.value().value == name


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


def test_no_other_module_reads_the_environment_or_a_flag() -> None:
    ways = {"environ", "environb", "getenv", "getenvb", "FLAGS"}
    reading = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if {getattr(node, "attr", None), getattr(node, "id", None)} & ways
        or (isinstance(node, ast.ImportFrom) and {name.name for name in node.names} & ways)
    }
    assert reading == {"settings.py"}


# What a value means.


def test_a_tilde_in_the_cache_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", os.path.join("~", "models"))
    assert settings.cache_dir() == os.path.join(os.path.expanduser("~"), "models")


@pytest.mark.parametrize("value", ["compressed", "ZIP", "COMPRESSED "])
def test_an_unknown_load_format_is_an_error_that_lists_the_three(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", value)
    with pytest.raises(ValueError, match=r"^TFHUB_MODEL_LOAD_FORMAT: unknown") as error:
        settings.LOAD_FORMAT.value()
    assert f"{value!r}: it must be one of COMPRESSED, UNCOMPRESSED, AUTO" in str(error.value)


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (settings.HTTP_TIMEOUT, "60", 60),
        (settings.HTTP_TIMEOUT, "0.5", 0.5),
        (settings.HTTP_TIMEOUT, "2min", 120),
        (settings.LOCK_TIMEOUT, "1h", 3600),
        (settings.LOCK_TIMEOUT, "1000000000w", 1e6),
        (settings.CACHE_KEEP_USED, "2d", 172_800),
        (settings.CACHE_KEEP_USED, "0", 0),
        (settings.CACHE_MAX_SIZE, "20GB", 20 * 10**9),
        (settings.CACHE_MAX_SIZE, "20G", 20 * 10**9),
        (settings.CACHE_MAX_SIZE, "20", 20),
        (settings.CACHE_MAX_SIZE, "500MiB", 500 << 20),
        (settings.UNPACK_KEEP_FREE, "1000000", 10**6),
        (settings.UNPACK_KEEP_FREE, "5GiB", 5 << 30),
        (settings.UNPACK_MAX_RATIO, "1000", 1000),
        (settings.UNPACK_MAX_FILES, " 30 ", 30),
        (settings.DOWNLOAD_CONNECTIONS, "3", 3),
        (settings.DOWNLOAD_CONNECTIONS, "9", 8),
    ],
)
def test_sizes_and_durations_may_have_a_unit(
    monkeypatch: pytest.MonkeyPatch, setting: Setting[object], text: str, value: float
) -> None:
    monkeypatch.setenv(setting.env, text)
    assert setting.value() == value


YES = ["1", "true", "yes", "on", "True", "YES", "On", " yes "]
NO = ["0", "false", "no", "off", "False", "NO", "Off", " no "]


@pytest.mark.parametrize("setting", [settings.OFFLINE, settings.DISABLE_CERT_VALIDATION])
@pytest.mark.parametrize(("value", "meant"), [(v, v in YES) for v in YES + NO])
def test_yes_and_no_can_be_written_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, setting: Setting[bool], value: str, meant: bool
) -> None:
    monkeypatch.setenv(setting.env, value)
    assert setting.value() is meant


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", None), *((v, False) for v in NO), *((v, True) for v in [*YES, "always", " "])],
)
def test_any_text_but_a_no_shows_the_progress_as_in_tensorflow_hub(
    monkeypatch: pytest.MonkeyPatch, value: str, shown: bool | None
) -> None:
    monkeypatch.setenv("TFHUB_DOWNLOAD_PROGRESS", value)
    assert settings.DOWNLOAD_PROGRESS.value() is shown


# What means nothing.


@pytest.mark.parametrize(
    ("setting", "values", "allowed"),
    [
        (settings.OFFLINE, ["2", "offline", " "], "1, true, yes or on, or else 0, false, no or"),
        (settings.DISABLE_CERT_VALIDATION, ["2", "truee"], "1, true, yes or on"),
        (settings.HTTP_TIMEOUT, ["soon", "-1", "inf", "nan"], "a number of seconds, or .* 30d"),
        (settings.LOCK_TIMEOUT, ["0", "0s"], "it must be more than 0"),
        (settings.CACHE_KEEP_USED, ["soon", "1m"], "a unit of s, min, h, d or w"),
        (settings.CACHE_MAX_SIZE, ["1.5", "many", "-1"], "a number of bytes, or .* 20GB"),
        (settings.UNPACK_KEEP_FREE, ["-1", "1e9"], "a number of bytes"),
        (
            settings.UNPACK_MAX_RATIO,
            ["0", "1.5", "inf", "9" * 5000],
            "a whole number of at least 1",
        ),
        (settings.UNPACK_MAX_FILES, ["0", "2.5", "1e6", "1_0"], "a whole number of at least 1"),
        (settings.DOWNLOAD_CONNECTIONS, ["0", "-1", "abc"], "a whole number of at least 1"),
    ],
    ids=lambda value: getattr(value, "env", ""),
)
def test_what_means_nothing_is_an_error_that_names_the_setting_the_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, setting: Setting[object], values: list[str], allowed: str
) -> None:
    for value in values:
        monkeypatch.setenv(setting.env, value)
        with pytest.raises(ValueError, match=f"^{setting.env}: invalid .* {value!r}: .*{allowed}"):
            setting.value()
        assert len(hub.cache.environment().problems) == 1


def test_the_error_of_a_flag_names_the_flag(flag) -> None:
    flag("tfhub_cache_max_size", "large")
    with pytest.raises(ValueError, match=r"^--tfhub_cache_max_size: invalid size 'large'"):
        settings.CACHE_MAX_SIZE.value()


def test_all_that_is_wrong_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.cache.environment().problems == []
    monkeypatch.setenv("TFHUB_UNPACK_KEEP_FREE", "-1")
    monkeypatch.setenv("TFHUB_MODEL_LOAD_FORMAT", "ZIP")
    assert len(hub.cache.environment().problems) == 2


def test_a_least_rate_may_have_a_unit_or_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.HTTP_MIN_RATE.value() == 1000
    monkeypatch.setenv("TFHUB_HTTP_MIN_RATE", "2kB")
    assert settings.HTTP_MIN_RATE.value() == 2000
    monkeypatch.setenv("TFHUB_HTTP_MIN_RATE", "0")
    assert settings.HTTP_MIN_RATE.value() == 0


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda setting: setting.env)
@given(text=st.text(min_size=1))
def test_any_text_has_a_value_or_is_an_error_of_one_kind(
    setting: Setting[object], text: str
) -> None:
    outcome = f"{setting.env}: "
    with settings.overridden({setting.env: text}):
        try:
            setting.value()
        except ValueError as error:
            outcome = str(error)
    assert outcome.startswith(f"{setting.env}: ")


# Flags.


FLAGS_PROGRAM = """
import sys
from absl import app, flags
from tfhub_cache import settings
def main(arguments):
    print(settings.OFFLINE.value(), settings.CACHE_MAX_SIZE.value(), settings.LOAD_FORMAT.value())
    print(flags.FLAGS.flags_into_string().count("tfhub_"), file=sys.stderr)
app.run(main)
"""


def test_flags_have_the_same_grammar(run_python) -> None:
    def shown(*arguments: str) -> str:
        return run_python(FLAGS_PROGRAM, args=arguments).check().stdout.strip()

    assert shown() == "False None ModelLoadFormat.AUTO"
    assert (
        shown("--tfhub_offline", "--tfhub_cache_max_size=20G", "--tfhub_model_load_format=AUTO")
        == "True 20000000000 ModelLoadFormat.AUTO"
    )
    assert shown("--tfhub_offline=On", "--tfhub_cache_max_size=").startswith("True None")
    assert shown("--tfhub_offline", "--notfhub_offline").startswith("False")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--tfhub_offline=maybe", "invalid value 'maybe': write 1, true, yes or on"),
        ("--tfhub_cache_max_size=large", "invalid size 'large'"),
        ("--tfhub_model_load_format=ZIP", "must be one of COMPRESSED, UNCOMPRESSED, AUTO"),
    ],
)
def test_a_flag_that_means_nothing_is_refused_when_flags_are_parsed(
    run_python, argument: str, message: str
) -> None:
    done = run_python(FLAGS_PROGRAM, args=[argument])
    assert done.returncode == 1
    assert message in done.stderr


def test_a_mirror_without_a_value_is_the_handles_own_host() -> None:
    assert settings.MIRROR.value() == (notation.DIRECT,)
