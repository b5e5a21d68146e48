"""Results: rows of figures, one for each contestant, and whether the targets are reached."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

HUB = "tensorflow_hub"
CURL = "curl"
OURS = "tfhub_cache"
GCSFS = "gcsfs"
"""Only beside this library in a bucket: it has no column, but is named with the figure."""
CONTESTANTS = (HUB, CURL, OURS)

Unit: TypeAlias = Literal["s", "B", "share"]


@dataclass(frozen=True)
class Target:
    """What this library's median must not exceed.

    Attributes:
        most: a figure in the row's unit.
        of: for each other contestant, how many times its median.
    """

    most: float | None = None
    of: dict[str, float] = field(default_factory=dict)


@dataclass
class Row:
    """One thing that was measured.

    Attributes:
        key: what `--only` picks it by.
        work: what was done, for people.
        unit: seconds, bytes, or a share of the archive.
        target: None where the row only explains another.
        values: the figures of each contestant, one for each round.
        notes: what else there is to say of a contestant.
    """

    key: str
    work: str
    unit: Unit
    target: Target | None = None
    values: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, contestant: str, value: float) -> None:
        """Adds the figure of one round."""
        self.values.setdefault(contestant, []).append(value)

    def median(self, contestant: str) -> float | None:
        values = self.values.get(contestant)
        return statistics.median(values) if values else None

    def ratio(self, other: str) -> float | None:
        """This library's median as a share of another contestant's."""
        ours, theirs = self.median(OURS), self.median(other)
        return None if ours is None or not theirs else ours / theirs

    def is_reached(self) -> bool | None:
        """Whether the target is reached; None where there is no target or no figure."""
        ours = self.median(OURS)
        if self.target is None or ours is None:
            return None
        if self.target.most is not None and ours > self.target.most:
            return False
        return all((self.ratio(other) or 0.0) <= most for other, most in self.target.of.items())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        return cls(**{**data, "target": data["target"] and Target(**data["target"])})


def shown(value: float, unit: Unit) -> str:
    """A figure with its unit, to three digits."""
    factor, name = _scale(value, unit)
    return f"{_digits(value * factor)} {name}"


def range_shown(values: list[float], unit: Unit, like: float) -> str:
    """The lowest and the highest of some figures, in the unit in which `like` is shown."""
    factor, _ = _scale(like, unit)
    return f"{_digits(min(values) * factor)} to {_digits(max(values) * factor)}"


def _scale(value: float, unit: Unit) -> tuple[float, str]:
    if unit == "B":
        return 1e-6, "MB"
    if unit == "share":
        return 100, "%"
    return (1, "s") if value >= 0.1 else (1e3, "ms") if value >= 1e-3 else (1e6, "µs")


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
