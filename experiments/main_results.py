"""The main table: final relative score by data set, benchmark and sampler, beside all rows."""

from collections.abc import Iterator

from claims import Held, held, is_full, is_kcenter
from estimates import Estimate, Record, estimates, final, named, record, title, unit
from figure2 import RUNS as CURVES
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diverseevol.report.charts.lines import FULL, Line, look
from diverseevol.report.charts.style import INK, MUTED, PAPER, write_note
from diverseevol.report.collect import Collection

RUNS = CURVES
WHITE = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}  # behind a number, so that no line crosses it
BEST = "best_picked_after_the_fact"  # of several noisy rounds, so that it flatters


def frame(collection: Collection) -> list[Record]:
    """A row a line and benchmark: its final round, and the best one labelled as what it is."""
    points = estimates(collection, "relative_score")
    best: dict[tuple[Line, str, str], Estimate] = {}
    for estimate in points:
        key = estimate.line, estimate.metric, estimate.judge
        if key not in best or estimate.value > best[key].value:
            best[key] = estimate
    rows = []
    for estimate in final(points):
        peak = best[estimate.line, estimate.metric, estimate.judge]
        several = estimate.line.kind != FULL
        rows.append(
            {
                **record(estimate),
                f"{BEST}_round": peak.round if several else None,
                BEST: peak.value if several else None,
            }
        )
    return rows


def draw(collection: Collection) -> Figure | None:
    """A panel a data set and benchmark: each sampler's final score with its interval, all rows as a level."""
    points = final(estimates(collection, "relative_score"))
    panels = list(dict.fromkeys((estimate.line.source, estimate.metric, estimate.judge) for estimate in points))
    if not panels:
        return None
    names = named(points)
    columns = min(3, len(panels))
    deep = -(-len(panels) // columns)
    tall = max(sum((e.line.source, e.metric, e.judge) == panel for e in points) for panel in panels)
    size = (1.0 + (3.1 if columns < 3 else 2.5) * columns, deep * (0.8 + 0.3 * tall) + 0.3)
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    grid = figure.subplots(deep, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _panel(axes, [e for e in points if (e.line.source, e.metric, e.judge) == panel], names)
        axes.set_title(title(*panel))
        axes.set_xlabel(unit(*panel[1:]))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    over = " and ".join(dict.fromkeys(estimate.over for estimate in points if estimate.over))
    write_note(figure, f"final round of each line; bars: 95 % over {over}" if over else "final round of each line")
    return figure


def _panel(axes: Axes, points: list[Estimate], names: dict[Line, str]) -> None:
    for y, estimate in enumerate(points):
        colour, _, marker = (INK, INK, "|") if estimate.line.kind == FULL else look(estimate.line.sampler)
        if estimate.low is not None:
            axes.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(estimate.value, y, marker=marker, color=colour, markersize=8 if marker == "|" else 5)
        axes.annotate(
            f"{estimate.value:.1f}", (estimate.value, y), xytext=(0, 5), textcoords="offset points", ha="center",
            fontsize=7, color=colour, bbox=WHITE,
        )  # fmt: skip
        if estimate.line.kind == FULL:
            axes.axvline(estimate.value, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.0, zorder=0)
    axes.set_yticks(range(len(points)), [names[estimate.line] for estimate in points])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(points) - 0.5, -0.7)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")


def compared(collection: Collection) -> Iterator[Held]:
    """K-Center's final round against all rows."""
    yield from held(collection, "reaches_full", is_kcenter, is_full)
