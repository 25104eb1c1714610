"""Relative score against training rows: a panel a data set and benchmark, a line a schedule (the paper's figure 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diverseevol.files import atomic_write
from diverseevol.output.pictures import rendered
from diverseevol.report.figures import COLOURS, STYLE

LABEL_GAP = 0.085  # between two labels at the ends of lines, as a share of the panel's height


@dataclass(frozen=True)
class Line:
    """One schedule in one panel.

    Attributes:
        name: the label at its end.
        rows: training rows of each point; one point alone is a level, such as all rows of the data set.
        scores: relative score of each.
        low, high: its interval.
    """

    name: str
    rows: Sequence[int]
    scores: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def draw_schedules(panels: Mapping[tuple[str, str], Sequence[Line]], title: str, path: Path) -> Path:
    """Draw a grid of panels.

    Args:
        panels: lines by (data set, benchmark): data sets are the grid's rows, benchmarks its columns. Lines of one name
            have one colour in all of them.
        title: above the grid.
        path: the PNG file.
    """
    sets, benchmarks = (list(dict.fromkeys(key[i] for key in panels)) for i in (0, 1))
    names = list(dict.fromkeys(line.name for lines in panels.values() for line in lines if len(line.rows) > 1))
    colours = dict(zip(names, COLOURS, strict=False))
    with matplotlib.rc_context(STYLE):
        size = (1.2 + 4.6 * len(benchmarks), 0.6 + 2.4 * len(sets))
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        grid = figure.subplots(len(sets), len(benchmarks), squeeze=False, sharex=True)
        for i, data in enumerate(sets):
            for j, benchmark in enumerate(benchmarks):
                _panel(grid[i, j], panels.get((data, benchmark), ()), colours)
                grid[i, j].set_title(f"{data}, {benchmark}", loc="left", fontsize=9)
            grid[i, 0].set_ylabel("relative score")
        for axes in grid[-1]:
            axes.set_xlabel("training rows")
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        with atomic_write(path, "wb") as file:
            file.write(rendered(figure, "png"))
    return path


def _panel(axes: Axes, lines: Sequence[Line], colours: Mapping[str, str]) -> None:
    ends: list[tuple[float, str, str]] = []
    for line in lines:
        colour = colours.get(line.name, "#555555")
        if len(line.rows) == 1:
            axes.axhline(line.scores[0], color=colour, linestyle=(0, (4, 3)), linewidth=1.2)
        else:
            axes.fill_between(line.rows, line.low, line.high, color=colour, alpha=0.10, linewidth=0)
            axes.plot(line.rows, line.scores, color=colour, marker="o", markersize=3, linewidth=1.5)
        ends.append((line.scores[-1], line.name, colour))
    name_ends(axes, ends)


def name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines where they end, at the right of the panel, so that no two names touch: (height, name, colour) each."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = spread([height for height, _, _ in ends], LABEL_GAP * (high - low))
    for (_, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            name, (1, height), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            color=colour, va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, in the same order, as near to the given ones as a common shift of each cluster."""
    order = np.argsort(heights, kind="stable")
    clusters: list[list[float]] = []  # each: the heights of labels that would touch
    for height in np.asarray(heights, dtype=float)[order]:
        clusters.append([float(height)])
        while len(clusters) > 1 and _bottom(clusters[-1], gap) - _top(clusters[-2], gap) < gap:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    placed = [_bottom(cluster, gap) + i * gap for cluster in clusters for i in range(len(cluster))]
    result = [0.0] * len(order)
    for place, index in zip(placed, order, strict=True):
        result[index] = place
    return result


def _bottom(cluster: Sequence[float], gap: float) -> float:
    return float(np.mean(cluster)) - gap * (len(cluster) - 1) / 2


def _top(cluster: Sequence[float], gap: float) -> float:
    return float(np.mean(cluster)) + gap * (len(cluster) - 1) / 2
