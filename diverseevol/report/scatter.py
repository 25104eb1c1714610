"""Relative score against Vendi-Score, pools of one size at a time (the paper's figure 4)."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from diverseevol.report.collection import Point
from diverseevol.report.drawing import write_note
from diverseevol.report.lines import FULL, look, sampler_name

SIZES = 3  # panels a benchmark, at most: the paper has three
Spot = tuple[str, float, float]  # sampler, Vendi-Score, relative score


def draw_diversity_against_score(points: Sequence[Point]) -> Figure | None:
    """A row of panels a source, judge and benchmark, a panel a size; None where no pool has both scores."""
    rows = {key: sizes for key, spots in pools(points).items() if (sizes := _sizes(spots))}
    if not rows:
        return None
    columns = max(len(sizes) for sizes in rows.values())
    figure = Figure(figsize=(2.9 * columns + 0.6, 2.45 * len(rows) + 0.5), dpi=200, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for panels, ((source, judge, benchmark), sizes) in zip(grid, rows.items(), strict=True):
        for axes in panels[len(sizes) :]:
            axes.set_visible(False)
        for axes, (size, spots) in zip(panels, sizes.items(), strict=False):
            _panel(axes, spots)
            what = f"{source}\n{benchmark}, judge {judge}\n" if len(rows) > 1 else ""
            axes.set_title(f"{what}{size:,} rows")
        panels[0].set_ylabel("relative score")
    for axes in grid[-1]:
        axes.set_xlabel("Vendi-Score of the pool (effective rows)")
    found = {spot[0] for sizes in rows.values() for spots in sizes.values() for spot in spots}
    handles = [
        Line2D(
            [], [], color=look(name)[0], marker=look(name)[2], linestyle="none", label=sampler_name(name), markersize=5
        )
        for name in sorted(found)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)), fontsize=8)
    only = "" if len(rows) > 1 else f"{' · '.join(next(iter(rows)))} · "
    write_note(figure, f"{only}a point a run")
    return figure


def pools(points: Sequence[Point]) -> dict[tuple[str, str, str], dict[int, list[Spot]]]:
    """Pools with both scores, by source, judge and benchmark, then by size."""
    diversity = {(p.line, p.seed, p.rows): p.value for p in points if p.metric == "vendi_score"}
    found: dict[tuple[str, str, str], dict[int, list[Spot]]] = {}
    for p in points:
        name, _, benchmark = p.metric.partition("/")
        vendi = diversity.get((p.line, p.seed, p.rows))
        if name == "relative_score" and p.rows is not None and vendi is not None and p.line.kind != FULL:
            sizes = found.setdefault((p.line.source, p.judge, benchmark), {})
            sizes.setdefault(p.rows, []).append((p.line.sampler, vendi, p.value))
    return dict(sorted(found.items()))


def _sizes(spots: Mapping[int, list[Spot]]) -> dict[int, list[Spot]]:
    """Up to `SIZES` sizes after the first pool, which samplers share, spread from early to last."""
    sizes = sorted(size for size, at in spots.items() if len(at) > 1)
    sizes = sizes[1:] if len(sizes) > 1 else sizes
    if len(sizes) > SIZES:
        sizes = [sizes[round(i * (len(sizes) - 1) / (SIZES - 1))] for i in range(SIZES)]
    return {size: spots[size] for size in sizes}


def _panel(axes: Axes, spots: Sequence[Spot]) -> None:
    for sampler, vendi, score in spots:
        colour, _, marker = look(sampler)
        axes.plot(vendi, score, marker=marker, color=colour, markersize=5, linestyle="none", alpha=0.9)
    axes.margins(0.12)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x")
