"""From rounds to tidy rows: a mean with its interval for every metric, line and number of training rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from diverseevol.evaluation.scores.comparison import t_test
from diverseevol.evaluation.scores.frame import Frame
from diverseevol.evolution.metrics import KNOWN
from diverseevol.output.sheets import write_csv
from diverseevol.report.charts.curves import Curve, Panel, draw_panels
from diverseevol.report.charts.lines import FULL, Line, dashes, labels, sources
from diverseevol.report.charts.titles import metric_order
from diverseevol.report.collect import Collection
from diverseevol.runs.metrics import MetricKey, describe

Record = dict[str, Any]
SEEDS, QUESTIONS = "seeds", "questions"
NOTES = {
    SEEDS: "band: 95 % t-interval over seeds",
    QUESTIONS: "band: 95 % over questions; one seed, so it says nothing about another",
    "": "no band: fewer than three seeds",
}


# Questions whose name alone does not say what they are, and what stands for 100 where it is not a competitor.
EXPLAINED = {"lab": "lab: all skills alike", "lab_natural": "lab_natural: as in the rows"}
HUNDRED = {"gold": "right answers"}


@dataclass(frozen=True)
class Estimate:
    """One metric of one line at one number of rows.

    Attributes:
        rows: None for a released model that was trained on all rows.
        low, high: 95 %; None where there is no interval.
        over: what was drawn anew for it: `SEEDS` (t-interval), `QUESTIONS` (bootstrap, one seed), or nothing.
    """

    line: Line
    metric: str
    judge: str
    round: int
    rows: int | None
    seeds: int
    value: float
    low: float | None
    high: float | None
    over: str


def estimates(collection: Collection, *names: str) -> list[Estimate]:
    """Every metric of these names, `relative_score` standing for its benchmarks, in the order of lines and rows."""
    frame = collection.frame
    of_names = frame[frame["name"].isin(names)]
    groups = of_names.groupby(["line", "metric", "judge", "round", "rows"], sort=False, dropna=False).value
    questions = {
        (each.line, each.metric, each.judge, each.round): each.scores
        for each in collection.board.frame.itertuples()
        if each.scores.questions > 1
    }
    points = []
    for (line, metric, judge, t, size), of_seeds in groups:
        rows, values = None if np.isnan(size) else int(size), of_seeds.tolist()
        low, high, over = None, None, ""
        if (test := t_test(np.array(values, dtype=np.float64))) is not None:
            low, high, over = test[0], test[1], SEEDS
        elif len(values) == 1 and (scores := questions.get((line, metric, judge, t))):
            low, high, over = scores.ci_low, scores.ci_high, QUESTIONS
        points.append(Estimate(line, metric, judge, t, rows, len(values), float(np.mean(values)), low, high, over))
    order = sources(estimate.line for estimate in points)
    points.sort(
        key=lambda e: (
            order.index(e.line.source),
            metric_order(e.metric),
            e.judge,
            e.line.kind == FULL,
            e.line,
            e.round,
        )
    )
    return points


def final(points: Sequence[Estimate]) -> list[Estimate]:
    """Those at the last round of their line."""
    last: dict[Line, int] = {}
    for estimate in points:
        last[estimate.line] = max(estimate.round, last.get(estimate.line, 0))
    return [estimate for estimate in points if estimate.round == last[estimate.line]]


def record(estimate: Estimate) -> Record:
    """A tidy row."""
    name, benchmark = MetricKey.parse(estimate.metric)
    return {
        "data": estimate.line.source, "metric": name, "benchmark": benchmark, "judge": estimate.judge,
        "sampler": estimate.line.sampler, "schedule": estimate.line.kind, "choices": estimate.line.choices,
        "round": estimate.round,
        "rows": "all" if estimate.rows is None else estimate.rows, "seeds": estimate.seeds,
        "value": estimate.value, "low": estimate.low, "high": estimate.high, "interval_over": estimate.over,
    }  # fmt: skip


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write a CSV; what is not known is left empty."""
    lines = ([f"{v:.6g}" if isinstance(v, float) else v for v in record.values()] for record in records)
    write_csv(path, list(records[0]), lines)


def curves_figure(points: Sequence[Estimate]) -> Figure | None:
    """Every metric against training rows; None where there is nothing to draw."""
    drawn, note = panels(points)
    return draw_panels(drawn, note) if drawn else None


def panels(points: Sequence[Estimate]) -> tuple[list[Panel], str]:
    """A panel a source, metric and judge, and the note that says what the bands are."""
    lines = {estimate.line for estimate in points}
    names, patterns = named(points), dashes(lines)
    result = []
    for source in sources(lines):
        of_source = [estimate for estimate in points if estimate.line.source == source]
        for metric, judge in dict.fromkeys((estimate.metric, estimate.judge) for estimate in of_source):
            own = [estimate for estimate in of_source if (estimate.metric, estimate.judge) == (metric, judge)]
            drawn = [replace(c, label=names[c.line], dashes=patterns[c.line]) for c in curves(own)]
            levels = {names[estimate.line]: estimate.value for estimate in own if estimate.line.kind == FULL}
            result.append(Panel(source, title(source, metric, judge), unit(metric, judge), drawn, levels))
    kinds = dict.fromkeys(estimate.over for estimate in points if estimate.line.kind != FULL)
    seeds = {estimate.seeds for estimate in points}
    number = [f"{min(seeds)} seeds"] if len(seeds) == 1 and min(seeds) > 1 else []
    return result, "; ".join([*(NOTES[kind] for kind in kinds if kind or len(kinds) == 1), *number])


def named(points: Iterable[Estimate]) -> dict[Line, str]:
    """What lines are called, with their number of seeds where those of a source differ in it."""
    seeds: dict[Line, int] = {}
    for estimate in points:
        seeds[estimate.line] = max(estimate.seeds, seeds.get(estimate.line, 0))
    several = {o.source for o in seeds for line in seeds if o.source == line.source and seeds[o] != seeds[line]}
    return {
        line: f"{name}, {seeds[line]} seed{'' if seeds[line] == 1 else 's'}" if line.source in several else name
        for line, name in labels(seeds).items()
    }


def title(source: str, metric: str, judge: str) -> str:
    """The data set, unless the questions are named after it; below it the questions with their judge, or the metric."""
    name, benchmark = MetricKey.parse(metric)
    title, data = EXPLAINED.get(benchmark, benchmark) or describe(name, KNOWN).title, data_of(source)
    judged = f", judge {judge}" if judge and judge not in HUNDRED else ""
    return f"{title}{judged}" if title.startswith(data) else f"{data}\n{title}{judged}"


def unit(metric: str, judge: str) -> str:
    """What an axis shows, and below it in what."""
    name, benchmark = MetricKey.parse(metric)
    unit = f"relative score ({HUNDRED.get(judge, 'competitor')} = 100)" if benchmark else describe(name, KNOWN).unit
    return unit.replace(" (", "\n(")


def curves(points: Iterable[Estimate]) -> list[Curve]:
    """A curve a line that was not trained on all rows; its band is the interval."""
    by_line: dict[Line, list[Estimate]] = {}
    for estimate in points:
        if estimate.line.kind != FULL and estimate.rows is not None:
            by_line.setdefault(estimate.line, []).append(estimate)
    return [
        Curve(
            line,
            tuple(estimate.rows or 0 for estimate in own),
            tuple(estimate.value for estimate in own),
            tuple(estimate.value if estimate.low is None else estimate.low for estimate in own),
            tuple(estimate.value if estimate.high is None else estimate.high for estimate in own),
            tuple(estimate.seeds for estimate in own),
        )
        for line, own in by_line.items()
    ]


def restrict(collection: Collection, keep: Callable[[Line], bool]) -> Collection:
    """The part of a collection that some lines make up."""
    return _part(collection, lambda line, _: keep(line))


def with_shared_seeds(collection: Collection) -> Collection:
    """Those seeds alone that all lines of their source have brought to the end, where lines are set side by side."""
    frame = collection.frame
    complete = frame[frame["round"] == frame.groupby("line")["round"].transform("max")].groupby("line").seed.agg(set)

    def keep(line: Line, seed: int | None) -> bool:
        return all(seed in seeds for other, seeds in complete.items() if other.source == line.source)

    return _part(collection, keep)


def _part(collection: Collection, keep: Callable[[Line, int | None], bool]) -> Collection:
    """The part of a collection that some seeds of some lines make up."""

    def kept(frame: Frame) -> Frame:
        return frame[np.array([keep(*names) for names in zip(frame.line, frame.seed, strict=True)], dtype=bool)]

    return replace(
        collection,
        runs=tuple(run for run in collection.runs if keep(run.line, run.seed)),
        board=replace(collection.board, frame=kept(collection.board.frame)),
        frame=kept(collection.frame),
    )


def data_of(source: str) -> str:
    """The data set's own name."""
    return source.partition("/")[0]
