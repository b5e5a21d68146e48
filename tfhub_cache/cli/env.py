"""Show versions and settings.

Shows versions and the settings in force, with where each comes from, for bug
reports. Passwords and queries of URLs are left out.

Examples:
    tfhub-cache env
"""

from __future__ import annotations

from tfhub_cache import cache
from tfhub_cache.cli import arguments, output

add_arguments = arguments.add_json


def run(options: arguments.Options) -> arguments.Problems:
    """Shows versions and settings."""
    environment = cache.environment()
    if options.json:
        output.write_json(**vars(environment))
        return
    for name, version in environment.versions.items():
        output.line(f"{name:29}  {version or '(not installed)'}")
    for setting in environment.settings:
        shown = f"{setting.value}  [{setting.source}]" if setting.value else "(not set)"
        output.line(f"{setting.name:29}  {shown}")
    output.line(f"{'cache':29}  {environment.cache}")
    output.line(f"{'credentials for Kaggle':29}  {environment.kaggle or '(none)'}")
    yield from environment.problems
