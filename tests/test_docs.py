"""The pages that are made from the program are those that are there."""

import importlib.util
from pathlib import Path

import tfhub_cache as hub
from tfhub_cache import settings

DOCS = Path(__file__).parent.parent / "docs"


def test_the_page_of_the_command_line_is_the_parsers() -> None:
    """`make docs` writes it."""
    spec = importlib.util.spec_from_file_location("command_line", DOCS / "command_line.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (DOCS / "command-line.md").read_text(encoding="utf-8")


def test_the_page_of_the_command_line_names_each_argument() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert "tfhub-cache run [--] SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]" in page
    assert "None" not in page


def test_each_setting_and_each_function_of_the_cache_is_in_the_reference() -> None:
    reference = (DOCS / "reference.md").read_text(encoding="utf-8")
    for setting in settings.SETTINGS:
        assert setting.env == "STORAGE_EMULATOR_HOST" or f"`{setting.env}`" in reference
    for name in hub.cache.__all__:
        assert f"::: tfhub_cache.cache.{name}\n" in reference
