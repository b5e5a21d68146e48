"""What the tests of a cache in a bucket share: what they look for in it, and how they wait."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable

import models
from entries import key_of
from storage import Call
from waiting import until_unlocked

ROOT = "gs://test-bucket/models"
FILES = models.fake_model(size=20_000)
SHARD = "variables/variables.data-00000-of-00001"
LONG = models.fake_model(size=6_000_000, seed=1)
MANY = {
    **models.fake_model(size=20_000),
    **{f"assets/part-{number:02}.txt": b"%d" % number * 100 for number in range(36)},
}
HERE = socket.gethostname()


class Bucket:
    """What is in the cache, seen past the front and past the library."""

    def __init__(self, endpoint: str) -> None:
        from gcsfs.core import GCSFileSystem

        self.client = GCSFileSystem(
            endpoint_url=endpoint, token="anon", skip_instance_cache=True, use_listings_cache=False
        )

    def __getitem__(self, name: str) -> bytes:
        return self.client.cat_file(f"{ROOT}/{name}")

    def __setitem__(self, name: str, content: bytes) -> None:
        self.client.pipe_file(f"{ROOT}/{name}", content)

    def __delitem__(self, name: str) -> None:
        self.client.rm_file(f"{ROOT}/{name}")

    def names(self) -> set[str]:
        """All objects, once this process has removed its locks."""
        until_unlocked()
        return self.names_now()

    def names_now(self) -> set[str]:
        root = ROOT.removeprefix("gs://") + "/"
        return {name.removeprefix(root) for name in self.client.find(ROOT)}

    def put(self, folder: str, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            self[f"{folder}/{name}"] = content

    def generation(self, name: str) -> str | None:
        try:
            return str(self.client.info(f"{ROOT}/{name}")["generation"])
        except FileNotFoundError:
            return None

    def folder(self, handle: str) -> str:
        """The folder that the manifest of a model names."""
        return str(json.loads(self[f"{key_of(handle)}.manifest.json"])["folder"])

    def model(self, handle: str) -> dict[str, bytes] | None:
        """The files of the model that the manifest names; None if there is no manifest."""
        if f"{key_of(handle)}.manifest.json" not in self.names_now():
            return None
        folder = self.folder(handle) + "/"
        names = [name for name in self.names_now() if name.startswith(folder)]
        return {name.removeprefix(folder): self[name] for name in names}

    def check_whole(self, handle: str, files: dict[str, bytes]) -> None:
        """Fails unless the entry is there, whole, and all that there is of it."""
        folder = self.folder(handle)
        assert {name for name in self.names() if name.startswith(key_of(handle))} == {
            *(f"{folder}/{name}" for name in files),
            f"{key_of(handle)}.manifest.json",
        }
        listed = json.loads(self[f"{key_of(handle)}.manifest.json"])["files"]
        assert {file["path"]: file["sha256"] for file in listed} == {
            name: hashlib.sha256(content).hexdigest() for name, content in files.items()
        }
        assert self.model(handle) == files


def is_upload_of(handle: str, name: str = "") -> Callable[[Call], bool]:
    """Whether a call uploads a file of the model, or the one of this name."""
    prefix = f"models/{key_of(handle)}.cache-"
    return lambda call: (
        call.is_upload
        and call.name.startswith(prefix)
        and call.name.removeprefix(prefix).partition("/")[2].startswith(name)
    )


def lock_of(handle: str) -> str:
    return f"{key_of(handle)}.lock"


def is_commit(call: Call) -> bool:
    return call.is_upload and call.name.endswith(".manifest.json")
