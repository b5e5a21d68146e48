"""The pages that are made from the program are those that are there."""

import importlib.util
from pathlib import Path
from types import ModuleType

import tfhub_cache as hub
from tfhub_cache import settings

DOCS = Path(__file__).parent.parent / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_command_line_is_the_parsers() -> None:
    """`make docs` writes it."""
    page = script("command_line").page()
    assert page == (DOCS / "command-line.md").read_text(encoding="utf-8")


def test_the_tables_of_the_settings_are_those_of_the_settings() -> None:
    """`make docs` writes them."""
    tables = script("settings_tables")
    for path, short in tables.PAGES.items():
        page = path.read_text(encoding="utf-8")
        assert tables.with_table(page, short=short) == page
        for setting in settings.SETTINGS:
            assert f"| `{setting.env}` |" in page


def test_the_page_of_the_command_line_names_each_argument() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert "tfhub-cache run SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]" in page
    assert "None" not in page


def test_each_function_of_the_cache_is_in_the_reference() -> None:
    reference = (DOCS / "reference.md").read_text(encoding="utf-8")
    for name in hub.cache.__all__:
        assert f"::: tfhub_cache.cache.{name}\n" in reference
