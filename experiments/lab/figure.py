"""How far the study's arms are from random at the end, and K-Center by condition and value: intervals over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from diverseevol.evaluation.scores.comparison import MINIMUM_SEEDS, t_test
from diverseevol.output.pictures import rendered
from diverseevol.report.charts.lines import FULL, ONE_TIME, Line, labels, line_of, look
from diverseevol.report.charts.style import GRID, INK, MUTED, PAPER, STYLE, write_note
from diverseevol.storage.files import atomic_write

# Of each figure its unit, and the metrics in it by what they are called.
FIGURES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "ablations": (
        "relative score, points",
        {"relative_score/lab": "lab: all skills alike", "relative_score/lab_natural": "lab_natural: as in the rows"},
    ),
    "ablations-shares": ("share of the pool", {"noisy_share": "spoiled rows", "duplicate_share": "near-duplicates"}),
    "ablations-skills": ("skills covered", {"skills_covered": "skills covered"}),
}
LOOKS = (("#0072B2", "o", "#0072B2"), (INK, "D", PAPER))  # of a figure's metrics: colour, marker and what fills it
WIDTH, COLUMNS = 7.2, 3  # inches of a page
LINE = 0.15  # inches of one metric of one value
APART = 0.2  # of a value's height between its metrics' lines and the next value's
Lines = Sequence[Mapping[str, Any]]


def draw_all(lines: Lines, folder: Path, base: Mapping[str, str]) -> None:
    """Every figure that there are numbers for, as PNG; `base` has the sweep's value of each condition."""
    for name, (unit, metrics) in FIGURES.items():
        figure = draw(lines, unit, metrics, base)
        if figure is not None:
            with matplotlib.rc_context(STYLE), atomic_write(folder / f"{name}.png", "wb") as out:
                out.write(rendered(figure, "png", facecolor="white"))


def draw(lines: Lines, unit: str, metrics: Mapping[str, str], base: Mapping[str, str]) -> Figure | None:
    """A panel a condition, a line a value and metric; None where no seed has both samplers."""
    conditions = dict.fromkeys(line["condition"] for line in lines)
    shown = {condition: values for condition in conditions if (values := _values(lines, condition, metrics))}
    if not shown:
        return None
    shown = dict(sorted(shown.items(), key=lambda of: -len(of[1])))  # so that rows of panels are filled
    columns = min(COLUMNS, len(shown))
    rows = [list(shown)[i : i + columns] for i in range(0, len(shown), columns)]
    tall = [max(len(shown[condition]) for condition in row) for row in rows]
    step = LINE * len(metrics) + APART * LINE
    with matplotlib.rc_context(STYLE):
        size = (WIDTH * columns / COLUMNS, step * sum(tall) + 0.42 * len(rows) + 0.7)
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        grid = figure.subplots(
            len(rows), columns, sharex=True, squeeze=False, gridspec_kw={"height_ratios": [n + 0.2 for n in tall]}
        )
        for axes_row, n, row in zip(grid, tall, rows, strict=True):
            for axes, condition in zip(axes_row, row, strict=False):
                _panel(axes, shown[condition], base.get(condition), n)
                axes.set_title(condition)
        spare = list(grid.ravel()[len(shown) :])
        for axes in spare:
            axes.axis("off")
        for axes in grid.ravel()[: len(shown)][-columns:]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("K-Center − random")
        _legend(spare[0] if spare else figure, unit, list(metrics.values()))
        write_note(figure, _note(shown))
    return figure


def _values(lines: Lines, condition: str, metrics: Mapping[str, str]) -> dict[str, list[np.ndarray]]:
    """Each value's differences by metric, where there are any."""
    selected = [line for line in lines if line["condition"] == condition]
    values: dict[str, list[np.ndarray]] = {}
    for value in dict.fromkeys(line["value"] for line in selected):
        own = [line for line in selected if line["value"] == value]
        by_metric = [differences(own, metric) for metric in metrics]
        if any(map(len, by_metric)):
            values[value] = by_metric
    return values


def _panel(axes: Axes, values: Mapping[str, Sequence[np.ndarray]], base: str | None, tall: int) -> None:
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    for y, (value, by_metric) in enumerate(values.items()):
        if value == base:
            axes.axhspan(y - 0.5, y + 0.5, color=GRID, alpha=0.6, linewidth=0, zorder=0)
        for i, (d, (colour, marker, fill)) in enumerate(zip(by_metric, LOOKS, strict=False)):
            at = y + (1 - APART) * ((i + 0.5) / len(by_metric) - 0.5)
            if (test := t_test(d)) is not None:
                axes.plot(test[:2], [at, at], color=colour, linewidth=1.3, solid_capstyle="butt", zorder=2)
            axes.plot(d, [at] * len(d), "|", color=colour, alpha=0.7, markersize=5, markeredgewidth=0.8, zorder=2)
            if len(d):
                axes.plot(d.mean(), at, marker, color=colour, markerfacecolor=fill, markersize=4.2, zorder=3)
    axes.set_yticks(range(len(values)), list(values))
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == base else "normal")
    axes.set_ylim(tall - 0.5, -0.5)  # values as tall in every panel of a row
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)


def _legend(parent: Axes | Figure, unit: str, names: Sequence[str]) -> None:
    handles: list[Any] = [
        Line2D([], [], color=colour, marker=marker, markerfacecolor=fill, markersize=4.2, linewidth=1.3, label=name)
        for name, (colour, marker, fill) in zip(names, LOOKS, strict=False)
    ]
    handles.append(Patch(facecolor=GRID, alpha=0.6, label="the sweep's value"))
    inside = isinstance(parent, Axes)
    where = "upper left" if inside else "outside upper left"
    legend = parent.legend(handles=handles, loc=where, ncols=1 if inside else 3, fontsize=8, title=unit)
    legend.set_alignment("left")


def _note(shown: Mapping[str, Mapping[str, Sequence[np.ndarray]]]) -> str:
    """How to read it, and how many seeds there are."""
    seeds = sorted({len(d) for values in shown.values() for of_value in values.values() for d in of_value} - {0})
    number = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seed{'s' * (seeds[0] > 1)}"
    few = f" (none of fewer than {MINIMUM_SEEDS})" if seeds[0] < MINIMUM_SEEDS else ""
    return f"last round; ticks: {number}, marks: their mean, bars: its 95 % t-interval{few}, of each comparison alone"


def differences(lines: Lines, metric: str, arm: str = "kcenter", baseline: str = "random") -> np.ndarray:
    """One sampler less the other in the last round of each seed that has both."""
    last: dict[tuple[str, int], tuple[int, float]] = {}
    for line in lines:
        key = line["sampler"], line["seed"]
        if metric in line and (key not in last or line["round"] > last[key][0]):
            last[key] = line["round"], line[metric]
    seeds = sorted({seed for _, seed in last if {(arm, seed), (baseline, seed)} <= last.keys()})
    return np.array([last[arm, seed][1] - last[baseline, seed][1] for seed in seeds], dtype=np.float64)


# --- every arm of the sweep ---

# What each panel is called, by metric, and what its numbers are multiplied by; two wide ones above four narrow ones.
WIDE = {
    "relative_score/lab": ("relative score, lab: all skills alike", 1),
    "relative_score/lab_natural": ("relative score, lab_natural: as in the rows", 1),
}
NARROW = {
    "skills_covered": ("skills covered", 1),
    "vendi_score_centred": ("Vendi, centred", 1),
    "noisy_share": ("spoiled rows, %", 100),
    "duplicate_share": ("near-duplicates, %", 100),
}
ARM = 0.185  # inches of an arm


def draw_differences(lines: Lines, baseline: str, folder: Path) -> None:
    """Write differences.png: every arm less random within seeds, the best on `lab` first; nothing without a pair."""
    figure = arms_figure(lines, baseline)
    if figure is not None:
        with matplotlib.rc_context(STYLE), atomic_write(folder / "differences.png", "wb") as out:
            out.write(rendered(figure, "png", facecolor="white"))


def arms_figure(lines: Lines, baseline: str) -> Figure | None:
    """A line an arm, a panel a metric; None where no seed has an arm and the baseline."""
    known = {line["sampler"]: line_of(line["group"], line["sampler"]) for line in lines}
    arms = {
        arm: {metric: differences(lines, metric, arm, baseline) for metric in (*WIDE, *NARROW)}
        for arm in known.keys() - {baseline}
    }
    arms = {arm: of_arm for arm, of_arm in arms.items() if any(map(len, of_arm.values()))}
    rows = [[m for m in row if any(len(of_arm[m]) for of_arm in arms.values())] for row in (WIDE, NARROW)]
    rows = [row for row in rows if row]
    if not rows:
        return None
    order = sorted(arms, key=lambda arm: (-_mean(arms[arm][rows[0][0]]), arm))
    names = labels(known.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, (ARM * (len(order) + 1) + 0.55) * len(rows) + 0.25), dpi=300)
        figure.set_layout_engine("constrained")
        for part, row in zip(np.ravel(figure.subfigures(len(rows), 1)), rows, strict=True):
            for axes, metric in zip(part.subplots(1, len(row), sharey=True, squeeze=False)[0], row, strict=True):
                title, times = (WIDE | NARROW)[metric]
                for y, arm in enumerate(order):
                    _arm(axes, y, times * arms[arm][metric], known[arm])
                _dress(axes, len(order), 8 // len(row) + 2)
                axes.set_title(title)
                axes.set_xlabel(f"minus random ({times * _mean(_finals(lines, metric, baseline)):.1f})")
            first = part.axes[0]
            seeds = [max(map(len, arms[arm].values())) for arm in order]
            tick_labels = [f"{names[known[arm]]} ({n})" for arm, n in zip(order, seeds, strict=True)]
            first.set_yticks(range(len(order)), tick_labels)
            for label, arm in zip(first.get_yticklabels(), order, strict=True):
                label.set_color(INK if known[arm].kind == FULL else look(known[arm].sampler)[0])
        part.supxlabel(
            "last round, within seeds; small dots: seeds (how many: in brackets), marks: their mean, bars: its 95 % "
            "t-interval, of each comparison alone", x=0.008, ha="left", fontsize=7, color=MUTED,
        )  # fmt: skip
    return figure


def _finals(lines: Lines, metric: str, arm: str) -> np.ndarray:
    """What an arm came to in the last round of each seed."""
    own = {line["seed"]: line for line in sorted(lines, key=lambda line: line["round"]) if line["sampler"] == arm}
    return np.array([line[metric] for line in own.values() if metric in line], dtype=np.float64)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else -np.inf


def _arm(axes: Axes, y: int, d: np.ndarray, line: Line) -> None:
    full = line.kind == FULL
    colour, _, marker = (INK, INK, "D") if full else look(line.sampler)
    axes.plot(d, [y + 0.24] * len(d), "o", color=colour, alpha=0.55, markersize=2.7, markeredgewidth=0, zorder=2)
    if (test := t_test(d)) is not None:
        axes.plot(test[:2], [y - 0.1] * 2, color=colour, linewidth=1.7, solid_capstyle="butt", zorder=2)
    if len(d):
        fill = PAPER if line.kind == ONE_TIME else colour
        axes.plot(d.mean(), y - 0.1, marker, color=colour, markerfacecolor=fill, markersize=4.6, zorder=3)


def _dress(axes: Axes, arms: int, nbins: int) -> None:
    axes.axvline(0, color=look("random")[0], linewidth=1.1, zorder=1)
    for y in range(0, arms, 2):
        axes.axhspan(y - 0.5, y + 0.5, color=GRID, alpha=0.4, linewidth=0, zorder=0)
    axes.set_ylim(arms - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=nbins)
