"""Writes the table of the settings into docs/reference.md.

python docs/settings_table.py

Its place is between two lines, `<!-- settings -->` and `<!-- end of settings -->`.
"""

import ast
import itertools
import re
from pathlib import Path

from tfhub_cache import settings
from tfhub_cache.settings import Setting

PAGE = Path(__file__).parent / "reference.md"
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


def page() -> str:
    """The page as it is to be."""
    rows = "".join(row(setting, text) for setting, text in documented().items())
    table = f"| environment, flag | default | meaning |\n| --- | --- | --- |\n{rows}"
    return _PLACE.sub(lambda _: table, PAGE.read_text(encoding="utf-8"))


def row(setting: Setting[object], text: str) -> str:
    """A row of the table."""
    flag = f"<br>`--{setting.flag}`" if setting.flag else ""
    default = f" `{setting.default}`" if setting.default else ""
    return f"| `{setting.env}`{flag} |{default} | {text} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
