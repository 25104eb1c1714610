"""How figures look and are saved: one ink, direct labels, a sampler's own colour; PNG and SVG, and SVG for the page."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter

from diverseevol.output.pictures import lay_out, rendered
from diverseevol.report.charts.curves import Curve
from diverseevol.report.charts.line_ends import name_ends
from diverseevol.report.charts.lines import LOOKS, ONE_TIME, look
from diverseevol.storage.files import atomic_write

# Neutral colours that are used for nothing else, so that the page can put its own in their place, light or dark.
INK, MUTED, GRID, PAPER = "#1b1b1c", "#6a6a6b", "#e4e4e5", "#fffffe"
NEUTRALS = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER}
STYLE: Any = {
    "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": "none",
    "axes.titlelocation": "left", "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 0.7,
    "axes.axisbelow": True, "axes.linewidth": 0.7, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "xtick.major.size": 3, "ytick.major.size": 3, "legend.frameon": False, "svg.fonttype": "none",
    "svg.hashsalt": "diverseevol", "axes.formatter.useoffset": False, "text.parse_math": False,
    "figure.constrained_layout.h_pad": 0.06, "figure.constrained_layout.w_pad": 0.09,
}  # fmt: skip
EARLY = 0.85  # of the x axis: a line that ends before it is named at its end, the others beside the panel
TICKS = 6  # on an x axis, at most: numbers of rows that were measured
CROWDED = 6  # more lines than this in a panel have a legend, and no bands, of which none could be told from another
COUNTED = "lines: means over seeds; in brackets: how many there are"
LEGEND_SIZE = 8  # points of a letter
LEGEND_HANDLE = 0.77  # inches of an entry beside its text: its line, and the gaps around both
LEVEL: Any = {"color": MUTED, "linestyle": (0, (4, 3)), "linewidth": 1.1}


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it.
        label: of the y axis, with its unit.
        curves: with their labels.
        levels: height by label, of what was trained on all rows.
        from_zero: whether the y axis begins at 0, as for amounts.
    """

    title: str
    label: str
    curves: Sequence[Curve]
    levels: Mapping[str, float]
    from_zero: bool = False


def draw_panels(grid: Sequence[Sequence[Panel | None]], band: str, also: str = "", *, legend: bool = False) -> Figure:
    """Curves against training rows.

    Args:
        grid: rows of panels.
        band: what one is, to stand below; crowded panels have none.
        also: what else is to stand there.
        legend: one for the whole figure, for panels too many or too small for labels at the lines' ends.
    """
    columns = max(len(row) for row in grid)
    shown = [panel for row in grid for panel in row if panel]
    crowded = any(len(panel.curves) > CROWDED for panel in shown)
    legend = legend or crowded
    width, height = ((2.75, 2.05) if legend else (3.9, 2.6)) if columns > 1 else (5.4, 3.1)
    if crowded:
        width, height = (3.9, 3.2) if columns <= 2 else (2.75, 2.5)
    figure = Figure(figsize=(width * columns, height * len(grid) + 0.25 + 0.25 * legend), dpi=200, layout="constrained")
    all_axes = figure.subplots(len(grid), columns, squeeze=False)
    for row, (i, panels) in zip(all_axes, enumerate(grid), strict=True):
        for j, axes in enumerate(row):
            panel = panels[j] if j < len(panels) else None
            if panel is None:
                axes.set_visible(False)
                continue
            draw_panel(axes, panel, named=not legend, bands=not crowded)
            beside = panels[j - 1] if j else None
            if beside is not None and beside.label == panel.label:
                axes.set_ylabel("")
            below = grid[i + 1][j] if i + 1 < len(grid) and j < len(grid[i + 1]) else None
            if below is None:
                axes.set_xlabel("training rows")
    if legend:
        _legend(figure, shown, counted=crowded)
    write_note(figure, "; ".join(filter(None, [COUNTED if crowded else band, also])))
    return figure


def draw_panel(axes: Axes, panel: Panel, *, named: bool, bands: bool = True) -> None:
    """One panel; where they are named, lines are so at their ends, where the eye is."""
    ends: list[tuple[float, str, str]] = []
    rows = sorted({n for curve in panel.curves for n in curve.rows})
    for curve in panel.curves:
        colour, _, marker = look(curve.line.sampler)
        _draw_curve(axes, curve, colour, marker, bands)
        end = curve.rows[-1], curve.mean[-1]
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
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.set_title(panel.title)
    axes.set_ylabel(panel.label)
    if panel.from_zero:
        axes.set_ylim(0)
    if named:
        name_ends(axes, ends)


def _draw_curve(axes: Axes, curve: Curve, colour: str, marker: str, bands: bool) -> None:
    size = 2.6 if curve.thin else 3.8
    if bands and curve.low != curve.high:
        if curve.line.kind == ONE_TIME:  # which has no rounds between its two: nothing was measured there
            axes.vlines(curve.rows, curve.low, curve.high, color=colour, alpha=0.4, linewidth=2.5)
        else:
            axes.fill_between(curve.rows, curve.low, curve.high, color=colour, alpha=0.14, linewidth=0)
    axes.plot(curve.rows, curve.mean, color=colour, zorder=2, **_stroke(curve))
    for complete in (True, False):  # hollow where seeds are missing, so that a step of the mean is seen for what it is
        at = [i for i, n in enumerate(curve.seeds) if (n == max(curve.seeds) and not _hollow(curve)) == complete]
        if at:
            axes.plot(
                [curve.rows[i] for i in at], [curve.mean[i] for i in at], linestyle="none", marker=marker,
                markersize=size, color=colour, markerfacecolor=colour if complete else PAPER, zorder=3, clip_on=False,
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


def _stroke(curve: Curve) -> dict[str, Any]:
    """How a line is drawn between its markers."""
    if curve.line.kind == ONE_TIME:
        return {"linestyle": (0, (1, 2.5)), "linewidth": 1.0}
    style: Any = (0, (1, 1.2)) if curve.thin else (0, curve.dashes) if curve.dashes else "-"
    return {"linestyle": style, "linewidth": 0.9 if curve.thin else 1.5}


def _hollow(curve: Curve) -> bool:
    return curve.thin or curve.line.kind == ONE_TIME


def _legend(figure: Figure, panels: Sequence[Panel], *, counted: bool) -> None:
    """Every line once, if asked for with the most seeds that it has anywhere; then the levels."""
    curves = [curve for panel in panels for curve in panel.curves]
    seeds: dict[str, int] = {}
    for curve in curves:
        seeds[curve.label] = max(seeds.get(curve.label, 0), *curve.seeds)
    handles: dict[str, Any] = {}
    for curve in curves:
        colour, _, marker = look(curve.line.sampler)
        label = f"{curve.label} ({seeds[curve.label]})" if counted else curve.label
        handles.setdefault(label, Line2D([], [], color=colour, marker=marker, markersize=3.8, **_stroke(curve)))
        handles[label].set_markerfacecolor(PAPER if _hollow(curve) else colour)
    for label in dict.fromkeys(label for panel in panels for label in panel.levels):
        handles[label] = Line2D([], [], **LEVEL)
    # A short handle would hide that a line is dashed.
    dashed = any(curve.dashes for curve in curves) or any(panel.levels for panel in panels)
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", fontsize=LEGEND_SIZE,
        handlelength=3 if dashed else 2, ncols=legend_columns(list(handles), figure.get_figwidth()),
    )  # fmt: skip


def legend_columns(labels: Sequence[str], width: float) -> int:
    """How many columns of a legend have room side by side, a column as wide as its longest entry.

    Args:
        labels: of the entries, which fill one column after another.
        width: of the figure, in inches.
    """
    widths = [TextPath((0, 0), label, size=LEGEND_SIZE).get_extents().width / 72 if label else 0.0 for label in labels]
    for columns in range(min(6, len(labels)), 1, -1):
        longest = [float(part.max()) for part in np.array_split(widths, columns)]  # as a legend shares them out
        if sum(longest) + LEGEND_HANDLE * len(longest) <= width:
            return columns
    return 1


def write_note(figure: Figure, note: str) -> None:
    """A line below a figure, or as many as it needs, that says how to read it when it stands alone."""
    if note:
        width = int(17 * figure.get_figwidth())  # letters that have room, at some 17 to the inch
        lines = [part for line in note.splitlines() for part in textwrap.wrap(line, width)]
        more = len(lines) - len(note.splitlines())
        figure.set_figheight(figure.get_figheight() + 0.14 * more)  # not at the cost of the panels
        note = "\n".join(lines)
        figure.supxlabel(note, x=0.008, ha="left", fontsize=7.5, color=MUTED)


def save_png(figure: Figure, path: Path) -> Path:
    """Write a PNG file, on white."""
    with matplotlib.rc_context(STYLE), atomic_write(path, "wb") as file:
        file.write(rendered(figure, "png", facecolor="white"))
    return path


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write NAME.png and NAME.svg.

    Returns:
        The SVG for the page: its colours are the page's, and its ids its own.
    """
    with matplotlib.rc_context(STYLE):
        lay_out(figure)
        save_png(figure, folder / f"{name}.png")
        svg = rendered(figure, "svg", metadata={"Date": None, "Creator": None}).decode()
    with atomic_write(folder / f"{name}.svg") as out:
        out.write(svg)
    return _inline(svg[svg.index("<svg") :], name)


def _inline(svg: str, name: str) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(?<=[" ;])font: ([^;"]*?[\d.]+px) [^;"]*', r"font: \1 var(--sans)", svg)
    for variable, colour in (*NEUTRALS.items(), *((colour_name(name), LOOKS[name][1]) for name in LOOKS)):
        svg = re.sub(colour, f"var(--{variable})", svg, flags=re.IGNORECASE)
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    size = f'viewBox="0 0 {width:g} {height:g}" style="--natural: {width * 1.4:.0f}px" role="img"'
    return re.sub(r"<svg[^>]*>", f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size}>', svg, count=1).strip()


def colour_name(sampler: str) -> str:
    """The page's variable with a sampler's colour."""
    return f"s-{sampler.replace('_', '-')}"
