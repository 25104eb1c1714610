"""Win, tie and lose as bars: neutral shades, since colours belong to samplers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from diverseevol.report.collection import Point
from diverseevol.report.drawing import GRID, INK, MUTED, PAPER, write_note
from diverseevol.report.lines import FULL, Line, look, sources

OUTCOMES = (("win", INK, PAPER), ("tie", MUTED, PAPER), ("lose", GRID, INK))  # shade, and the number's colour on it
READABLE = 7  # per cent: a narrower part holds no number


def _plainly(source: str, judge: str, benchmark: str) -> str:
    return f"{source}\n{benchmark}, judge {judge}"


def draw_win_tie_lose(
    points: Sequence[Point],
    names: Mapping[Line, str],
    title: Callable[[str, str, str], str] = _plainly,
    against: str = "",
) -> Figure | None:
    """A panel a source, judge and benchmark, a bar a line at its final round.

    Args:
        points: all there are.
        names: of lines, whose sources are drawn in this order.
        title: of the panel of a source, judge and benchmark.
        against: added to what the axis shows.

    Returns:
        None where nothing was judged.
    """
    outcomes = [p for p in points if p.metric.partition("/")[0] in ("win", "tie", "lose")]
    order = sources(names)
    found = {(p.line.source, p.judge, p.metric.partition("/")[2]) for p in outcomes}
    panels = sorted(found, key=lambda panel: (order.index(panel[0]), panel))
    if not panels:
        return None
    shares = [_shares(outcomes, *panel) for panel in panels]
    columns = min(3, len(panels))
    deep = -(-len(panels) // columns)
    tall = max(len(found) for found in shares)
    size = (1.0 + (3.3 if columns < 3 else 2.6) * columns, deep * (0.75 + 0.26 * max(tall, 2)) + 0.6)
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    grid = figure.subplots(deep, columns, squeeze=False).ravel()
    for axes, (source, judge, benchmark), bars in zip(grid, panels, shares, strict=False):
        _panel(axes, bars, names, tall)
        axes.set_title(title(source, judge, benchmark))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[: len(panels)][-columns:]:
        axes.set_xlabel(f"questions (%){against}")
    _legend(figure)
    several = any(seeds > 1 for found in shares for _, seeds in found)
    write_note(figure, f"final round of each line, {'mean over seeds' if several else 'one seed'}")
    return figure


def _shares(points: Sequence[Point], source: str, judge: str, benchmark: str) -> dict[tuple[Line, int], list[float]]:
    """Per cent of win, tie and lose by line and its number of seeds: seeds at the line's final round only."""
    here = [p for p in points if (p.line.source, p.judge, p.metric.partition("/")[2]) == (source, judge, benchmark)]
    found = {}
    for line in sorted({p.line for p in here}, key=lambda line: (line.kind == FULL, line)):
        last = max(p.round for p in here if p.line == line)
        at_last = [p for p in here if p.line == line and p.round == last]
        means = [np.mean([p.value for p in at_last if p.metric.startswith(f"{name}/")]) for name, *_ in OUTCOMES]
        seeds = len({p.seed for p in at_last})
        found[line, seeds] = [100 * float(value) / float(sum(means)) for value in means]
    return found


def _panel(axes: Axes, found: Mapping[tuple[Line, int], Sequence[float]], names: Mapping[Line, str], tall: int) -> None:
    for y, values in enumerate(found.values()):
        left = 0.0
        for (_, shade, ink), value in zip(OUTCOMES, values, strict=True):
            axes.barh(y, value, left=left, height=0.72, color=shade, linewidth=0)
            if value >= READABLE:
                axes.text(left + value / 2, y, f"{value:.0f}", ha="center", va="center", color=ink, fontsize=7.5)
            left += value
    axes.set_yticks(range(len(found)), [names[line] for line, _ in found])
    for label, (line, _) in zip(axes.get_yticklabels(), found, strict=True):
        label.set_color(INK if line.kind == FULL else look(line.sampler)[0])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    axes.set_ylim(tall - 0.4, -0.6)  # bars as thick in every panel
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)


def _legend(figure: Figure) -> None:
    handles = [Patch(facecolor=shade, label=name) for name, shade, _ in OUTCOMES]
    figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8, handlelength=1.2)
