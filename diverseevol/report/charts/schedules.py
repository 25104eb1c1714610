"""Relative score against training rows: a panel a data set and benchmark, a line a schedule (the paper's figure 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diverseevol.output.pictures import rendered
from diverseevol.report.charts.line_ends import name_ends
from diverseevol.report.charts.run_figures import COLOURS, STYLE
from diverseevol.storage.files import atomic_write


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
