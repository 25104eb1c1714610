"""Small multiples: how far K-Center is from random at the end, by condition and metric, with intervals over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diverseevol.evaluation.significance import t_test
from diverseevol.files import atomic_write
from diverseevol.report.drawing import STYLE

METRICS: Mapping[str, str] = {
    "relative_score/lab": "RS, lab",
    "relative_score/lab_natural": "RS, lab_natural",
    "skills_covered": "skills covered",
    "noisy_share": "noisy rows, share",
    "duplicate_share": "duplicates, share",
}
COLOUR = "#0072B2"


def draw(lines: Sequence[Mapping[str, Any]], file: Path) -> None:
    """A row a metric, a column a condition; dots are seeds, bars 95 % t-intervals of their mean."""
    conditions = list(dict.fromkeys(line["condition"] for line in lines))
    with matplotlib.rc_context(STYLE):
        size = (1.2 + 1.5 * len(conditions), 1.25 * len(METRICS) + 0.6)
        drawn = Figure(figsize=size, dpi=150, layout="constrained")
        grid = drawn.subplots(len(METRICS), len(conditions), sharey="row", squeeze=False)
        for row, (metric, title) in enumerate(METRICS.items()):
            for column, condition in enumerate(conditions):
                _panel(grid[row][column], [line for line in lines if line["condition"] == condition], metric)
                grid[row][column].tick_params(labelbottom=row == len(METRICS) - 1)
            grid[row][0].set_ylabel(title)
        for column, condition in enumerate(conditions):
            grid[0][column].set_title(condition, fontsize=9)
        drawn.suptitle(
            "K-Center − random in the last round; dots: seeds, bars: 95 % t-interval of their mean", fontsize=9
        )
        with atomic_write(file, "wb") as out:
            drawn.savefig(out, format="png")


def _panel(axes: Axes, lines: Sequence[Mapping[str, Any]], metric: str) -> None:
    values = [
        value
        for value in dict.fromkeys(line["value"] for line in lines)
        if len(differences([line for line in lines if line["value"] == value], metric))  # not run: not shown
    ]
    axes.axhline(0, color="#888888", linewidth=0.8)
    turned = {"rotation": 25, "ha": "right"} if max(map(len, values), default=0) > 6 else {}
    axes.set_xticks(range(len(values)), values, fontsize=8, **turned)
    axes.set_xlim(-0.5, max(len(values), 1) - 0.5)
    for x, value in enumerate(values):
        d = differences([line for line in lines if line["value"] == value], metric)
        axes.plot([x] * len(d), d, "o", color=COLOUR, alpha=0.5, markersize=4, markeredgewidth=0)
        if len(d):
            axes.plot(x, d.mean(), "_", color=COLOUR, markersize=12, markeredgewidth=2)
        if (test := t_test(d)) is not None:
            axes.vlines(x, test[0], test[1], color=COLOUR, linewidth=1.2)


def differences(lines: Sequence[Mapping[str, Any]], metric: str) -> np.ndarray:
    """K-Center less random in the last round of each seed that has both."""
    last: dict[tuple[str, int], tuple[int, float]] = {}
    for line in lines:
        key = line["sampler"], line["seed"]
        if metric in line and (key not in last or line["round"] > last[key][0]):
            last[key] = line["round"], line[metric]
    seeds = sorted({seed for _, seed in last if {("kcenter", seed), ("random", seed)} <= last.keys()})
    return np.array([last["kcenter", seed][1] - last["random", seed][1] for seed in seeds], dtype=np.float64)
