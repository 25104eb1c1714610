"""From points to curves: the mean over seeds at each number of training rows, and how far the seeds lie apart."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from diverseevol.report.charts.lines import FULL, Line
from diverseevol.report.collect import Point
from diverseevol.report.stopping import Stop, stop

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


def curves(points: Iterable[Point], metric: str, judge: str = "", *, own_intervals: bool = False) -> list[Curve]:
    """The curve of every line that was measured at a number of rows below all.

    Args:
        points: all there are.
        metric: by logged name.
        judge: whose scores, "" for what nobody judged.
        own_intervals: of a line of one seed, whether its band is the points' own interval, where all of them have one.
    """
    of_line: dict[Line, dict[int, list[Point]]] = {}
    for point in points:
        if (point.metric, point.judge) == (metric, judge) and point.line.kind != FULL and point.rows is not None:
            of_line.setdefault(point.line, {}).setdefault(point.rows, []).append(point)
    return [_curve(line, dict(sorted(at.items())), own_intervals) for line, at in sorted(of_line.items())]


def _curve(line: Line, at: Mapping[int, Sequence[Point]], own_intervals: bool) -> Curve:
    values = [[point.value for point in points] for points in at.values()]
    low, high = [min(v) for v in values], [max(v) for v in values]
    ends = [(points[0].low, points[0].high) for points in at.values() if len(points) == 1]
    bounds = [(a, b) for a, b in ends if a is not None and b is not None]
    if own_intervals and len(bounds) == len(at):
        low, high = [a for a, _ in bounds], [b for _, b in bounds]
    means = tuple(float(np.mean(v)) for v in values)
    return Curve(line, tuple(at), means, tuple(low), tuple(high), tuple(map(len, values)))


def levels(points: Iterable[Point], metric: str, judge: str = "") -> dict[str, float]:
    """What training on all rows reaches, by source: the mean over its seeds."""
    found: dict[str, list[float]] = {}
    for point in points:
        if (point.metric, point.judge) == (metric, judge) and point.line.kind == FULL:
            found.setdefault(point.line.source, []).append(point.value)
    return {source: float(np.mean(values)) for source, values in sorted(found.items())}


@dataclass(frozen=True)
class StopOfCurve:
    """When one curve stopped paying; `metric` and `judge` as a point's."""

    line: Line
    metric: str
    judge: str
    seeds: int
    found: Stop


def stops(points: Sequence[Point]) -> list[StopOfCurve]:
    """Coverage radius, Vendi-Score and relative scores of every line that grew round by round (see `stopping.RULE`).

    Only the seeds that came furthest are used, so that no step of the mean is one of who is in it.
    """
    wanted = sorted(
        {(p.line, p.metric, p.judge) for p in points if p.line.kind != FULL and _turned(p.metric) != 0},
        key=lambda key: (key[0], ORDER.index(key[1].partition("/")[0]), key[1], key[2]),
    )
    found = []
    for line, metric, judge in wanted:
        of_seed: dict[int | None, dict[int, float]] = {}
        for p in points:
            if (p.line, p.metric, p.judge) == (line, metric, judge) and p.rows is not None:
                of_seed.setdefault(p.seed, {})[p.rows] = p.value
        furthest = max((max(at) for at in of_seed.values()), default=0)
        rows = sorted(set.intersection(*(set(at) for at in of_seed.values() if furthest in at))) if of_seed else []
        if len(rows) > 2:  # not a one-time schedule, which has no rounds to stop after
            values = [[at[n] for n in rows] for at in of_seed.values() if furthest in at]
            found.append(StopOfCurve(line, metric, judge, len(values), _stop(rows, values, _turned(metric))))
    return found


ORDER = ("relative_score", "vendi_score_centred", "vendi_score", "coverage_radius")


def _turned(metric: str) -> int:
    """+1 where more is better, -1 where less is, 0 where it says nothing about stopping."""
    name = metric.partition("/")[0]
    return 0 if name not in ORDER else -1 if name == "coverage_radius" else 1


def _stop(rows: Sequence[int], values: Sequence[Sequence[float]], turned: int) -> Stop:
    y: Float[np.ndarray, "seeds rounds"] = turned * np.array(values, dtype=np.float64)
    return stop(np.array(rows, dtype=np.float64), y)
