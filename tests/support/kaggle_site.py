"""Kaggle on loopback: the pages of models, the API, and the storage to which both redirect.

Programs reach it under Kaggle's own names, through a proxy. The API is there twice: as this library
asks for it, and as the kagglehub of today does, by POST to api.kaggle.com.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import trustme
from servers import SIGNED_QUERY, Handler, Host, Proxy, Recorded, Request, archive, redirect, status

TOKEN = "KGAT_5ec2e7t0ken"
LOGIN = ("me", "5ec2e7key")
MODEL = "google/nnlm/tensorFlow2/en-dim128"
PAGE = f"https://www.kaggle.com/models/{MODEL}"
NO_CONSENT = "User has not consented to terms of use."
LOOKALIKES = ("evilkaggle.com", "www.kaggle.com.evil.com", "www-kaggle.com")
_NAMES = ("www.kaggle.com", "kaggle.com", "api.kaggle.com", "tfhub.dev", *LOOKALIKES)
_NEWEST = json.dumps({"versionNumber": 2})
_ACCEPTED = (
    f"Bearer {TOKEN}",
    "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode(),
)


class KaggleSite:
    """Kaggle with one model, `MODEL`, in version 2.

    Attributes:
        env: how a process reaches it.
        page: what answers at the page, if it is not the archive.
        needs: what the API asks for: nothing, "login" or "consent".
        storage: what the storage answers.
    """

    def __init__(self, ca: trustme.CA, ca_pem: Path, data: bytes) -> None:
        self.site = Host(tls=ca, names=_NAMES)
        self._storage = Host(tls=ca, names=("storage.googleapis.com",))
        site, storage = (f"127.0.0.1:{one.port}" for one in (self.site, self._storage))
        self.proxy = Proxy(
            {
                **{f"{name}:443": site for name in _NAMES},
                "storage.googleapis.com:443": storage,
            }
        )
        self.env = {"HTTPS_PROXY": self.proxy.url, "REQUESTS_CA_BUNDLE": str(ca_pem)}
        self.page: Handler | None = None
        self.api: Handler | None = None
        self.needs = ""
        self.storage: Handler = archive(data)
        self.signed = f"https://storage.googleapis.com/kaggle/1.tar.gz?{SIGNED_QUERY}"
        self._storage.route("/kaggle/1.tar.gz", lambda request: self.storage(request))
        self.publish(MODEL)
        rpc = "/v1/models.ModelApiService/"
        files = json.dumps({"files": [{"name": "saved_model.pb"}], "nextPageToken": "more"})
        self._route(f"{rpc}GetModelInstance", _json(200, _NEWEST))
        self._route(f"{rpc}ListModelInstanceVersionFiles", _json(200, files))
        self._route(f"{rpc}DownloadModelInstanceVersion", redirect(self.signed))

    def publish(self, name: str) -> str:
        """Has a model under another name, too; returns the address of its version 2."""
        for page in (f"/models/{name}", f"/models/{name}/2"):
            self.site.route(page, lambda request: (self.page or redirect(self.signed))(request))
        self._route(f"/api/v1/models/{name}/get", _json(200, _NEWEST))
        self._route(f"/api/v1/models/{name}/2/download", redirect(self.signed))
        return f"https://www.kaggle.com/models/{name}/2"

    def _route(self, path: str, answer: Handler) -> None:
        self.site.route(path, lambda request: self._answer(request, answer))

    def _answer(self, request: Request, answer: Handler) -> None:
        authorization = request.headers.get("Authorization")
        if self.api is not None:
            answer = self.api
        elif self.needs and authorization is None:
            answer = _refusal(403, "Permission 'models.get' was denied")
        elif authorization is not None and authorization not in _ACCEPTED:
            answer = _refusal(401, "Unauthenticated")
        elif self.needs == "consent":
            answer = _refusal(403, NO_CONSENT)
        answer(request)

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for at Kaggle's site."""
        return [request.path for request in self.site.requests]

    @property
    def stored(self) -> list[Recorded]:
        """What was asked of the storage."""
        return self._storage.requests

    @contextlib.contextmanager
    def running(self) -> Iterator[KaggleSite]:
        with self.site, self._storage, self.proxy:
            yield self


def _json(code: int, text: str) -> Handler:
    return status(code, {"Content-Type": "application/json"}, text)


def _refusal(code: int, message: str) -> Handler:
    return _json(code, json.dumps({"code": code, "message": message}))
