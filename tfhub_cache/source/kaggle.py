"""Archives of models on Kaggle, from the page or, where it does not serve them, from the API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from tfhub_cache import bounded_json
from tfhub_cache.clients import http
from tfhub_cache.clients.access import Access
from tfhub_cache.clients.http_errors import failure
from tfhub_cache.clients.kaggle import SITE, Credentials, Model, model_of
from tfhub_cache.errors import DownloadError
from tfhub_cache.retrying import Pause
from tfhub_cache.source.http import HttpArchive

_REFUSALS = frozenset({401, 403, 404})  # a private model looks as if it were not there
_LONGEST_ANSWER = 1 << 20
_TOKEN = (
    f"create a token at {SITE}/settings/api and put it into KAGGLE_API_TOKEN or the file "
    "~/.kaggle/access_token"
)


class KaggleArchive(HttpArchive):
    """A model on Kaggle, or on tfhub.dev, which redirects there.

    Its page is asked as the hosting protocol has it. Where the answer is a refusal, or a page for
    people, the API is asked with the user's credentials if there are any. They are sent to Kaggle's
    site only, and not to where it redirects.
    """

    def __init__(
        self, handle: str, url: str, credentials: Callable[[], Credentials | None], access: Access
    ) -> None:
        """An archive.

        Args:
            handle: see `HttpArchive`.
            url: see `HttpArchive`.
            credentials: finds the user's. It is called if the API is asked, and may raise
                ValueError, whose text says why they are of no use.
            access: see `HttpArchive`.
        """
        super().__init__(handle, url, access)
        self._handle = handle
        self._find_credentials = credentials
        self._found: str | None = None
        self._model: Model | None = None  # once the API is asked for it

    def _ask(
        self, stack: contextlib.ExitStack, headers: Mapping[str, str], pause: Pause
    ) -> http.Answer:
        answer = super()._ask(stack, headers, pause)
        if self._model is None and _is_refusal(answer):
            # tfhub.dev redirects to a page, and a page may redirect to a login.
            model = next(filter(None, map(model_of, answer.way)), None)
            if model is not None:
                self._start, self._known = self._api(model, pause), None
                self._model = model
                answer = super()._ask(stack, headers, pause)
        is_of_kaggle = answer.address.url.startswith(f"{SITE}/")  # and not of its storage
        if self._model is not None and is_of_kaggle and _is_refusal(answer):
            raise self._refusal(self._model, answer)
        return answer

    def _api(self, model: Model, pause: Pause) -> http.Address:
        """Where the API has the archive."""
        api = f"{SITE}/api/v1/models/{model.name}"
        try:
            credentials = self._find_credentials()
        except ValueError as error:
            raise failure(self._handle, api, f"{error}. To get another one, {_TOKEN}") from None
        self._found, authorization = credentials or (None, None)
        version = model.version
        if version is None:
            with self._get(http.Address(f"{api}/get", authorization), pause=pause) as answer:
                if _is_refusal(answer):
                    raise self._refusal(model, answer)
                try:
                    version = str(bounded_json.number(_json(answer)["versionNumber"]))
                except (ValueError, KeyError, TypeError):
                    raise answer.failure("Kaggle did not say which version is newest") from None
        return http.Address(f"{api}/{version}/download", authorization)

    def _refusal(self, model: Model, answer: http.Answer) -> DownloadError:
        """What is raised when Kaggle refuses: why, by its own words, and the way out."""
        page = f"{SITE}/models/{model.owner}/{model.model}"
        try:
            said = bounded_json.text(_json(answer)["message"]).rstrip(".")[:300]
        except (ValueError, KeyError, TypeError, DownloadError):
            said = "a web page" if answer.media_type == "text/html" else ""
        if answer.status == 404:
            advice = f"Check the model and its version at {page}"
        elif "consent" in said.lower():
            advice = f"Log in and give your consent at {page}, then try again"
        else:
            advice = f"Log in at {page}, and see whether it asks for your consent"
        if self._found is None:
            advice += f". If it is private or needs your consent, {_TOKEN}"
        elif answer.status == 401:
            advice = f"The credentials found in {self._found} are wrong or revoked: {_TOKEN}"
        else:
            advice += f". The credentials found in {self._found} may be revoked or of another user"
        reply = f"Kaggle answered {answer.status}{said and f' ({said})'}"
        return answer.failure(f"{reply}. {advice}")


def _is_refusal(answer: http.Answer) -> bool:
    """Whether it is not the model: a page for people, as to log in, has the status of a success."""
    return answer.status in _REFUSALS or answer.media_type == "text/html"


def _json(answer: http.Answer) -> Any:
    return bounded_json.parse(answer.content(_LONGEST_ANSWER))
