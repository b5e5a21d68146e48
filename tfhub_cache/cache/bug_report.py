"""Versions and effective settings, for reports of bugs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tfhub_cache import pins, settings
from tfhub_cache.errors import LockfileError
from tfhub_cache.resolvers import kaggle
from tfhub_cache.version import __version__

_PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-hub", "keras", "tf-keras"),
    *("absl-py", "aiohttp", "filelock", "fsspec", "gcsfs", "google-crc32c", "isal", "kagglehub"),
    *("requests", "tqdm", "truststore", "urllib3"),
)
_PATHS = (
    *("TFHUB_CACHE_DIR", "TFHUB_LOCKFILE", "GOOGLE_APPLICATION_CREDENTIALS"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
)
"""Settings in which only a URL can have a password."""


@dataclass(frozen=True)
class Effective:
    """A setting as it is in force.

    Attributes:
        name: the environment variable.
        flag: the flag that sets it as well, without its dashes; None if there is none.
        value: as text; empty if it is not set and has no default. Secrets are left out.
        source: `option` of a command, `environment`, `flag` or `default`.
    """

    name: str
    flag: str | None
    value: str
    source: str


@dataclass(frozen=True)
class Environment:
    """What a report of a bug needs.

    Attributes:
        versions: of Python, the system, this library and what it works with; "" of a package that
            is not installed.
        settings: those of this library, and those of requests that are set.
        cache: the cache folder, in its effective form.
        kaggle: where credentials for Kaggle were found; empty if there are none.
        problems: what is wrong with the settings.
    """

    versions: dict[str, str]
    settings: list[Effective]
    cache: str
    kaggle: str
    problems: list[str]


def environment() -> Environment:
    """Versions and effective settings, without secrets.

    Nothing is imported to find out a version, and neither cache nor network is looked at.

    Example:
        ```python
        import tfhub_cache as hub

        for setting in hub.cache.environment().settings:
            print(setting.name, setting.value, setting.source)
        ```
    """
    import platform  # slow to import, as is what reads versions

    versions = {
        "tfhub-cache": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        **{name: _version(name) for name in _PACKAGES},
    }
    known = [(setting.env, setting.flag, *setting.read()) for setting in settings.SETTINGS]
    known += [(name, None, text, "environment") for name, text in settings.of_requests().items()]
    effective = [Effective(name, flag, _shown(name, text), way) for name, flag, text, way in known]
    cache = _shown(settings.CACHE_DIR.env, settings.cache_dir())
    problems = [*_problems()]
    try:
        found = kaggle.credentials()
    except ValueError as error:
        found = None
        problems.append(f"{error}.")
    return Environment(versions, effective, cache, found.found if found else "", problems)


def _problems() -> Iterator[str]:
    for setting in settings.SETTINGS:
        try:
            value = setting.value()
            if setting is settings.LOCKFILE and value:
                pins.read(str(value))
        except (ValueError, LockfileError) as error:
            yield str(error)


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _shown(name: str, text: str) -> str:
    """A setting's value without passwords and queries, however an address is written."""
    if name.upper() in _PATHS and "://" not in text:
        return text
    parts: Sequence[str] = [text]
    if name == settings.MIRROR.env:
        with contextlib.suppress(ValueError):  # then a comma may be part of a password
            parts = settings.MIRROR.parse(text)
    # A login may have characters that are not escaped, and the @ behind it may be escaped.
    secrets = re.compile(r"^([a-z0-9+.-]+://)?.*@|[?#].*", re.DOTALL | re.IGNORECASE)
    return ",".join(secrets.sub(r"\1", part.replace("%40", "@")) for part in parts)
