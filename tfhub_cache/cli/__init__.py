# PYTHON_ARGCOMPLETE_OK
"""The command `tfhub-cache`: what `tfhub_cache.cache` can do, from a shell."""

from tfhub_cache.cli.main import main as main
