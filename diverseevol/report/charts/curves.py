"""From numbers to curves: the mean over seeds at each number of training rows, and how far the seeds lie apart."""

from dataclasses import dataclass

import numpy as np

from diverseevol.report.charts.lines import Line
from diverseevol.report.frame import Frame, of_metric
from diverseevol.report.stopping import Stop, stop
from diverseevol.runs.metrics import MetricDescription

BAND = "band: lowest to highest seed; no band: one seed"


@dataclass(frozen=True)
class Curve:
    """One metric of one line.

    Attributes:
        rows: training rows, growing.
        mean, low, high: over the seeds that came so far.
        seeds: how many these are.
        label: what the line is called.
        dashes: of the line.
        thin: whether it is somebody else's, drawn beside our own.
    """

    line: Line
    rows: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: tuple[int, ...]
    label: str = ""
    dashes: tuple[float, ...] = ()
    thin: bool = False


def curves(frame: Frame, metric: str, judge: str = "", *, own_intervals: bool = False) -> list[Curve]:
    """The curve of every line that was measured at a number of rows below all.

    Args:
        frame: all numbers.
        metric: by logged name.
        judge: whose scores, "" for what nobody judged.
        own_intervals: of a line of one seed, whether its band is the numbers' own interval, where all of them have one.
    """
    of_lines = of_metric(frame, metric, judge)
    of_lines = of_lines[~of_lines.full & of_lines.rows.notna()]
    return [_curve(line, of_line, own_intervals) for line, of_line in of_lines.groupby("line")]


def _curve(line: Line, of_line: Frame, own_intervals: bool) -> Curve:
    by_rows = of_line.groupby("rows")
    seen = by_rows.value.agg(["mean", "min", "max", "count"])
    low, high = seen["min"], seen["max"]
    if own_intervals and len(of_line) == len(seen) and of_line[["low", "high"]].notna().all(axis=None):
        low, high = by_rows.low.first(), by_rows.high.first()
    mean, low, high, seeds = (tuple(values.tolist()) for values in (seen["mean"], low, high, seen["count"]))
    return Curve(line, tuple(map(int, seen.index)), mean, low, high, seeds)


def levels(frame: Frame, metric: str, judge: str = "") -> dict[str, float]:
    """What training on all rows reaches, by source: the mean over its seeds."""
    reached = of_metric(frame, metric, judge)
    return {source: float(value) for source, value in reached[reached.full].groupby("source").value.mean().items()}


@dataclass(frozen=True)
class StopOfCurve:
    """When one curve stopped paying; `metric`, `judge` and `description` as a point's."""

    line: Line
    metric: str
    judge: str
    description: MetricDescription
    seeds: int
    found: Stop


def stops(frame: Frame) -> list[StopOfCurve]:
    """Every line that grew round by round, by the metrics that say something about it (see `stopping.RULE`).

    Only the seeds that came furthest are used, so that no step of the mean is one of who is in it.
    """
    says = frame[
        ~frame.full & frame.rows.notna() & frame.description.map(lambda each: each.pays_while != "").astype(bool)
    ]
    stopped = []
    for (line, metric, judge), curve in says.groupby(["line", "metric", "judge"]):
        by_seed = curve.groupby(["seed", "rows"], dropna=False).value.last().unstack()
        by_seed = by_seed[by_seed[by_seed.columns.max()].notna()].dropna(axis=1)
        if by_seed.shape[1] > 2:  # not a one-time schedule, which has no rounds to stop after
            description = curve.description.iloc[0]
            turned = -1 if description.pays_while == "falling" else 1
            rows = by_seed.columns.to_numpy(np.float64)
            verdict = stop(rows, turned * by_seed.to_numpy(np.float64))
            stopped.append(StopOfCurve(line, metric, judge, description, len(by_seed), verdict))
    return sorted(stopped, key=lambda each: (each.line, not each.judge, each.metric, each.judge))
