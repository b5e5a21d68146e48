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
from dataclasses import dataclass

from absl import flags


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


@dataclass(frozen=True)
class Setting:
    """One setting: where its value is looked for, and what it is when nobody gave one."""

    env: str
    flag: str | None = None
    default: str = ""

    def value(self) -> str:
        """The value in force now, as text."""
        return (
            os.environ.get(self.env) or (self.flag and flags.FLAGS[self.flag].value) or self.default
        )

    def number(self, least: float = 1e-9) -> float:
        """The value in force now, as a number.

        Args:
            least: what it must be at the least.

        Raises:
            ValueError: if it is less, or no number.
        """
        text = self.value()
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not least <= number < 1e15:
            kind = "a number that is not negative" if least == 0 else "a positive number"
            raise ValueError(f"{self.env} must be {kind}, not {text!r}.")
        return number


CACHE_DIR = Setting("TFHUB_CACHE_DIR", "tfhub_cache_dir")
LOAD_FORMAT = Setting("TFHUB_MODEL_LOAD_FORMAT", "tfhub_model_load_format", "AUTO")
DOWNLOAD_PROGRESS = Setting("TFHUB_DOWNLOAD_PROGRESS")
DOWNLOAD_CONNECTIONS = Setting("TFHUB_DOWNLOAD_CONNECTIONS", default="8")
DISABLE_CERT_VALIDATION = Setting("TFHUB_DISABLE_CERT_VALIDATION")
HTTP_TIMEOUT = Setting("TFHUB_HTTP_TIMEOUT", default="60")
STORAGE_EMULATOR_HOST = Setting("STORAGE_EMULATOR_HOST")
LOCK_TIMEOUT = Setting("TFHUB_LOCK_TIMEOUT", default="60")
UNPACK_MAX_RATIO = Setting("TFHUB_UNPACK_MAX_RATIO", default="200")
UNPACK_KEEP_FREE = Setting("TFHUB_UNPACK_KEEP_FREE", default="0")
UNPACK_MAX_FILES = Setting("TFHUB_UNPACK_MAX_FILES", default="100000")


def cache_dir() -> str:
    """The cache folder as the user wrote it, `~` expanded; local, file:// or gs://."""
    given = CACHE_DIR.value()
    if given:
        return os.path.expanduser(given)
    return os.path.join(tempfile.gettempdir(), "tfhub_modules")


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


def lock_timeout() -> float:
    """Seconds without a sign of life after which another machine's lock is taken over."""
    return min(LOCK_TIMEOUT.number(), _LONGEST_TIMEOUT)
