"""The package is laid out as docs/design.md has it: imports point down its list of modules."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tfhub_cache"
LISTED = re.findall(
    r"^\| `(\w+)/?` \|",
    (ROOT / "docs" / "design.md")
    .read_text("utf-8")
    .partition("## Modules")[2]
    .partition("\n## ")[0],
    re.MULTILINE,
)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return [path for path in PACKAGE.rglob("*.py") if "site-packages" not in path.parts]


def imported(path: Path) -> Iterator[str]:
    """The parts of the package that a module imports, wherever in the module that stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            part = rest.partition(".")[0]
            if package == PACKAGE.name and ((PACKAGE / part).is_dir() or f"{part}.py" in FILES):
                yield part


FILES = {path.name for path in PACKAGE.glob("*.py")}


def test_every_module_is_in_the_list_once() -> None:
    assert sorted(LISTED) == sorted({part_of(path) for path in sources()})


def test_imports_point_down_the_list() -> None:
    up = {
        f"{path.relative_to(ROOT)} imports {part}"
        for path in sources()
        for part in imported(path)
        if part != part_of(path) and LISTED.index(part) <= LISTED.index(part_of(path))
    }
    assert up == set()


def test_there_are_no_circles_of_modules() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sources()
        if path.name != "__init__.py"
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                graph.setdefault(module, set()).update(names & modules.keys() - {module})
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_packages_only_gather_names() -> None:
    """What a package does is in its modules, which say in their names what that is."""
    for path in sources():
        if path.name == "__init__.py":
            defined = [
                node.end_lineno - node.lineno + 1
                for node in ast.parse(path.read_text("utf-8")).body
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
                and node.name not in ("__getattr__", "__dir__")
            ]
            assert sum(defined) <= 30, path
