"""What the built pages take from the package: its version, and the address of its repository."""

from importlib.metadata import metadata

from mkdocs.config.defaults import MkDocsConfig

from tfhub_cache import __version__


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Completes the configuration; pyproject.toml has the address."""
    urls = metadata("tfhub-cache").get_all("Project-URL") or []
    config.repo_url = dict(url.split(", ", 1) for url in urls)["Repository"]
    config.repo_name = f"tfhub_cache {__version__}"
    return config
