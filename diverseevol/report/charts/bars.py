"""Win, tie and lose as bars: neutral shades, since colours belong to samplers."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from diverseevol.evaluation.scores.frame import Frame
from diverseevol.evaluation.scores.pairing import FINAL, ends, in_words, shared, spread
from diverseevol.report.charts.lines import FULL, Line, look, sources
from diverseevol.report.charts.style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    facets,
    panels_across,
    write_legend,
    write_note,
    write_title,
)
from diverseevol.report.charts.titles import benchmark_order, questions_of

OUTCOMES = {"win": (INK, PAPER), "tie": (MUTED, PAPER), "lose": (GRID, INK)}  # shade, and the number's colour on it
WIDTHS = {1: 5.4, 2: 3.7, 3: 3.0}  # inches of a panel, by how many stand side by side
READABLE = 7  # per cent: a narrower part holds no number


def draw_win_tie_lose(
    frame: Frame,
    names: Mapping[Line, str],
    title: Callable[[str, str, str], str] | None = None,
    opponent: str = "",
) -> Figure | None:
    """A panel a source, judge and benchmark, a bar a line at the largest pool size that all lines of a seed have.

    Where that is not each line's end, or they have none in common, the panel's title says so.

    Args:
        frame: all numbers.
        names: of lines, whose sources are drawn in this order.
        title: of the panel of a source, judge and benchmark; by default as other figures have it.
        opponent: added to what the axis shows.

    Returns:
        None where nothing was judged.
    """
    outcomes = frame[frame["name"].isin(OUTCOMES)]
    parts = dict(iter(outcomes.groupby(["source", "judge", "part"])))
    if not parts:
        return None
    order = sources(names)
    panels = sorted(parts, key=lambda panel: (order.index(panel[0]), panel[1], benchmark_order(panel[2])))
    several = len({source for source, _, _ in panels}) > 1
    drawn = [_shares(parts[panel]) for panel in panels]
    tall = max(len(shares) for shares, _ in drawn)
    columns = panels_across([source for source, _, _ in panels])
    figure, grid = facets(len(panels), columns, WIDTHS[columns], 0.75 + 0.26 * max(tall, 2))
    for axes, (source, judge, benchmark), (shares, sizes) in zip(grid, panels, drawn, strict=True):
        _panel(axes, shares, names, tall)
        usual = [source if several else "", questions_of(benchmark, judge)]
        write_title(axes, *(title(source, judge, benchmark).splitlines() if title else usual), sizes)
    for axes in grid[-columns:]:
        axes.set_xlabel(f"questions (%){opponent}")
    write_legend(figure, {name: Patch(facecolor=shade) for name, (shade, _) in OUTCOMES.items()}, handle=1.2)
    several_seeds = any(part.groupby("line").seed.nunique(dropna=False).max() > 1 for part in parts.values())
    final = "" if any(sizes for _, sizes in drawn) else "final round of each arm, "
    write_note(figure, f"{final}{'mean over seeds' if several_seeds else 'one seed'}")
    return figure


class _Model(NamedTuple):
    round: int
    rows: int | None


def _shares(part: Frame) -> tuple[dict[Line, list[float]], str]:
    """Per cent of win, tie and lose by line, all rows last, and what the title says of the pools' sizes."""
    arms: dict[Line, dict[int | None, dict[int, _Model]]] = {}
    for line, seed, t, rows in zip(part.line, part.seed, part["round"], part.rows, strict=True):
        model = _Model(t, None if np.isnan(rows) else int(rows))
        arms.setdefault(line, {}).setdefault(seed, {})[t] = model
    growing = [line for line in arms if line.kind != FULL]
    level = shared({line.schedule: arms[line] for line in growing})
    compared: dict[Line, Mapping[int | None, _Model]] = {}
    shares: dict[Line, list[float]] = {}
    for line in sorted(arms, key=lambda line: (line.kind == FULL, line)):
        at_level = {} if line.kind == FULL else ends(line.schedule, arms[line], level)
        compared[line] = at_level or ends(line.schedule, arms[line], FINAL)
        own = part[part.line == line]
        own = own[[seed in compared[line] and compared[line][seed].round == t
                   for seed, t in zip(own.seed, own["round"], strict=True)]]  # fmt: skip
        means = own.groupby("name").value.mean()[[*OUTCOMES]]
        shares[line] = (100 * means / means.sum()).tolist()
    if sizes := spread([model.rows for line in growing for model in compared[line].values()], [0]):
        return shares, f"final rounds: {sizes}"
    stopped_short = any(max(arms[line][seed]) > model.round for line in arms for seed, model in compared[line].items())
    return shares, f"at {in_words(level)}" if stopped_short else ""


def _panel(axes: Axes, shares: Mapping[Line, Sequence[float]], names: Mapping[Line, str], tall: int) -> None:
    for y, values in enumerate(shares.values()):
        left = 0.0
        for (shade, ink), value in zip(OUTCOMES.values(), values, strict=True):
            axes.barh(y, value, left=left, height=0.72, color=shade, linewidth=0)
            if value >= READABLE:
                axes.text(
                    left + value / 2, y, f"{value:.0f}", ha="center", va="center_baseline", color=ink, fontsize=7.5
                )
            left += value
    axes.set_yticks(range(len(shares)), [names[line] for line in shares])
    for label, line in zip(axes.get_yticklabels(), shares, strict=True):
        label.set_color(INK if line.kind == FULL else look(line.sampler)[0])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    axes.set_ylim(tall - 0.4, -0.6)  # bars as thick in every panel
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
