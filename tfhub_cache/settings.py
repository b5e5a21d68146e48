"""The settings: an environment variable first, then an absl flag, then a default.

This is the only module that reads the environment and the flags, and it does so at each call,
so a program may change `os.environ` at any time. An empty value counts as unset. Names, flags
and precedence are tensorflow_hub's; a flag is read without demanding that flags were parsed,
since notebooks never parse theirs.
"""

from __future__ import annotations

import enum
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from absl import flags

from tfhub_cache import units
from tfhub_cache.mirrors import parse as parse_mirrors


class ModelLoadFormat(enum.Enum):
    """How a model behind an http(s) handle is reached (the names are tensorflow_hub's)."""

    COMPRESSED = "COMPRESSED"
    """Download the archive and unpack it into the cache."""
    UNCOMPRESSED = "UNCOMPRESSED"
    """Ask the host for the model's gs:// folder and read from there."""
    AUTO = "AUTO"
    """The same as COMPRESSED."""


_MOST_CONNECTIONS = 8
"""More than browsers have to one host is not polite."""
Source: TypeAlias = Literal["environment", "flag", "default"]
_SOURCES: tuple[Source, ...] = ("environment", "flag", "default")
_LONGEST_TIMEOUT = 1e6
"""Seconds; some systems can't count further."""
_FORMATS = {load_format.value: load_format for load_format in ModelLoadFormat}

# Both libraries may live in one process and define the same flags, in either order.
flags.DEFINE_string(
    "tfhub_cache_dir",
    None,
    "Folder, local or gs://, into which models are downloaded and unpacked. "
    "Default: tfhub_modules in the system's temporary folder.",
    allow_override=True,
)
flags.DEFINE_enum(
    "tfhub_model_load_format",
    ModelLoadFormat.AUTO.value,
    list(_FORMATS),
    "COMPRESSED downloads models and unpacks them into the cache; UNCOMPRESSED reads them "
    "straight from their bucket; AUTO means COMPRESSED.",
    allow_override=True,
)
flags.DEFINE_string(
    "tfhub_cache_max_size",
    None,
    "How large the cache may be, such as 20GB: after a download, the models that were not used "
    "for longest are removed until it fits. Default: as large as it gets.",
    allow_override=True,
)

flags.DEFINE_boolean(
    "tfhub_offline",
    False,
    "Use no network: models in the cache resolve, others are errors.",
    allow_override=True,
)
flags.DEFINE_string(
    "tfhub_lockfile",
    None,
    "File of the archives that models may be made of, by their SHA-256, as tfhub-cache lock "
    "writes it.",
    allow_override=True,
)

_overridden_defaults: dict[str, str] = {}


@dataclass(frozen=True)
class Setting:
    """One setting: where its value is looked for, and what it is when nobody gave one."""

    env: str
    flag: str | None = None
    default: str = ""

    def value(self) -> str:
        """The value in force now, as text."""
        return (
            os.environ.get(self.env)
            or (self.flag and str(flags.FLAGS[self.flag].value or ""))
            or (_overridden_defaults and _overridden_defaults.get(self.env))
            or self.default
        )

    def given(self, source: Source) -> str:
        """What one source says, empty where it says nothing."""
        if source == "environment":
            return os.environ.get(self.env) or ""
        if source == "flag":
            if self.flag is None:
                return ""
            flag = flags.FLAGS[self.flag]
            return str(flag.value or "") if flag.value != flag.default else ""
        return _overridden_defaults.get(self.env, self.default)

    def source(self) -> Source:
        """Where the value in force now comes from."""
        return next((source for source in _SOURCES if self.given(source)), "default")

    def set_flag(self, value: str) -> None:
        """Sets the flag, as an option on a command line does."""
        flags.FLAGS[self.flag].value = value

    def set_default(self, value: str) -> None:
        """Sets what the setting is in this process where nobody gave a value."""
        _overridden_defaults[self.env] = value

    def number(self, least: float | None = None) -> float:
        """The value in force now, as a number.

        Args:
            least: what it must be at the least; None: more than 0.

        Raises:
            ValueError: if it is less, or no number.
        """
        text = self.value()
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not (1e-9 if least is None else least) <= number < 1e15:
            kind = "a positive number" if least is None else f"a number of at least {least:g}"
            raise ValueError(f"{self.env} must be {kind}, not {text!r}.")
        return number


CACHE_DIR = Setting("TFHUB_CACHE_DIR", "tfhub_cache_dir")
LOAD_FORMAT = Setting("TFHUB_MODEL_LOAD_FORMAT", "tfhub_model_load_format", "AUTO")
DOWNLOAD_PROGRESS = Setting("TFHUB_DOWNLOAD_PROGRESS")
DOWNLOAD_CONNECTIONS = Setting("TFHUB_DOWNLOAD_CONNECTIONS", default="8")
DISABLE_CERT_VALIDATION = Setting("TFHUB_DISABLE_CERT_VALIDATION")
HTTP_TIMEOUT = Setting("TFHUB_HTTP_TIMEOUT", default="60")
HTTP_MIN_RATE = Setting("TFHUB_HTTP_MIN_RATE", default="1000")
STORAGE_EMULATOR_HOST = Setting("STORAGE_EMULATOR_HOST")
LOCK_TIMEOUT = Setting("TFHUB_LOCK_TIMEOUT", default="60")
UNPACK_MAX_RATIO = Setting("TFHUB_UNPACK_MAX_RATIO", default="200")
UNPACK_KEEP_FREE = Setting("TFHUB_UNPACK_KEEP_FREE", default="0")
UNPACK_MAX_FILES = Setting("TFHUB_UNPACK_MAX_FILES", default="100000")
OFFLINE = Setting("TFHUB_OFFLINE", "tfhub_offline")
MIRROR = Setting("TFHUB_MIRROR")
LOCKFILE = Setting("TFHUB_LOCKFILE", "tfhub_lockfile")
CACHE_MAX_SIZE = Setting("TFHUB_CACHE_MAX_SIZE", "tfhub_cache_max_size")
CACHE_KEEP_USED = Setting("TFHUB_CACHE_KEEP_USED", default="1h")


def cache_dir() -> str:
    """The cache folder as the user wrote it, `~` expanded; local, file:// or gs://."""
    given = CACHE_DIR.value()
    if given:
        return os.path.expanduser(given)
    return os.path.join(tempfile.gettempdir(), "tfhub_modules")


def offline() -> bool:
    """Whether the network must not be used.

    Raises:
        ValueError: if the setting is neither yes nor no.
    """
    text = OFFLINE.value()
    if text.lower() in ("", "0", "false", "no"):
        return False
    if text.lower() in ("1", "true", "yes"):
        return True
    raise ValueError(
        f"{OFFLINE.env} must be 1, true or yes, or else 0, false, no or empty, not {text!r}."
    )


def mirrors() -> tuple[str, ...]:
    """Where models of the public hosts are asked for, in order; empty: there.

    Raises:
        ValueError: if a part is neither an http(s) URL nor `direct`.
    """
    try:
        return parse_mirrors(MIRROR.value())
    except ValueError as error:
        raise ValueError(f"{MIRROR.env}: {error}.") from None


def lockfile() -> str | None:
    """The lock file in force, `~` expanded."""
    given = LOCKFILE.value()
    return os.path.expanduser(given) if given else None


def cache_max_size() -> int | None:
    """How many bytes the cache may have after a download; None: as many as it gets.

    Raises:
        ValueError: if it is no size.
    """
    text = CACHE_MAX_SIZE.value()
    try:
        return units.parse_size(text) if text else None
    except ValueError as error:
        raise ValueError(f"{CACHE_MAX_SIZE.env}: {error}.") from None


def cache_keep_used() -> float:
    """Seconds for which a model stays after its last use, however large the cache is.

    Raises:
        ValueError: if it is no age.
    """
    try:
        return units.parse_age(CACHE_KEEP_USED.value())
    except ValueError as error:
        raise ValueError(f"{CACHE_KEEP_USED.env}: {error}.") from None


def model_load_format() -> ModelLoadFormat:
    """The load format in force.

    Raises:
        ValueError: if it is none of the three.
    """
    text = LOAD_FORMAT.value()
    try:
        return _FORMATS[text]
    except KeyError:
        raise ValueError(
            f"Unknown model load format {text!r} in {LOAD_FORMAT.env}: "
            f"it must be one of {', '.join(_FORMATS)}."
        ) from None


def show_progress() -> bool | None:
    """Whether a progress bar was asked for; None if nobody said anything."""
    text = DOWNLOAD_PROGRESS.value()
    return text != "0" if text else None


def download_connections() -> int:
    """How many connections a download may have at most."""
    return int(min(DOWNLOAD_CONNECTIONS.number(least=1), _MOST_CONNECTIONS))


def verify_certificates() -> bool:
    """Whether TLS certificates are checked; only the exact word `true` turns that off."""
    return DISABLE_CERT_VALIDATION.value() != "true"


def http_timeout() -> float:
    """Seconds without a byte after which an HTTP request is given up."""
    return min(HTTP_TIMEOUT.number(), _LONGEST_TIMEOUT)


def http_min_rate() -> float:
    """Bytes per second that a server has to send, on average over five timeouts; 0: any number."""
    return HTTP_MIN_RATE.number(least=0)


def lock_timeout() -> float:
    """Seconds without a sign of life after which another machine's lock is taken over."""
    return min(LOCK_TIMEOUT.number(), _LONGEST_TIMEOUT)


def all_settings() -> list[Setting]:
    """Every setting of this library, in the order in which they stand here."""
    return [value for value in globals().values() if isinstance(value, Setting)]


def of_requests() -> dict[str, str]:
    """The settings of requests that are set in the environment, by their names there."""
    names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]
    names += ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"]
    spellings = [spelling for name in names for spelling in (name, name.lower())]
    return {name: os.environ[name] for name in spellings if os.environ.get(name)}


def allows_color() -> bool:
    """Whether a terminal may be written to in colours; see https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_completing() -> bool:
    """Whether a shell asks for the ways in which a command line may go on."""
    return "_ARGCOMPLETE" in os.environ


def problems() -> list[str]:
    """What is wrong with the settings in force, one sentence each."""
    checks: list[Callable[[], object]] = [
        model_load_format,
        download_connections,
        http_timeout,
        http_min_rate,
        lock_timeout,
        offline,
        mirrors,
        cache_max_size,
        cache_keep_used,
        UNPACK_MAX_RATIO.number,
        UNPACK_MAX_FILES.number,
        lambda: UNPACK_KEEP_FREE.number(least=0),
    ]
    found = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            found.append(str(error))
    return found
