"""What the built pages take from the package: its version."""

from mkdocs.config.defaults import MkDocsConfig

from tfhub_cache import __version__


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Completes the configuration."""
    config.repo_name = f"tfhub_cache {__version__}"
    return config
