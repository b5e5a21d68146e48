"""`tfhub-cache env`."""

from __future__ import annotations

import argparse
import dataclasses

from tfhub_cache import cache
from tfhub_cache.cli import output
from tfhub_cache.cli.arguments import Commands, add_command, add_flags


def add(commands: Commands) -> None:
    """Adds the command."""
    command = add_command(
        commands,
        "env",
        run,
        "show versions and settings",
        "Shows versions and the settings in force, with where each comes from, for bug reports. "
        "Passwords and queries of URLs are left out.",
        "tfhub-cache env",
    )
    add_flags(command, json="for programs")


def run(options: argparse.Namespace) -> int:
    """Shows versions and settings."""
    environment = cache.environment()
    if options.json:
        output.write_json({"format": 1, **dataclasses.asdict(environment)})
        return 0
    width = max(len(setting.name) for setting in environment.settings)
    for name, version in environment.versions.items():
        output.line(f"{name:{width}}  {version or '(not installed)'}")
    output.line()
    for setting in environment.settings:
        value = setting.value or "(not set)"
        source = "" if setting.source == "default" else f"  [{setting.source}]"
        if setting.source == "default" and setting.value:
            source = "  [default]"
        output.line(f"{setting.name:{width}}  {value}{source}")
    output.line(f"{'cache':{width}}  {environment.cache}")
    for problem in environment.problems:
        output.complain(problem)
    return int(bool(environment.problems))
