"""What must be true of a cache, whatever happened to it."""

from __future__ import annotations

import os
from pathlib import Path

import models
from children import names_in
from entries import key_of

NOBODY = 65534


class Checker:
    """What must be true of a cache."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def entry(self, handle: str) -> Path:
        return self.cache / key_of(handle)

    def is_whole(self, handle: str, files: dict[str, bytes]) -> bool:
        """Whether the entry is there; fails if only a part of it is, or something else."""
        entry = self.entry(handle)
        if not os.path.lexists(entry):
            return False
        assert models.read_files(entry) == files
        return True

    def is_all(self, *handles: str) -> None:
        """Fails if there is anything but the entries, or one is missing."""
        assert names_in(self.cache) == sorted(
            f"{key_of(handle)}{suffix}"
            for handle in handles
            for suffix in ("", ".descriptor.txt", ".manifest.json")
        )

    def damage(self, handle: str) -> dict[str, bytes]:
        """Removes a file of the entry, as cleaners of temporary folders do; what is left."""
        (self.entry(handle) / "variables" / "variables.data-00000-of-00001").unlink()
        return models.read_files(self.entry(handle))
