"""The report: makes a page, a chart and a file of raw figures from the results.

The text around the figures is in report.md, and is edited there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

from benchmarks import chart
from benchmarks.results import CONTESTANTS, CURL, HUB, Row, range_shown, shown
from benchmarks.steps import Step

_TEMPLATE = Path(__file__).with_name("report.md")


@dataclass(frozen=True)
class Results:
    """The contents of a report.

    Attributes:
        rounds: how often each contestant had its turn.
        vocabulary: MB of the text in the large model.
        names: the contestants as people call them.
        rows: what was measured.
        steps: the parts of a cached resolve; none if they were not asked for.
        machine: where, by what it is called.
        versions: with which versions.
        commit: of which commit, and when.
    """

    rounds: int
    vocabulary: int
    names: dict[str, str]
    rows: list[Row]
    steps: list[Step]
    machine: dict[str, str]
    versions: dict[str, str]
    commit: dict[str, str]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        data: dict[str, Any] = json.loads(text)
        data["rows"] = [Row.from_json(row) for row in data["rows"]]
        data["steps"] = [Step(**step) for step in data["steps"]]
        return cls(**data)


def write(results: Results, folder: Path) -> None:
    """Writes benchmarks.json, benchmarks.md and benchmarks.svg into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "benchmarks.json").write_text(results.to_json())
    (folder / "benchmarks.md").write_text(page(results))
    chart.draw(results.rows, results.names, folder / "benchmarks.svg")


def page(results: Results) -> str:
    """The page, in Markdown."""
    rounds = f"{results.rounds} rounds" if results.rounds > 1 else "one round"
    return Template(_TEMPLATE.read_text()).substitute(
        rounds=f"{rounds}, on {results.commit['date']}, commit `{results.commit['commit']}`",
        vocabulary=results.vocabulary,
        table=table(results),
        beside=_table(
            ["work", *_heads(results)],
            ([row.work, *_figures(row)] for row in results.rows if not row.target),
        ),
        steps=_table(
            ["step", "calls", "time"],
            ([step.name, str(step.calls), shown(step.seconds, "s")] for step in results.steps),
        ),
        machine=_table(
            ["what", "which"],
            ([name, value] for name, value in {**results.machine, **results.versions}.items()),
        ),
    )


def table(results: Results) -> str:
    """The rows that have a target, in Markdown."""
    return _table(
        ["work", *_heads(results), "ratio", "target", "reached"],
        (
            [row.work, *_figures(row), _ratio(row), _target(row), _reached(row)]
            for row in results.rows
            if row.target
        ),
    )


def _table(heads: list[str], lines: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _heads(results: Results) -> list[str]:
    return [results.names[contestant].replace("|", r"\|") for contestant in CONTESTANTS]


def _figures(row: Row) -> Iterable[str]:
    for contestant in CONTESTANTS:
        values = row.values.get(contestant, [])
        median = row.median(contestant)
        parts = []
        if median is not None:
            parts.append(shown(median, row.unit))
            if len(values) > 1:
                parts.append(f"({range_shown(values, row.unit, median)})")
        if note := row.notes.get(contestant):
            parts.append(note if median is None else f"*{note}*")
        yield " ".join(parts)


def _ratio(row: Row) -> str:
    to_hub, to_curl = row.ratio(HUB), row.ratio(CURL)
    ratio = "" if to_hub is None else f"{to_hub:.2f}"
    return ratio if to_curl is None else f"{ratio} (curl: {to_curl:.2f})"


def _target(row: Row) -> str:
    assert row.target is not None
    limits = [f"{most:g} of {other}" for other, most in row.target.of.items()]
    if row.target.most is not None:
        limits.insert(0, shown(row.target.most, row.unit))
    return "at most " + " and ".join(limits)


def _reached(row: Row) -> str:
    reached = row.is_reached()
    return "" if reached is None else "yes" if reached else "**no**"
