"""Models in a notebook of Kaggle, where they are attached as folders and the internet may be off.

Only kagglehub knows the folders. Elsewhere it would download into a cache of its own, without
checking what is locked, so it is not asked.
"""

from __future__ import annotations

from absl import logging

from tfhub_cache import settings
from tfhub_cache.clients.kaggle import Credentials, find_credentials, model_of
from tfhub_cache.errors import DownloadError
from tfhub_cache.notation import DIRECT
from tfhub_cache.urls import host_of, redact

HOSTS = ("kaggle.com", "www.kaggle.com", "tfhub.dev", "www.tfhub.dev")
"""Those whose models are on Kaggle."""


def attached(handle: str) -> str | None:
    """The folder of a model, where kagglehub attaches it to this notebook of Kaggle.

    Where the network is forbidden, or a lock file or a mirror says where models come from, it is
    not asked.
    """
    if (
        not settings.is_in_kaggle_notebook()
        or (model := model_of(handle)) is None
        or settings.OFFLINE.value()
        or settings.LOCKFILE.value()
        or any(mirror != DIRECT for mirror in settings.MIRROR.value())
    ):
        return None
    version = "" if model.version is None else f"/{model.version}"
    name = f"{model.owner}/{model.model}/{model.framework.lower()}/{model.variation}{version}"
    try:
        import kagglehub

        return str(kagglehub.model_download(name))
    except Exception as error:  # of many kinds: it is not installed, there is no such model, ...
        what = redact(f"{type(error).__name__}: {error}")
        logging.warning("kagglehub can't attach %s, so it is downloaded: %s", redact(handle), what)
        return None


def explain(error: DownloadError, handle: str) -> None:
    """Adds to the error of a download what to do in a notebook of Kaggle without a network."""
    is_unreachable = error.status is None and host_of(handle) in HOSTS
    if is_unreachable and settings.is_in_kaggle_notebook():
        shown, model = redact(handle), "this model"
        if model_of(handle) is None:
            model = f"the model of Kaggle to which {shown} leads in a browser"
        advice = (
            "If this notebook has no internet, turn it on in its settings, or attach "
            f"{model} (Add Input) and use the address of its page as the handle."
        )
        error.advice = f"{error.advice} {advice}".strip()


def use_of(handle: str) -> str:
    """What loads a model of Kaggle that is no SavedModel, as a sentence; empty for others."""
    model = model_of(handle)
    if model is None or model.framework.lower().startswith("tensorflow"):
        return ""
    return f" It is a model for {model.framework}, which loads it from that folder."


def credentials() -> Credentials | None:
    """The user's credentials for Kaggle, if there are any.

    Raises:
        ValueError: see `find_credentials`.
    """
    return find_credentials(settings.of_kaggle(), settings.is_in_kaggle_notebook())
