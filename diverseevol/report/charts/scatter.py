"""Relative score against Vendi-Score, pools of one size at a time (the paper's figure 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diverseevol.report.charts.lines import ONE_TIME, Line, labels, look, sources
from diverseevol.report.charts.style import PAPER, write_note
from diverseevol.report.charts.titles import benchmark_order, questions_of
from diverseevol.report.frame import Frame, of_metric

SIZES = 3  # panels a benchmark, at most: the paper has three
# Of the paper's score and the one that is not squeezed towards 1, what an axis says.
DIVERSITY = {"vendi_score": "Vendi-Score (effective rows)", "vendi_score_centred": "centred Vendi-Score"}
Spot = tuple[Line, float, float]  # whose it is, Vendi-Score, relative score
Row = tuple[str, str, str, str]  # source, judge, benchmark, diversity


def draw_diversity_against_score(frame: Frame) -> Figure | None:
    """A row of panels a source, judge, benchmark and Vendi-Score, a panel a size; None without pools that have both."""
    rows = {key: sizes for key, spots in pools(frame).items() if (sizes := _sizes(spots))}
    if not rows:
        return None
    columns = max(len(sizes) for sizes in rows.values())
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.1 * len(rows) + 0.6), dpi=200, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    several = len({source for source, *_ in rows}) > 1
    for panels, ((source, judge, benchmark, diversity), sizes) in zip(grid, rows.items(), strict=True):
        for axes in panels[len(sizes) :]:
            axes.set_visible(False)
        for axes, (size, spots) in zip(panels, sizes.items(), strict=False):
            _panel(axes, spots)
            axes.set_xlabel(DIVERSITY[diversity])
            axes.set_title(f"{size:,} rows")
        title = f"{questions_of(benchmark, judge)}\n{min(sizes):,} rows"
        panels[0].set_title(f"{source}\n{title}" if several else title)
        panels[0].set_ylabel("relative score")
    found = {spot[0] for sizes in rows.values() for spots in sizes.values() for spot in spots}
    names = {line: name for line, name in labels(frame.line).items() if line in found}
    handles = {
        name: Line2D([], [], linestyle="none", markersize=5, **_mark(line)) for line, name in sorted(names.items())
    }
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper left", ncols=max(2, 2 * columns - 2), fontsize=8,
        columnspacing=1.2, handletextpad=0.3,
    )  # fmt: skip
    write_note(figure, "a point a run; hollow: chosen at once")
    return figure


def pools(frame: Frame) -> dict[Row, dict[int, list[Spot]]]:
    """Pools with both scores, by source, judge, benchmark and Vendi-Score, then by size."""
    spots_of: dict[Row, dict[int, list[Spot]]] = {}
    scores = frame[(frame["name"] == "relative_score") & ~frame.full & frame.rows.notna()]
    pool = ["line", "seed", "rows"]
    for diversity in DIVERSITY:
        vendi = of_metric(frame, diversity)[[*pool, "value"]].rename(columns={"value": "vendi"})
        for (source, judge, benchmark, size), at in scores.merge(vendi, on=pool).groupby(
            ["source", "judge", "part", "rows"]
        ):
            spots = list(zip(at.line, at.vendi.tolist(), at.value.tolist(), strict=True))
            spots_of.setdefault((source, judge, benchmark, diversity), {})[int(size)] = spots
    order = sources(frame.line)
    return dict(sorted(spots_of.items(), key=lambda item: _row_order(item[0], order)))


def _row_order(row: Row, order: Sequence[str]) -> tuple[Any, ...]:
    source, judge, benchmark, diversity = row
    return order.index(source), judge, benchmark_order(benchmark), list(DIVERSITY).index(diversity)


def _sizes(spots: Mapping[int, list[Spot]]) -> dict[int, list[Spot]]:
    """Up to `SIZES` sizes after the first pool, which samplers share, spread from early to last."""
    sizes = sorted(size for size, at in spots.items() if len(at) > 1)
    sizes = sizes[1:] if len(sizes) > 1 else sizes
    if len(sizes) > SIZES:
        sizes = [sizes[round(i * (len(sizes) - 1) / (SIZES - 1))] for i in range(SIZES)]
    return {size: spots[size] for size in sizes}


def _panel(axes: Axes, spots: Sequence[Spot]) -> None:
    for line, vendi, score in spots:
        axes.plot(vendi, score, markersize=4.5, linestyle="none", alpha=0.9, **_mark(line))
    axes.margins(0.12)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x")


def _mark(line: Line) -> dict[str, Any]:
    colour, _, marker = look(line.sampler)
    return {"color": colour, "marker": marker, "markerfacecolor": PAPER if line.kind == ONE_TIME else colour}
