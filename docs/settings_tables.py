"""Writes the tables of the settings into the pages that have a place for one.

python docs/settings_tables.py

The place is between two lines, `<!-- settings -->` and `<!-- end of settings -->`. In README each
setting has the first sentence of its docstring, in the other pages all of it.
"""

import ast
import itertools
import re
from pathlib import Path

from tfhub_cache import settings
from tfhub_cache.settings import Setting

ROOT = Path(__file__).parent.parent
PAGES = {
    ROOT / "README.md": True,
    ROOT / "docs/reference.md": False,
}
_PLACE = re.compile("(?<=<!-- settings -->\n\n).*?(?=\n<!-- end of settings -->)", re.DOTALL)


def documented() -> dict[Setting[object], str]:
    """The settings, each with the docstring below it."""
    source = Path(settings.__file__).read_text(encoding="utf-8")
    return {
        getattr(settings, name): " ".join(below.value.value.split())
        for setting, below in itertools.pairwise(ast.parse(source).body)
        if isinstance(setting, ast.Assign) and isinstance(below, ast.Expr)
        if isinstance(getattr(settings, (name := setting.targets[0].id)), Setting)
    }


def with_table(page: str, *, short: bool) -> str:
    """A page with the table of the settings as it is to be."""
    rows = "".join(row(*one, short=short) for one in documented().items())
    table = f"| environment | flag | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
    return _PLACE.sub(lambda _: table, page)


def row(setting: Setting[object], text: str, *, short: bool) -> str:
    """A row of the table."""
    if short:
        text = text.partition(". ")[0].rstrip(".") + "."
    flag = f" `--{setting.flag}`" if setting.flag else ""
    default = f" `{setting.default}`" if setting.default else ""
    return f"| `{setting.env}` |{flag} |{default} | {text} |\n"


if __name__ == "__main__":
    for path, is_short in PAGES.items():
        text = path.read_text(encoding="utf-8")
        path.write_text(with_table(text, short=is_short), encoding="utf-8")
