"""Kaggle: how its models are named, and the user's credentials for its API.

Credentials are looked for where kagglehub looks for them, in the same order:
https://github.com/Kaggle/kagglehub#authenticate
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tfhub_cache import bounded_json

SITE = "https://www.kaggle.com"
_NAME = r"([\w-][\w.-]*)"
# They are compiled at their first use, which is a download: programs wait for imports.
_PAGE = (
    rf"(?a)(?i:https?://(?:www\.)?kaggle\.com)/models/{_NAME}/{_NAME}/(?:frameworks/)?{_NAME}/"
    rf"(?:variations/)?{_NAME}(?:/(?:versions/)?(\d{{1,9}}))?/?(?:[?#].*)?"
)
_LONG = r"/frameworks/([^/]+)/variations/([^/?#]+)(?:/versions)?"
_LONGEST_FILE = 1 << 16


class Model(NamedTuple):
    """A model, or a version of it, that a handle names.

    Attributes:
        owner: who has published it.
        model: its name.
        framework: such as `tensorFlow2`.
        variation: the name of the variation.
        version: digits; None: the newest.
    """

    owner: str
    model: str
    framework: str
    variation: str
    version: str | None

    @property
    def name(self) -> str:
        """Its name for kagglehub and the API, without the version."""
        return "/".join(self[:4])


def model_of(handle: str) -> Model | None:
    """The model that a handle of kaggle.com names, in any of the forms that the site writes."""
    match = re.fullmatch(_PAGE, handle)
    return None if match is None else Model(*match.groups())


def page_of(handle: str) -> str:
    """A handle with a long address of kaggle.com in the short form, which serves archives."""
    return re.sub(_LONG, r"/\1/\2", handle, count=1) if model_of(handle) else handle


class Credentials(NamedTuple):
    """What identifies the user to Kaggle.

    Attributes:
        found: where they were found, for people.
        authorization: the header field. It is a secret.
    """

    found: str
    authorization: str


def find_credentials(environment: Mapping[str, str], in_notebook: bool) -> Credentials | None:
    """The user's credentials, or None if there are none.

    Args:
        environment: the environment variables that begin with `KAGGLE_`.
        in_notebook: whether this is a notebook of Kaggle.

    Raises:
        ValueError: if those that come first are of no use; it says why, without showing them.
    """
    for found, user, secret in _candidates(environment, in_notebook):
        secret = secret.strip()
        if user and secret:
            import base64  # which is not needed before

            login = base64.b64encode(f"{user.strip()}:{secret}".encode()).decode()
            return Credentials(found, f"Basic {login}")
        if secret and user is None:
            if not (secret.isascii() and secret.isprintable()):
                raise ValueError(f"{found} is not a token of Kaggle: it has other characters")
            return Credentials(found, f"Bearer {secret}")
    return None


def _candidates(
    environment: Mapping[str, str], in_notebook: bool
) -> Iterator[tuple[str, str | None, str]]:
    """Where credentials may be, the user or None for a token, and the key or token."""
    if known := _known_to_kagglehub():
        yield "kagglehub", None, getattr(known, "api_key", None) or ""
        yield "kagglehub", known.username or "", known.key or ""
    if in_notebook:
        yield "KAGGLE_API_V1_TOKEN", None, _read(environment.get("KAGGLE_API_V1_TOKEN", ""))
    token = environment.get("KAGGLE_API_TOKEN", "")
    yield "KAGGLE_API_TOKEN", None, _read(token) if os.path.exists(token) else token
    for file in "~/.kaggle/access_token", "~/.kaggle/access_token.txt":
        yield file, None, _read(os.path.expanduser(file))
    user, key = (environment.get(f"KAGGLE_{name}", "") for name in ("USERNAME", "KEY"))
    yield "KAGGLE_USERNAME and KAGGLE_KEY", user, key
    file = f"{environment.get('KAGGLE_CONFIG_DIR') or '~/.kaggle'}/kaggle.json"
    if text := _read(os.path.expanduser(file)):
        try:
            login = bounded_json.parse(text)
            yield file, bounded_json.text(login["username"]), bounded_json.text(login["key"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{file} does not hold a user name and a key of Kaggle") from None
    yield "secrets of Colab", None, _secret("KAGGLE_API_TOKEN")
    yield "secrets of Colab", _secret("KAGGLE_USERNAME"), _secret("KAGGLE_KEY")


def _known_to_kagglehub() -> Any:
    """What kagglehub would use, if the program has it: its login() may have been called."""
    with contextlib.suppress(Exception):  # then what follows says what is wrong
        return sys.modules["kagglehub.config"].get_kaggle_credentials()
    return None


def _read(file: str) -> str:
    try:
        with open(file, encoding="utf-8-sig") as stream:  # Notepad writes a signature
            return stream.read(_LONGEST_FILE)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        raise ValueError(f"the file {file} can't be read ({type(error).__name__})") from None


def _secret(name: str) -> str:
    """A secret of the user of Colab, who is asked at the first time; empty elsewhere."""
    if "google.colab" in sys.modules:
        from google.colab import userdata  # only where it is installed

        with contextlib.suppress(Exception):  # of many kinds: there is none, or it is refused
            return str(userdata.get(name))
    return ""
