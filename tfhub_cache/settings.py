"""The settings: the names, the default and the parser of each, and below it its meaning.

The reference has a table of them, which docs/settings_table.py makes of the docstrings; they are
Markdown.

A setting is read from the options of a command, then the environment, then absl's flags; otherwise
it has its default. Empty text counts as not set. Names, flags and the order of the last three are
tensorflow_hub's.

This is the only module that reads the environment and the flags. It reads them at each call, so a
program may change `os.environ` at any time. A flag is read whether or not flags were parsed, since
notebooks never parse theirs.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar, cast

from absl import flags

from tfhub_cache import notation
from tfhub_cache.clients.access import Access
from tfhub_cache.errors import CacheError, reason
from tfhub_cache.urls import with_plain_scheme


class ModelLoadFormat(enum.Enum):
    """How a model behind an http(s) handle is reached (the names are tensorflow_hub's)."""

    COMPRESSED = "COMPRESSED"
    """Download the archive and unpack it into the cache."""
    UNCOMPRESSED = "UNCOMPRESSED"
    """Ask the host for the model's gs:// folder and read from there."""
    AUTO = "AUTO"
    """The same as COMPRESSED."""

    @classmethod
    def _missing_(cls, value: object) -> NoReturn:
        names = ", ".join(one.value for one in cls)
        raise ValueError(f"unknown model load format {value!r}: it must be one of {names}")


_Value = TypeVar("_Value", covariant=True)

_CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_options: dict[str, str] = {}
"""Texts of options, by the names of environment variables."""


@dataclass(frozen=True, eq=False)
class Setting(Generic[_Value]):
    """One setting.

    Attributes:
        env: the environment variable.
        default: the text if none is given. If it is empty, the value is None.
        parse: makes the value from the text, or raises ValueError.
        flag: the flag that also sets it, without its dashes.
    """

    env: str
    default: str
    parse: Callable[[str], _Value]
    flag: str | None = None

    def value(self) -> _Value:
        """The value now.

        Raises:
            ValueError: if the text is invalid. The message names its source and says what is
                allowed.
        """
        text, source = self.read()
        if not text:
            return None  # type: ignore[return-value]  # its type includes None, without a default
        try:
            # `~` depends on the environment; all else means the same each time.
            return self.parse(text) if "~" in text else cast(_Value, _parsed(self.parse, text))
        except ValueError as error:
            name = f"--{self.flag}" if source == "flag" else self.env
            raise ValueError(f"{name}: {error}.") from None

    def read(self) -> tuple[str, str]:
        """The text now, which is empty if there is none, and its source.

        The sources are `option`, `environment`, `flag` and `default`.
        """
        if text := _options.get(self.env):
            return text, "option"
        if text := os.environ.get(self.env):
            return text, "environment"
        if self.flag and (flag := flags.FLAGS[self.flag]).value:
            return str(flag.value), "default" if flag.value == flag.default else "flag"
        return self.default, "default"


@contextlib.contextmanager
def overridden(options: Mapping[str, Any]) -> Iterator[None]:
    """Set options of a command, which come before all other sources, in this process.

    Args:
        options: texts by the names of environment variables; None and an empty text change
            nothing.
    """
    global _options
    before = _options
    _options = {**before, **{name: text for name, text in options.items() if text}}
    try:
        yield
    finally:
        _options = before


@functools.lru_cache(maxsize=64)  # each resolve asks
def _parsed(parse: Callable[[str], object], text: str) -> object:
    return parse(text)


def _folder(text: str) -> str:
    return with_plain_scheme(text) if "://" in text else notation.parse_path(text)


def _connections(text: str) -> int:
    return min(notation.parse_count(text), 8)


def _timeout(text: str) -> float:
    seconds = notation.parse_duration(text)
    if not seconds:
        raise ValueError(f"invalid duration {text!r}: it must be more than 0")
    return min(seconds, 1e6)  # some systems have no longer timeouts


CACHE_DIR = Setting[str | None]("TFHUB_CACHE_DIR", "", _folder, flag="tfhub_cache_dir")
"""Where models are kept: a folder, `gs://bucket/folder`, or another fsspec URL; by default
`tfhub_modules` in the system's temporary folder."""
LOAD_FORMAT = Setting(
    "TFHUB_MODEL_LOAD_FORMAT", "AUTO", ModelLoadFormat, flag="tfhub_model_load_format"
)
"""`COMPRESSED`: download and unpack; `UNCOMPRESSED`: read from the host's bucket; `AUTO`: as
`COMPRESSED`."""
DOWNLOAD_PROGRESS = Setting[bool | None]("TFHUB_DOWNLOAD_PROGRESS", "", notation.is_not_no)
"""`0`, `no`, `false` or `off`: no progress bar; anything else: always one. By default there is one
on a terminal and in a notebook, for what takes longer than a second; elsewhere a log line
reports the progress every 15 seconds."""
DOWNLOAD_CONNECTIONS = Setting("TFHUB_DOWNLOAD_CONNECTIONS", "8", _connections)
"""How many connections a download may have, 1 to 8. More than 8 counts as 8."""
HTTP_TIMEOUT = Setting("TFHUB_HTTP_TIMEOUT", "60s", _timeout)
"""How long a server or a bucket may send nothing before a request is given up: a duration.
Connecting times out after 10 seconds, or after this if it is less."""
HTTP_MIN_RATE = Setting("TFHUB_HTTP_MIN_RATE", "1kB", notation.parse_size)
"""How many bytes a second a server must send, on average over five times `TFHUB_HTTP_TIMEOUT`: a
size; `0`: any number."""
LOCK_TIMEOUT = Setting("TFHUB_LOCK_TIMEOUT", "60s", _timeout)
"""How long another machine's download may go without a heartbeat before it is taken over: a
duration. Use the same value on all machines that share a cache."""
UNPACK_MAX_RATIO = Setting("TFHUB_UNPACK_MAX_RATIO", "200", notation.parse_count)
"""How many times larger than its archive a model may be; it applies above 4 GiB unpacked."""
UNPACK_MAX_FILES = Setting("TFHUB_UNPACK_MAX_FILES", "100000", notation.parse_count)
"""How many files and folders an archive may hold."""
UNPACK_KEEP_FREE = Setting("TFHUB_UNPACK_KEEP_FREE", "0", notation.parse_size)
"""How much of the disk must stay free: a size."""
CACHE_MAX_SIZE = Setting[int | None](
    "TFHUB_CACHE_MAX_SIZE", "", notation.parse_size, flag="tfhub_cache_max_size"
)
"""How large the cache may be after a download: a size, such as `20GB`. The least recently used
models are removed until it fits. By default there is no limit."""
CACHE_KEEP_USED = Setting("TFHUB_CACHE_KEEP_USED", "1h", notation.parse_duration)
"""How long a model stays after its last use, however large the cache is: a duration, such as
`12h`; `0`: not at all."""
BUCKET_GRACE = Setting("TFHUB_BUCKET_GRACE", "1h", notation.parse_duration)
"""How long the files of a model in a bucket stay after a newer one has replaced it, for programs
that are reading them: a duration; `0`: not at all."""
OFFLINE = Setting("TFHUB_OFFLINE", "no", notation.parse_boolean, flag="tfhub_offline")
"""`yes`: use no network; a model that is not in the cache is an error."""
MIRROR = Setting("TFHUB_MIRROR", notation.DIRECT, notation.parse_mirrors)
"""Which servers are asked for models of the public hosts, in order: URLs and `direct`, such as
`https://hub.example.com,direct`."""
LOCKFILE = Setting[str | None]("TFHUB_LOCKFILE", "", notation.parse_path, flag="tfhub_lockfile")
"""A lock file: only what it names may be used. `tfhub-cache lock` writes it."""
TRUSTED_HANDLES = Setting[tuple[re.Pattern[str], ...] | None](
    "TFHUB_TRUSTED_HANDLES", "", notation.parse_patterns
)
"""Which models a saved Keras 3 model may run: handles, separated by commas, in which `*` is any
text, such as `https://tfhub.dev/google/*`."""
DISABLE_CERT_VALIDATION = Setting("TFHUB_DISABLE_CERT_VALIDATION", "no", notation.parse_boolean)
"""`yes`: don't check TLS certificates. Anyone between you and the host can then send you another
model; set `REQUESTS_CA_BUNDLE` instead."""
STORAGE_EMULATOR_HOST = Setting[str | None]("STORAGE_EMULATOR_HOST", "", str)
"""The URL of an emulator of Google Cloud Storage, which is used without credentials."""
GOOGLE_APPLICATION_CREDENTIALS = Setting[str | None]("GOOGLE_APPLICATION_CREDENTIALS", "", str)
"""The key file for Google Cloud Storage; by default other credentials are looked for."""
GOOGLE_CLOUD_QUOTA_PROJECT = Setting[str | None]("GOOGLE_CLOUD_QUOTA_PROJECT", "", str)
"""The project that pays for buckets of Google Cloud Storage whose requester pays."""
SETTINGS = tuple(value for value in list(globals().values()) if isinstance(value, Setting))


class _FlagParser(flags.ArgumentParser):  # type: ignore[misc]  # absl has no types
    """Refuses an invalid flag when flags are parsed, but keeps its text, except of a boolean."""

    def __init__(self, parse: Callable[[str], object]) -> None:
        super().__init__()
        self._parse = parse

    def parse(self, argument: str) -> str | bool:
        value = self._parse(argument) if argument else argument
        return value if isinstance(value, bool) else argument


for _setting in SETTINGS:
    if _setting.flag is not None:
        flags.DEFINE(
            _FlagParser(_setting.parse),
            _setting.flag,
            _setting.default or None,
            f"As the environment variable {_setting.env}, which counts first.",
            serializer=flags.ArgumentSerializer(),
            boolean=_setting.parse is notation.parse_boolean,
            # Both libraries may define these flags in one process, in either order.
            allow_override=True,
        )


def cache_dir() -> str:
    """The cache folder as the user wrote it, with `~` expanded: a path or a URL.

    Raises:
        ValueError: if it is invalid.
        CacheError: if none is set, and there is no temporary folder.
    """
    folder = CACHE_DIR.value()
    if folder is None:
        try:
            folder = os.path.join(tempfile.gettempdir(), "tfhub_modules")
        except OSError as error:
            raise CacheError(
                "There is no cache",
                cause=reason(error),
                advice="Set TFHUB_CACHE_DIR, or TMPDIR, to a folder that can be written.",
            ) from None
    return folder


def google_storage() -> tuple[str | None, float, str | None]:
    """How Google Cloud Storage is reached: the emulator, the timeout in seconds, the key file."""
    return (
        STORAGE_EMULATOR_HOST.value(),
        HTTP_TIMEOUT.value(),
        GOOGLE_APPLICATION_CREDENTIALS.value(),
    )


def access(context: Any) -> Access:
    """How HTTP servers are asked.

    Args:
        context: the TLS context that a program has set, or None. If it checks no certificates,
            none are checked.
    """
    is_unchecked = DISABLE_CERT_VALIDATION.value() or getattr(context, "verify_mode", 1) == 0
    verify = not is_unchecked and (ca_bundle() or True)
    return Access(HTTP_TIMEOUT.value(), HTTP_MIN_RATE.value(), verify)


def ca_bundle() -> str | None:
    """The file or folder of CA certificates that the environment names, if any.

    Those of OpenSSL count if they exist, as for other programs that use it.
    """
    for name in _CA_BUNDLES:
        path = os.environ.get(name)
        if path and (name not in ("SSL_CERT_FILE", "SSL_CERT_DIR") or os.path.exists(path)):
            return path
    return None


def of_requests() -> dict[str, str]:
    """The environment variables of requests and OpenSSL that are set."""
    known = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", *_CA_BUNDLES]
    return {name: text for name, text in os.environ.items() if text and name.upper() in known}


def allows_color() -> bool:
    """Whether to write colors to a terminal; see https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def environment_with_path(folder: str) -> dict[str, str]:
    """The environment for a Python process that looks for modules in a folder first."""
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{path}" if path else folder}


def of_kaggle() -> dict[str, str]:
    """The environment variables of Kaggle that are set. Some are secrets."""
    return {name: text for name, text in os.environ.items() if name.startswith("KAGGLE_") and text}


def is_in_kaggle_notebook() -> bool:
    """Whether this process runs in a notebook of Kaggle, which can attach models."""
    return bool(
        os.environ.get("KAGGLE_KERNEL_RUN_TYPE") and os.environ.get("KAGGLE_DATA_PROXY_URL")
    )


def is_completing() -> bool:
    """Whether a shell runs this process to complete a command line."""
    return "_ARGCOMPLETE" in os.environ
