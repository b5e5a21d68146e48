"""Let this library stand in for tensorflow_hub in a whole environment.

After `enable`, `import tensorflow_hub` gives this library in every process of
the environment (the virtual environment, or the Python installation) whose
tfhub-cache this is, whether tensorflow_hub is installed in it or not.
`disable` ends that. `status` shows what is in force.

Examples:
    tfhub-cache stand-in enable
    tfhub-cache stand-in status
    tfhub-cache stand-in disable
"""

from __future__ import annotations

import sys

from tfhub_cache.cli import arguments, output
from tfhub_cache.stand_in import environment


def add_arguments(command: arguments.Parser) -> None:
    """Adds the arguments."""
    text = "enable, disable, or status, which is the default"
    actions = ("enable", "disable", "status")
    command.add_argument(
        "action", metavar="ACTION", choices=actions, nargs="?", default="status", help=text
    )
    arguments.add_json(command)


def run(options: arguments.Options) -> arguments.Problems:
    """Makes the change, and shows what is in force."""
    if options.action == "enable":
        environment.enable()
    elif options.action == "disable":
        environment.disable()
    status = environment.status()
    if options.json:
        output.write_json(environment=sys.prefix, is_ours=status.is_ours, **status._asdict())
    else:
        output.line(f"environment            {sys.prefix}")
        for file in status.files:
            output.line(f"enabled by             {file}")
        gives = "this library" if status.is_ours else status.imported or "(not installed)"
        output.line(f"import tensorflow_hub  {gives}")
        if status.is_ours and status.hidden:
            output.line(f"instead of             {status.hidden}")
    if options.action == "disable" and status.files:
        yield "the distribution tfhub-cache-stand-in still enables it; uninstall that."
    elif status.files and not status.is_ours:
        yield "it is enabled, but not for this tfhub-cache: enable it again."
