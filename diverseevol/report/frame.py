"""One tidy table: a row for each number of a round, be it measured, spent or said by a judge."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from diverseevol.evolution.metrics import KNOWN
from diverseevol.report.charts.lines import FULL, Line
from diverseevol.runs.metrics import MetricDescription, MetricKey, describe

Frame = Any  # a pandas.DataFrame, whose module takes long to import


@dataclass(frozen=True)
class Point:
    """One number of one round.

    Attributes:
        rows: training rows; None for a released model that was trained on all rows.
        metric: by logged name, such as `relative_score/vicuna`; seconds of a phase as `seconds/fit`, its peak
            memory in gigabytes as `peak_memory/fit`.
        judge: whose it is, "" for what nobody judged.
        description: how it is read.
        low: of its own 95 % interval, over questions or rows; None where it has none.
        high: likewise.
    """

    line: Line
    seed: int | None
    round: int
    rows: int | None
    metric: str
    judge: str
    value: float
    description: MetricDescription
    low: float | None = None
    high: float | None = None


def measured_points(
    line: Line, seed: int | None, t: int, rows: int, values: Mapping[str, Any], known: Mapping[str, MetricDescription]
) -> Iterator[Point]:
    """A point for each of a round's values that is a number.

    Args:
        line: what the run is a seed of.
        seed: its seed.
        t: the round.
        rows: of its pool.
        values: by logged name.
        known: how metrics are read, by name.
    """
    numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
    for metric, value in numbers.items():
        key = MetricKey.parse(metric)
        low, high = (numbers.get(str(end)) for end in key.ends)
        yield Point(line, seed, t, rows, metric, "", value, describe(key.name, known), low, high)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def score_point(
    line: Line, seed: int | None, t: int, rows: int | None, benchmark: str, scores: Mapping[str, Any]
) -> Point:
    """The relative score of one model, as `scores.json` has it; one question alone has no interval."""
    low, high = (scores[end] if scores.get("questions") != 1 else None for end in ("ci_low", "ci_high"))
    key, value = f"relative_score/{benchmark}", scores["relative_score"]
    return Point(line, seed, t, rows, key, scores["judge"], value, KNOWN["relative_score"], low, high)


def frame_of(points: Iterable[Point]) -> Frame:
    """The table: a column an attribute of the points, and `name`, `part` (of the metric), `source`, `full` besides.

    Seeds are objects, for some are None; what is not known of `rows`, `low` and `high` is NaN.
    """
    import pandas as pd

    listed = list(points)
    kinds = {"seed": object, "round": int, "rows": float, "value": float, "low": float, "high": float}
    columns = {
        name: pd.Series([getattr(point, name) for point in listed], dtype=kinds.get(name, object))
        for name in Point.__dataclass_fields__
    }
    keys = [MetricKey.parse(point.metric) for point in listed]
    return pd.DataFrame(columns).assign(
        name=pd.Series([key.name for key in keys], dtype=object),
        part=pd.Series([key.part for key in keys], dtype=object),
        source=pd.Series([point.line.source for point in listed], dtype=object),
        full=pd.Series([point.line.kind == FULL for point in listed], dtype=bool),
    )


def of_metric(frame: Frame, metric: str, judge: str = "") -> Frame:
    """The part of a frame that is one metric by one judge."""
    return frame[(frame.metric == metric) & (frame.judge == judge)]


def descriptions(frame: Frame) -> dict[str, MetricDescription]:
    """How each metric of a frame is read, by its logged name."""
    return dict(zip(frame.metric, frame.description, strict=True))
