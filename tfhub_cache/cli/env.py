"""Show versions and settings.

Shows versions and the settings in force, with where each comes from, for bug
reports. Passwords and queries of URLs are left out.

    tfhub-cache env
"""

from __future__ import annotations

from collections.abc import Iterable

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Options, Parser, add_flag


def add_arguments(command: Parser) -> None:
    """Adds the arguments."""
    add_flag(command, "--json", "for programs")


def run(options: Options) -> Iterable[object]:
    """Shows versions and settings."""
    environment = cache.environment()
    if options.json:
        output.write_json(**vars(environment))
        return
    rows = {name: version or "(not installed)" for name, version in environment.versions.items()}
    for setting in environment.settings:
        is_unset = setting.source == "default" and not setting.value
        rows[setting.name] = "(not set)" if is_unset else f"{setting.value}  [{setting.source}]"
    rows["cache"] = environment.cache
    width = max(map(len, rows))
    for name, text in rows.items():
        output.line(f"{name:{width}}  {text}")
    yield from environment.problems
