"""Curves over training rows: the mean over seeds at each number of rows, how far seeds lie apart, and the drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import StrMethodFormatter

from diverseevol.evaluation.scores.frame import Frame
from diverseevol.report.charts.lines import ONE_TIME, Line, look
from diverseevol.report.charts.style import MUTED, PAPER, facets, panels_across, write_legend, write_note, write_title
from diverseevol.report.frame import of_metric

BAND = "band: lowest to highest seed; no band: one seed"
EARLY = 0.85  # of the x axis: a line that ends before it is named at its end, the others beside the panel
TICKS = 6  # on an x axis, at most: numbers of rows that were measured
CROWDED = 6  # more lines than this in a panel have a legend, and no bands, of which none could be told from another
COUNTED = "lines: means over seeds; in brackets: how many there are"
LABEL_GAP = 0.085  # between two labels at the ends of lines, as a share of the panel's height
LEVEL: Any = {"color": MUTED, "linestyle": (0, (4, 3)), "linewidth": 1.1}
# Inches of a panel, by how many stand side by side: with the lines' names at their ends, or with a legend above.
NAMED = {1: (5.4, 3.0), 2: (3.9, 2.6)}
WITH_LEGEND = {1: (5.4, 3.0), 2: (3.4, 2.4), 3: (2.75, 2.05)}


@dataclass(frozen=True)
class Curve:
    """One metric of one line.

    Attributes:
        rows: training rows, growing.
        mean, low, high: over the seeds that came so far.
        seeds: how many these are.
        label: what the line is called.
        dashes: of the line.
        thin: whether it is somebody else's, drawn beside our own.
    """

    line: Line
    rows: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: tuple[int, ...]
    label: str = ""
    dashes: tuple[float, ...] = ()
    thin: bool = False

    @property
    def hollow(self) -> bool:
        """Whether its markers are."""
        return self.thin or self.line.kind == ONE_TIME

    @property
    def stroke(self) -> dict[str, Any]:
        """How the line is drawn between its markers."""
        if self.line.kind == ONE_TIME:  # which has no rounds between its two: nothing was measured there
            return {"linestyle": (0, (1, 2.5)), "linewidth": 1.0}
        style: Any = (0, (1, 1.2)) if self.thin else (0, self.dashes) if self.dashes else "-"
        return {"linestyle": style, "linewidth": 0.9 if self.thin else 1.5}


def curves(frame: Frame, metric: str, judge: str = "", *, own_intervals: bool = False) -> list[Curve]:
    """The curve of every line that was measured at a number of rows below all.

    Args:
        frame: all numbers.
        metric: by logged name.
        judge: whose scores, "" for what nobody judged.
        own_intervals: of a line of one seed, whether its band is the numbers' own interval, where all of them have one.
    """
    of_lines = of_metric(frame, metric, judge)
    of_lines = of_lines[~of_lines.full & of_lines.rows.notna()]
    return [_curve(line, of_line, own_intervals) for line, of_line in of_lines.groupby("line")]


def _curve(line: Line, of_line: Frame, own_intervals: bool) -> Curve:
    by_rows = of_line.groupby("rows")
    seen = by_rows.value.agg(["mean", "min", "max", "count"])
    low, high = seen["min"], seen["max"]
    if own_intervals and len(of_line) == len(seen) and of_line[["low", "high"]].notna().all(axis=None):
        low, high = by_rows.low.first(), by_rows.high.first()
    mean, low, high, seeds = (tuple(values.tolist()) for values in (seen["mean"], low, high, seen["count"]))
    return Curve(line, tuple(map(int, seen.index)), mean, low, high, seeds)


def levels(frame: Frame, metric: str, judge: str = "") -> dict[str, float]:
    """What training on all rows reaches, by source: the mean over its seeds."""
    reached = of_metric(frame, metric, judge)
    return {source: float(value) for source, value in reached[reached.full].groupby("source").value.mean().items()}


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        group: of panels that stand side by side where they have room, such as their source.
        title: above it.
        label: of the y axis, with its unit.
        curves: with their labels.
        levels: height by label, of what was trained on all rows.
        from_zero: whether the y axis begins at 0, as for amounts.
    """

    group: str
    title: str
    label: str
    curves: Sequence[Curve]
    levels: Mapping[str, float]
    from_zero: bool = False


def draw_panels(panels: Sequence[Panel], band: str, remarks: str = "") -> Figure:
    """Curves against training rows; lines are named at their ends, or, in many panels or of many lines, in a legend.

    Args:
        panels: in reading order.
        band: what one is, to stand below; crowded panels have none.
        remarks: what else is to stand there.
    """
    crowded = any(len(panel.curves) > CROWDED for panel in panels)
    legend = crowded or len(panels) > len(NAMED)
    columns = panels_across([panel.group for panel in panels])
    width, height = (WITH_LEGEND if legend else NAMED)[columns]
    figure, grid = facets(len(panels), columns, width, height + 0.4 * crowded)
    for i, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        draw_panel(axes, panel, named=not legend, bands=not crowded)
        if i % columns and panels[i - 1].label == panel.label:
            axes.set_ylabel("")
    for axes in grid[-columns:]:
        axes.set_xlabel("training rows")
    if legend:
        _legend(figure, panels, counted=crowded)
    write_note(figure, "; ".join(filter(None, [COUNTED if crowded else band, remarks])))
    return figure


def draw_panel(axes: Axes, panel: Panel, *, named: bool, bands: bool = True) -> None:
    """One panel; where they are named, lines are so at their ends, where the eye is."""
    ends: list[tuple[float, str, str]] = []
    rows = sorted({n for curve in panel.curves for n in curve.rows})
    for curve in panel.curves:
        _draw_curve(axes, curve, bands)
        colour, end = look(curve.line.sampler)[0], (curve.rows[-1], curve.mean[-1])
        if named and end[0] < rows[0] + EARLY * (rows[-1] - rows[0]):
            axes.annotate(
                curve.label, end, xytext=(5, 3), textcoords="offset points", color=colour, fontsize=8, zorder=4
            )
        else:
            ends.append((end[1], curve.label, colour))
    for label, height in panel.levels.items():
        axes.axhline(height, **LEVEL, zorder=1)
        ends.append((height, label, MUTED))
    if rows:
        axes.set_xticks(_thinned(rows))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    write_title(axes, *panel.title.splitlines())
    axes.set_ylabel(panel.label)
    if panel.from_zero:
        axes.set_ylim(0)
    if named:
        _name_ends(axes, ends)


def _draw_curve(axes: Axes, curve: Curve, bands: bool) -> None:
    colour, _, marker = look(curve.line.sampler)
    if bands and curve.low != curve.high:
        if curve.line.kind == ONE_TIME:
            axes.vlines(curve.rows, curve.low, curve.high, color=colour, alpha=0.4, linewidth=2.5)
        else:
            axes.fill_between(curve.rows, curve.low, curve.high, color=colour, alpha=0.14, linewidth=0)
    axes.plot(curve.rows, curve.mean, color=colour, zorder=2, **curve.stroke)
    for complete in (True, False):  # hollow where seeds are missing, so that a step of the mean is seen for what it is
        at = [i for i, n in enumerate(curve.seeds) if (n == max(curve.seeds) and not curve.hollow) == complete]
        if at:
            axes.plot(
                [curve.rows[i] for i in at], [curve.mean[i] for i in at], linestyle="none", marker=marker,
                markersize=2.6 if curve.thin else 3.8, color=colour, markerfacecolor=colour if complete else PAPER,
                zorder=3, clip_on=False,
            )  # fmt: skip


def _thinned(rows: Sequence[int]) -> list[int]:
    """Some of the numbers of rows, the first and the last among them, none so near another that they touch."""
    step = -(-(len(rows) - 1) // (TICKS - 1)) or 1
    gap = (rows[-1] - rows[0]) / TICKS
    kept = [rows[-1]]
    for n in reversed(rows[::step]):
        if kept[-1] - n >= gap or len(rows) == 1:
            kept.append(n)
    return sorted({*kept})


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at the right of the panel, so that no two names touch: (height, name, colour) each."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = spread([height for height, _, _ in ends], LABEL_GAP * (high - low))
    for (_, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            name, (1, height), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            color=colour, va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, in the same order, as near to the wanted ones as least squares brings them."""
    from scipy.optimize import isotonic_regression  # slow import

    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(order))
    spaced = np.empty(len(order))
    spaced[order] = isotonic_regression(np.asarray(heights, dtype=np.float64)[order] - steps).x + steps
    return spaced.tolist()


def _legend(figure: Figure, panels: Sequence[Panel], *, counted: bool) -> None:
    """Every line once, if asked for with the most seeds that it has anywhere; then the levels."""
    drawn = [curve for panel in panels for curve in panel.curves]
    entries: dict[str, Any] = {}
    for curve in drawn:
        colour, _, marker = look(curve.line.sampler)
        seeds = max(max(known.seeds) for known in drawn if known.label == curve.label)
        label = f"{curve.label} ({seeds})" if counted else curve.label
        face = PAPER if curve.hollow else colour
        entries[label] = Line2D(
            [], [], color=colour, marker=marker, markersize=3.8, markerfacecolor=face, **curve.stroke
        )
    entries |= {label: Line2D([], [], **LEVEL) for panel in panels for label in panel.levels}
    # A short handle would hide that a line is dashed.
    dashed = any(curve.dashes for curve in drawn) or any(panel.levels for panel in panels)
    write_legend(figure, entries, handle=3 if dashed else 2)
