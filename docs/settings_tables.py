"""Writes the tables of the settings into the pages that have a place for one.

python docs/settings_tables.py

The place is between two lines, `<!-- settings -->` and `<!-- end of settings -->`. In README each
setting has the first sentence of its help, in the other pages all of it.
"""

import re
from pathlib import Path

from tfhub_cache.settings import SETTINGS, Setting

ROOT = Path(__file__).parent.parent
PAGES = {
    ROOT / "README.md": True,
    ROOT / "docs/reference.md": False,
}
_PLACE = re.compile("(?<=<!-- settings -->\n\n).*?(?=\n<!-- end of settings -->)", re.DOTALL)


def with_table(page: str, *, short: bool) -> str:
    """A page with the table of the settings as it is to be."""
    rows = "".join(row(setting, short=short) for setting in SETTINGS)
    table = f"| environment | flag | default | meaning |\n| --- | --- | --- | --- |\n{rows}"
    return _PLACE.sub(lambda _: table, page)


def row(setting: Setting[object], *, short: bool) -> str:
    """A row of the table."""
    text = setting.help.partition(". ")[0].rstrip(".") + "." if short else setting.help
    flag = f" `--{setting.flag}`" if setting.flag else ""
    default = f" `{setting.default}`" if setting.default else ""
    return f"| `{setting.env}` |{flag} |{default} | {text} |\n"


if __name__ == "__main__":
    for path, is_short in PAGES.items():
        text = path.read_text(encoding="utf-8")
        path.write_text(with_table(text, short=is_short), encoding="utf-8")
