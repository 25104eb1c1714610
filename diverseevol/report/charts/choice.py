"""The figures of one choice of rows: where the picks lie among all rows, and how long they are."""

from collections.abc import Mapping

import matplotlib
import matplotlib.ticker
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from diverseevol.report.charts.lines import LOOKS
from diverseevol.report.charts.maps import draw_panel, round_scale
from diverseevol.report.charts.style import GRID, INK, MUTED, STYLE, facets, write_legend, write_title

ALL, CHOSEN = "all rows", "chosen"
BINS = 40


def draw_choice(
    xy: Float[np.ndarray, "rows 2"], chosen: Int[np.ndarray, " n"], taken: Int[np.ndarray, " taken"]
) -> Figure:
    """All rows on a plane; colour is the order of picking.

    Args:
        xy: a point a row.
        chosen: the picks, in pick order.
        taken: rows that were in the pool before.
    """
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = facets(1, 1, 6.6, 4.8, "compressed")
        scale = round_scale(256)
        norm = matplotlib.colors.Normalize(1, max(len(chosen), 2))
        draw_panel(axes, xy, {row: rank for rank, row in enumerate(chosen.tolist(), start=1)}, scale, norm)
        if len(taken):
            axes.scatter(xy[taken, 0], xy[taken, 1], s=6, c=INK, linewidths=0, rasterized=True, label="taken before")
            write_legend(figure, {"taken before": axes.collections[-1]})
        bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, scale), ax=axes, shrink=0.7, pad=0.02)
        bar.set_label("order of picking")
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def draw_lengths(
    lengths: Mapping[str, Int[np.ndarray, " rows"]], chosen: Int[np.ndarray, " n"], sampler: str
) -> Figure:
    """How long rows are: shares of all rows and of those chosen, a panel for each part of a row.

    Args:
        lengths: of each part of every row, in characters.
        chosen: the picks.
        sampler: whose colour the picks have.
    """
    colour = LOOKS[sampler][1] if sampler in LOOKS else MUTED
    with matplotlib.rc_context(STYLE):
        figure, grid = facets(len(lengths), len(lengths), 3.5, 2.3)
        for axes, (part, characters) in zip(grid, lengths.items(), strict=True):
            edges = np.geomspace(1, max(int(characters.max(initial=1)), 10) + 1, BINS)
            for rows, options in (
                (characters, {"color": GRID, "histtype": "stepfilled", "label": ALL}),
                (characters[chosen], {"color": colour, "histtype": "step", "linewidth": 1.4, "label": CHOSEN}),
            ):
                share = np.full(len(rows), 100 / max(len(rows), 1))
                axes.hist(np.maximum(rows, 1), bins=list(edges), weights=share, **options)  # type: ignore[arg-type]
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            axes.set_xlabel("characters")
            axes.set_ylabel("rows, %")
            write_title(axes, part)
        handles, labels = grid[0].get_legend_handles_labels()
        write_legend(figure, dict(zip(labels, handles, strict=True)))
    return figure
