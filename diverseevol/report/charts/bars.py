"""Win, tie and lose as bars: neutral shades, since colours belong to samplers."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from diverseevol.evaluation.scores.pairing import FINAL as FINAL_ROUND
from diverseevol.evaluation.scores.pairing import ends, in_words, shared, spread
from diverseevol.report.charts.lines import FULL, Line, look, sources
from diverseevol.report.charts.style import GRID, INK, MUTED, PAPER, write_note
from diverseevol.report.charts.titles import benchmark_order
from diverseevol.report.frame import Frame

OUTCOMES = (("win", INK, PAPER), ("tie", MUTED, PAPER), ("lose", GRID, INK))  # shade, and the number's colour on it
READABLE = 7  # per cent: a narrower part holds no number


def _plainly(source: str, judge: str, benchmark: str) -> str:
    return f"{source}\n{benchmark}, judge {judge}"


def draw_win_tie_lose(
    frame: Frame,
    names: Mapping[Line, str],
    title: Callable[[str, str, str], str] = _plainly,
    against: str = "",
) -> Figure | None:
    """A panel a source, judge and benchmark, a bar a line at the largest pool size that all lines of a seed have.

    Where that is not each line's end, or they have none in common, the panel's title says so.

    Args:
        frame: all numbers.
        names: of lines, whose sources are drawn in this order.
        title: of the panel of a source, judge and benchmark.
        against: added to what the axis shows.

    Returns:
        None where nothing was judged.
    """
    outcomes = frame[frame["name"].isin([name for name, *_ in OUTCOMES])]
    order = sources(names)
    found = {*zip(outcomes.source, outcomes.judge, outcomes.part, strict=True)}
    panels = sorted(found, key=lambda panel: (order.index(panel[0]), panel[1], benchmark_order(panel[2])))
    if not panels:
        return None
    drawn = [_shares(outcomes, *panel) for panel in panels]
    shares = [found for found, _ in drawn]
    columns = min(3, len(panels))
    deep = -(-len(panels) // columns)
    tall = max(len(found) for found in shares)
    size = (1.0 + (3.3 if columns < 3 else 2.6) * columns, deep * (0.75 + 0.26 * max(tall, 2)) + 0.6)
    figure = Figure(figsize=size, dpi=200, layout="constrained")
    grid = figure.subplots(deep, columns, squeeze=False).ravel()
    for axes, panel, (bars, sizes) in zip(grid, panels, drawn, strict=False):
        _panel(axes, bars, names, tall)
        axes.set_title("\n".join(filter(None, [title(*panel), sizes])))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[: len(panels)][-columns:]:
        axes.set_xlabel(f"questions (%){against}")
    _legend(figure)
    several = any(seeds > 1 for found in shares for _, seeds in found)
    aside = any(sizes for _, sizes in drawn)
    write_note(figure, f"{'' if aside else 'final round of each line, '}{'mean over seeds' if several else 'one seed'}")
    return figure


class _Model(NamedTuple):
    round: int
    pool_size: int | None


def _shares(
    outcomes: Frame, source: str, judge: str, benchmark: str
) -> tuple[dict[tuple[Line, int], list[float]], str]:
    """Per cent of win, tie and lose by line and its number of seeds, and what the title says of the pools' sizes."""
    here = outcomes[(outcomes.source == source) & (outcomes.judge == judge) & (outcomes.part == benchmark)]
    rounds, sizes = _compared(here)
    models = zip(here.line, here.seed, here["round"], strict=True)
    here = here[[rounds[line].get(seed) == t for line, seed, t in models]]
    shares: dict[tuple[Line, int], list[float]] = {}
    for line in sorted(set(here.line), key=lambda line: (line.kind == FULL, line)):
        own = here[here.line == line]
        means = own.groupby("name").value.mean()[[name for name, *_ in OUTCOMES]]
        shares[line, len(set(own.seed))] = (100 * means / means.sum()).tolist()
    return shares, sizes


def _compared(outcomes: Frame) -> tuple[dict[Line, dict[int | None, int]], str]:
    """The round of each line and seed that is drawn, and what the title says of the sizes of their pools."""
    arms: dict[Line, dict[int | None, dict[int, _Model]]] = {}
    for each in outcomes.itertuples():
        model = _Model(each.round, None if np.isnan(each.rows) else int(each.rows))
        arms.setdefault(each.line, {}).setdefault(each.seed, {})[each.round] = model
    level = shared({line.schedule: arm for line, arm in arms.items() if line.kind != FULL})
    models = {}
    for line, arm in arms.items():
        at_level = {} if line.kind == FULL else ends(line.schedule, arm, level)
        models[line] = at_level or ends(line.schedule, arm, FINAL_ROUND)
    rounds = {line: {seed: model.round for seed, model in own.items()} for line, own in models.items()}
    drawn = [model for line, own in models.items() if line.kind != FULL for model in own.values()]
    if apart := spread([model.pool_size for model in drawn], [0]):
        return rounds, f"final rounds: {apart}"
    further = any(t > rounds[line][seed] for line, arm in arms.items() for seed in rounds[line] for t in arm[seed])
    return rounds, f"at {in_words(level)}" if further else ""


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
