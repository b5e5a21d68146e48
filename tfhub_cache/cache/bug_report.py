"""Versions and effective settings, for reports of bugs."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from dataclasses import dataclass

from tfhub_cache import pins, settings
from tfhub_cache.errors import LockfileError
from tfhub_cache.urls import without_secrets
from tfhub_cache.version import __version__

_PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-hub", "keras", "tf-keras"),
    *("absl-py", "aiohttp", "filelock", "fsspec", "gcsfs", "google-crc32c", "isal", "requests"),
    *("tqdm", "urllib3"),
)
_PLAIN_IN_A_LIST = re.compile(r"[A-Za-z0-9+.-]+://[^/?#@]*@[^@]*")
_PLAIN = re.compile(r"([A-Za-z0-9+.-]+://)?[^/?#@]*@[^@]*")
"""Values of which it is certain where the password ends."""
_ADDRESSES = (settings.MIRROR.env, settings.STORAGE_EMULATOR_HOST.env)
"""Settings that are no paths, however they begin; beside proxies."""


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
        problems: what is wrong with the settings.
    """

    versions: dict[str, str]
    settings: list[Effective]
    cache: str
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
    versions = {
        "tfhub-cache": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
        **{name: _version(name) for name in _PACKAGES},
    }
    effective = [
        Effective(setting.env, setting.flag, _shown(setting.env, text), source)
        for setting in settings.SETTINGS
        for text, source in [setting.read()]
    ]
    effective += [
        Effective(name, None, _shown(name, value), "environment")
        for name, value in settings.of_requests().items()
    ]
    problems = settings.problems()
    if (file := settings.LOCKFILE.value()) is not None:
        try:
            pins.read(file)
        except LockfileError as error:
            problems.append(str(error))
    return Environment(
        versions, effective, _shown(settings.CACHE_DIR.env, settings.cache_dir()), problems
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _shown(name: str, text: str) -> str:
    """A setting's value without passwords and queries, however an address is written."""
    if name.upper().endswith("_PROXY"):
        text = re.sub("%40", "@", text)
    elif name not in _ADDRESSES and text.startswith(("/", "~", ".")):
        return text  # a path
    parts = text.split(",")
    is_plain = _PLAIN if len(parts) == 1 else _PLAIN_IN_A_LIST
    if not all("@" not in part or is_plain.fullmatch(part) for part in parts):
        # A password in which a character is not escaped: it is not known where it begins.
        parts = [re.sub(r"^([A-Za-z0-9+.-]+://)?.*@", r"\1", text, flags=re.DOTALL)]
    shown = (without_secrets(re.sub(r"^[^/@]*@", "", part)) for part in parts)
    return ",".join(part.partition("?")[0] for part in shown)
