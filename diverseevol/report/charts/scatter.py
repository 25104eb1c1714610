"""Relative score against Vendi-Score, pools of one size at a time (the paper's figure 4)."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diverseevol.evaluation.scores.frame import Frame
from diverseevol.report.charts.lines import ONE_TIME, Line, labels, look, sources
from diverseevol.report.charts.style import PAPER, facets, panels_across, write_legend, write_note, write_title
from diverseevol.report.charts.titles import benchmark_order, questions_of
from diverseevol.report.frame import of_metric

SIZES = 3  # panels a benchmark, at most: the paper has three
# Of the paper's score and the one that is not squeezed towards 1, what an axis says.
DIVERSITY = {"vendi_score": "Vendi-Score (effective rows)", "vendi_score_centred": "centred Vendi-Score"}
Spot = tuple[Line, float, float]  # whose it is, Vendi-Score, relative score
Row = tuple[str, str, str, str]  # source, judge, benchmark, diversity


def draw_diversity_against_score(frame: Frame) -> Figure | None:
    """A row of panels a source, judge, benchmark and Vendi-Score, a panel a size; None without pools that have both."""
    panels = [(row, size, spots) for row, sizes in pools(frame).items() for size, spots in _sizes(sizes).items()]
    if not panels:
        return None
    columns = panels_across([row for row, *_ in panels])
    figure, grid = facets(len(panels), columns, 2.75, 2.15)
    several = len({source for (source, *_), *_ in panels}) > 1
    for i, (axes, ((source, judge, benchmark, diversity), size, spots)) in enumerate(zip(grid, panels, strict=True)):
        for line, vendi, score in spots:
            axes.plot(vendi, score, markersize=4.5, linestyle="none", alpha=0.9, **_mark(line))
        axes.margins(0.12)
        axes.locator_params(nbins=5)
        axes.grid(axis="x")
        write_title(axes, source if several else "", f"{questions_of(benchmark, judge)}, {size:,} rows")
        axes.set_xlabel(DIVERSITY[diversity])
        axes.set_ylabel("" if i % columns else "relative score")
    drawn = {line for *_, spots in panels for line, _, _ in spots}
    names = {name: line for line, name in sorted(labels(frame.line).items()) if line in drawn}
    entries = {name: Line2D([], [], linestyle="none", markersize=5, **_mark(line)) for name, line in names.items()}
    write_legend(figure, entries, handle=1)
    write_note(figure, "a point a run; hollow: chosen at once")
    return figure


def pools(frame: Frame) -> dict[Row, dict[int, list[Spot]]]:
    """Pools with both scores, by source, judge, benchmark and Vendi-Score, then by size."""
    spots_of: dict[Row, dict[int, list[Spot]]] = {}
    scores = frame[(frame["name"] == "relative_score") & ~frame.full & frame.rows.notna()]
    pool, order = ["line", "seed", "rows"], sources(frame.line)
    for diversity in DIVERSITY:
        vendi = of_metric(frame, diversity)[[*pool, "value"]].rename(columns={"value": "vendi"})
        for (source, judge, benchmark, size), at in scores.merge(vendi, on=pool).groupby(
            ["source", "judge", "part", "rows"]
        ):
            spots = list(zip(at.line, at.vendi.tolist(), at.value.tolist(), strict=True))
            spots_of.setdefault((source, judge, benchmark, diversity), {})[int(size)] = spots

    def position(row: Row) -> tuple[Any, ...]:
        source, judge, benchmark, diversity = row
        return order.index(source), judge, benchmark_order(benchmark), list(DIVERSITY).index(diversity)

    return {row: spots_of[row] for row in sorted(spots_of, key=position)}


def _sizes(spots: Mapping[int, list[Spot]]) -> dict[int, list[Spot]]:
    """Up to `SIZES` sizes after the first pool, which samplers share, spread from early to last."""
    sizes = sorted(size for size, at in spots.items() if len(at) > 1)
    sizes = sizes[1:] if len(sizes) > 1 else sizes
    if len(sizes) > SIZES:
        sizes = [sizes[round(i * (len(sizes) - 1) / (SIZES - 1))] for i in range(SIZES)]
    return {size: spots[size] for size in sizes}


def _mark(line: Line) -> dict[str, Any]:
    colour, _, marker = look(line.sampler)
    return {"color": colour, "marker": marker, "markerfacecolor": PAPER if line.kind == ONE_TIME else colour}
