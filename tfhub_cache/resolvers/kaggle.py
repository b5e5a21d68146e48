"""Handles of kaggle.com in a notebook of Kaggle, where models are attached as folders.

There, tensorflow_hub has a resolver that asks kagglehub, which knows the folders; the stand-in
has it, too.
"""

from __future__ import annotations

import re

from tfhub_cache import settings
from tfhub_cache.clients.kaggle import Credentials, find_credentials
from tfhub_cache.resolver import HttpResolverBase

_PAGE = re.compile(
    r"https?://(?:[a-z]+\.)?kaggle\.com/models/(?P<owner>[^/]+)/(?P<model>[^/]+)/"
    r"(?:frameworks/)?(?P<framework>[^/]+)/(?:variations/)?(?P<variation>[^/]+)/"
    r"(?:versions/)?(?P<version>[0-9]+)"
)


class KaggleFileResolver(HttpResolverBase):
    """Serves versions of models on kaggle.com with kagglehub, in a notebook of Kaggle."""

    def is_supported(self, handle: str) -> bool:
        return settings.is_in_kaggle_notebook() and _PAGE.fullmatch(handle) is not None

    def __call__(self, handle: str) -> str:
        import kagglehub

        page = _PAGE.fullmatch(handle)
        if page is None:
            raise ValueError(f"{handle} is not a version of a model on kaggle.com.")
        owner, model, framework, variation, version = page.groups()
        return str(
            kagglehub.model_download(f"{owner}/{model}/{framework.lower()}/{variation}/{version}")
        )


def credentials() -> Credentials | None:
    """The user's credentials for Kaggle, if there are any.

    Raises:
        ValueError: see `find_credentials`.
    """
    return find_credentials(settings.of_kaggle(), settings.is_in_kaggle_notebook())
