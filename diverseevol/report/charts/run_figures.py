"""Figures from run folders: nothing but what is on disk, no model and no data set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from diverseevol.data.held_out import interval_of
from diverseevol.evaluation.judges.base import GoldJudge
from diverseevol.output.pictures import rendered
from diverseevol.report.charts.line_ends import name_ends
from diverseevol.storage.files import atomic_write, read_json

# Okabe & Ito's palette, told apart with any colour vision; a benchmark or sampler keeps its place in it.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Any = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "svg.fonttype": "none",
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One round on the curves: its pool size, its metrics, and its scores by benchmark."""

    rows: int
    metrics: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Any]]


def read_points(folder: Path) -> list[Point]:
    """The rounds of a run folder that are whole, by pool size."""
    points = []
    for file in sorted((folder / "rounds").glob("*/round.json")):
        metrics = read_json(file)["metrics"]
        scores = file.with_name("scores.json")
        points.append(Point(int(metrics["pool_size"]), metrics, read_json(scores) if scores.exists() else {}))
    return sorted(points, key=lambda point: point.rows)


def draw_curves(folder: Path, level: Point | None = None) -> list[Path]:
    """Draw the relative score, the Vendi-Score and losses against training rows, for one run.

    The first two are the paper's figures 2 and 3.

    Args:
        folder: the run folder.
        level: what all rows reach, drawn as a dashed line; None where that is not known.

    Returns:
        The PNG files written; the score's is missing where nothing was judged, the losses' where only the training's
        was measured.
    """
    points = read_points(folder)
    written = []
    with matplotlib.rc_context(STYLE):
        if any(point.scores for point in points):
            written.append(_save(_relative_score(points, level), folder / "relative_score.png"))
        written.append(_save(_vendi(points), folder / "vendi_score.png"))
        if measured := loss_names(name for point in points for name in point.metrics):
            written.append(_save(_losses(points, measured), folder / "losses.png"))
    return written


def _relative_score(points: list[Point], level: Point | None) -> Figure:
    judges = {str(score["judge"]) for point in points for score in point.scores.values()}
    figure, axes = _figure(score_label(judges))
    names = sorted({name for point in points for name in point.scores})
    for name, colour in zip(names, _colours(), strict=False):
        judged = [point for point in points if name in point.scores]
        rows = [point.rows for point in judged]
        axes.fill_between(
            rows, [p.scores[name]["ci_low"] for p in judged], [p.scores[name]["ci_high"] for p in judged],
            color=colour, alpha=0.15, linewidth=0,
        )  # fmt: skip
        _line(axes, rows, [p.scores[name]["relative_score"] for p in judged], name, colour)
        if level and name in level.scores:
            reached = level.scores[name]["relative_score"]
            axes.axhline(reached, color=colour, linewidth=1, linestyle="--")
            axes.annotate(f"all {level.rows:,} rows", (rows[0], reached), xytext=(0, 3), textcoords="offset points",
                color=colour, fontsize=8)  # fmt: skip
    labels = {str(p.scores[n]["label"]) for p in points for n in p.scores if p.scores[n].get("label")}
    title = f"Relative score, judge: {', '.join(sorted(judges))}; band: 95 % over questions"
    axes.set_title("\n".join([title, *sorted(labels)]), loc="left", fontsize=9)
    return figure


def score_label(judges: Iterable[str]) -> str:
    """The y axis of relative scores by these judges, with what 100 means where it means one thing."""
    gold = set(map(_is_gold, judges))
    meanings = ["(all right = 100, floor = 10)" if each else "(competitor = 100)" for each in gold]
    return "\n".join(["relative score", *meanings[: len(meanings) == 1]])


def questions_of(benchmark: str, judge: str) -> str:
    """What a panel of relative scores shows: its questions, and the judge unless that one knows the right answers."""
    return benchmark if _is_gold(judge) else f"{benchmark}, judge {judge}"


def _is_gold(judge: str) -> bool:
    return judge.partition(" ")[0] == GoldJudge.name  # also with the prompt's version behind it


def _vendi(points: list[Point]) -> Figure:
    # Two panels: the paper's score of hidden states lies near 1 and would be a flat line beside the centred one.
    figure = Figure(figsize=(7.2, 3.0), dpi=200, layout="constrained")
    rows = [point.rows for point in points]
    kinds = (("vendi_score", "as in the paper"), ("vendi_score_centred", "centred by the mean over all rows"))
    for axes, (key, name), colour in zip(figure.subplots(1, 2), kinds, _colours(), strict=False):
        axes.plot(rows, [point.metrics[key] for point in points], color=colour, marker="o", markersize=3.5)
        axes.set_title(name, loc="left", fontsize=9)
        axes.ticklabel_format(useOffset=False)
        _count_rows(axes)
    figure.axes[0].set_ylabel("Vendi-Score of the pool\n(effective rows, foundation embedding)")
    return figure


LOSS = "nats per response token"
WARNING_LIGHT = "held-out and references: lower is better; a warning light, not a judge"


def loss_names(metrics: Iterable[str]) -> list[str]:
    """The losses among some metrics' names that were measured on rows that no pool holds."""
    return sorted(name for name in {*metrics} if name.partition("/")[0] in ("held_out_loss", "reference_loss"))


def _losses(points: list[Point], measured: Sequence[str]) -> Figure:
    figure, axes = _figure(LOSS)
    ends: list[tuple[float, str, str]] = []
    for name, colour in zip(("train_loss", *measured), cycle(_colours()), strict=False):
        there = [point for point in points if name in point.metrics]
        if not there:
            continue
        rows, heights = [p.rows for p in there], [p.metrics[name] for p in there]
        low, high = interval_of(name)
        if all(low in p.metrics and high in p.metrics for p in there):
            axes.fill_between(
                rows, [p.metrics[low] for p in there], [p.metrics[high] for p in there],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
        axes.plot(rows, heights, color=colour, marker="o", markersize=3.5, linewidth=1.5)
        kind, _, benchmark = name.partition("/")
        known = {"train_loss": "training", "held_out_loss": "held-out rows"}
        ends.append((heights[-1], known.get(kind, f"references of {benchmark}"), colour))
    name_ends(axes, ends)
    axes.set_title(
        f"Loss of each round's model; band: 95 % over rows or questions\n{WARNING_LIGHT}", loc="left", fontsize=9
    )
    return figure


def _figure(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.2), dpi=200, layout="constrained")
    axes = figure.subplots()
    _count_rows(axes)
    axes.set_ylabel(label)
    return figure, axes


def _count_rows(axes: Axes) -> None:
    axes.set_xlabel("training rows")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def _line(axes: Axes, x: list[int], y: list[float], name: str, colour: str) -> None:
    axes.plot(x, y, color=colour, marker="o", markersize=3.5, linewidth=1.5)
    # Named at the end of the line, where the eye is: no legend to look up.
    axes.annotate(
        name,
        (x[-1], y[-1]),
        xytext=(6, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        annotation_clip=False,
    )


def _colours() -> Iterable[str]:
    return COLOURS


def _save(figure: Figure, path: Path) -> Path:
    with atomic_write(path, "wb") as file:
        file.write(rendered(figure, "png"))
    return path
