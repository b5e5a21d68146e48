"""The chart: for each work a group of bars, each as long as its share of the longest.

It has no background and grey text, so that it can be read on a light page and on a dark one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import CONTESTANTS, CURL, HUB, OURS, Row, shown

# Okabe and Ito's colours, which colour-blind readers can distinguish: https://jfly.uni-koeln.de/color/
_COLOURS = {HUB: "#999999", CURL: "#E69F00", OURS: "#56B4E9"}
_TEXT = "#808080"


def draw(rows: list[Row], names: dict[str, str], path: Path) -> None:
    """Draws the rows in which this library and another one have figures, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    groups = [row for row in rows if row.target and row.median(OURS) and row.median(HUB)]
    bars = [
        (row, contestant, value)
        for row in groups
        for contestant in CONTESTANTS
        if (value := row.median(contestant))
    ]
    # Equal bytes for equal figures, so that a report does not differ without reason.
    style: dict[Any, Any] = {
        "svg.hashsalt": "tfhub_cache",
        "svg.fonttype": "none",
        "font.size": 10,
        "text.color": _TEXT,
    }
    with mpl.rc_context(style):
        height = 0.26 * len(bars) + 0.5 * len(groups) + 0.5
        figure, axes = plt.subplots(figsize=(8, height), layout="constrained")
        y, before = 0.0, None
        for row, contestant, value in bars:
            if row is not before:
                y, before = y + 1.9, row
                axes.text(0, y - 0.85, row.work, weight="bold", va="center")
            most = max(row.median(other) or 0.0 for other in CONTESTANTS)
            axes.barh(y, value / most, height=0.8, color=_COLOURS[contestant])
            label = f" {shown(value, row.unit)}  {names[contestant]}"
            axes.text(value / most, y, label, va="center")
            y += 1
        axes.set(xlim=(0, 1.5), ylim=(y - 0.4, 0.4))
        axes.axis("off")
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
