"""The pages agree with the program: what is made from it, and the messages that they quote."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import tfhub_cache as hub
from tfhub_cache import settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


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


def test_the_table_of_the_settings_is_that_of_the_settings() -> None:
    """`make docs` writes it."""
    page = (DOCS / "reference.md").read_text(encoding="utf-8")
    assert script("settings_table").page() == page
    for setting in settings.SETTINGS:
        assert f"| `{setting.env}`" in page


def test_the_page_of_the_command_line_names_each_argument() -> None:
    page = (DOCS / "command-line.md").read_text(encoding="utf-8")
    assert "tfhub-cache run SCRIPT | -m MODULE | -c CODE [ARGUMENT ...]" in page
    assert "None" not in page


def test_each_function_of_the_cache_is_in_the_reference() -> None:
    reference = (DOCS / "reference.md").read_text(encoding="utf-8")
    for name in hub.cache.__all__:
        assert f"::: tfhub_cache.cache.{name}\n" in reference


# The page on troubleshooting: each heading quotes messages.

SYMPTOMS = dict(
    re.findall(
        r"^### (.*)\n((?:(?!##).*\n)*)",
        (DOCS / "troubleshooting.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
QUOTED = [
    quoted
    for heading in SYMPTOMS
    for _, quoted in re.findall(r"(?<!`)(`+)((?:(?!\1).)+?)\1(?!`)", heading)
]
OF_OTHERS = {
    "No module named 'pkg_resources'": ("importlib", "_bootstrap.py", "No module named "),
    "Failed to find any matching files for": ("tensorflow", "libtensorflow_framework*", ""),
    "File system scheme '[local]' not implemented": (
        "tensorflow",
        "libtensorflow_framework*",
        "File system scheme '",
    ),
    "Op type not registered": ("tensorflow", "libtensorflow_framework*", ""),
    "Only instances of `keras.Layer` can be added to a Sequential model": (
        "keras",
        "src/models/sequential.py",
        "Only instances of `keras.Layer` can be ",
    ),
    "Could not locate class 'KerasLayer'": (
        "keras",
        "src/saving/serialization_lib.py",
        "Could not locate {obj_type} '{name}'",
    ),
}
"""The package and the file that have a message that is not ours, and what of it is there."""


def messages() -> str:
    """All texts in the package, with `…` in place of what is put into them."""
    texts = []
    for path in Path(hub.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                ]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_each_message_of_ours_that_troubleshooting_quotes_can_be_seen() -> None:
    ours = messages()
    assert len(QUOTED) > 30
    assert [quoted for quoted in QUOTED if quoted not in OF_OTHERS and quoted not in ours] == []


@pytest.mark.parametrize("quoted", OF_OTHERS)
def test_each_message_of_others_that_troubleshooting_quotes_is_theirs(quoted: str) -> None:
    package, file, part = OF_OTHERS[quoted]
    assert quoted in QUOTED
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    assert spec.submodule_search_locations is not None
    (path, *_) = Path(spec.submodule_search_locations[0]).glob(file)
    assert (part or quoted).encode() in path.read_bytes()


def test_each_symptom_has_a_cause_and_a_remedy() -> None:
    for heading, text in SYMPTOMS.items():
        assert "\nCause: " in text, heading
        assert "\nRemedy: " in text, heading
