"""The table of numbers as a report reads it: each on its line, with the parts of its metric's name."""

from collections.abc import Iterable, Mapping
from typing import Any

from diverseevol.evaluation.scores.frame import COLUMNS, Frame, frame_of
from diverseevol.report.charts.lines import FULL
from diverseevol.runs.metrics import MetricDescription, MetricKey


def frame_of_lines(rows: Iterable[Mapping[str, Any]]) -> Frame:
    """The rows, each with its `line`, as a table with `name` and `part` of the metric, and `full` besides.

    Numbers of rows are floats, NaN where they are not known, as of a released model that was trained on all rows.
    """
    frame = frame_of(rows, (*COLUMNS, "line")).astype({"rows": float, "round": int})
    keys = frame.metric.map(MetricKey.parse)
    return frame.assign(
        name=keys.map(lambda key: key.name),
        part=keys.map(lambda key: key.part),
        full=frame.line.map(lambda line: line.kind == FULL).astype(bool),
    )


def of_metric(frame: Frame, metric: str, judge: str = "") -> Frame:
    """The part of a frame that is one metric by one judge."""
    return frame[(frame.metric == metric) & (frame.judge == judge)]


def descriptions(frame: Frame) -> dict[str, MetricDescription]:
    """How each metric of a frame is read, by its logged name."""
    return dict(zip(frame.metric, frame.description, strict=True))
