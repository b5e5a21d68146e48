"""The worlds in which the program of a Keras user runs, and what it sees in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
THEIRS, KERAS_2, KERAS_3 = WORLDS = ("tensorflow_hub", "tf_keras", "Keras 3")


def keras_of(world: str) -> dict[str, str]:
    """The setting that makes `tf.keras` the Keras of a world."""
    return {"TF_USE_LEGACY_KERAS": "0" if world == KERAS_3 else "1"}


@dataclasses.dataclass(frozen=True)
class Ran:
    """What the program has seen in one world, and where it has saved its models."""

    folder: Path
    seen: Mapping[str, Any]

    def value(self, case: str) -> Any:
        error = self.seen[case]["error"]
        assert error is None, f"{case}: {error['text']}"
        return self.seen[case]["value"]

    def error(self, case: str) -> Any:
        assert self.seen[case]["error"], f"{case} is no mistake: {self.seen[case]['value']}"
        return self.seen[case]["error"]
