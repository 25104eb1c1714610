"""One tidy table of numbers, measured or judged: a row for each number of a round's model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, TypeGuard

from diverseevol.evaluation.scores.models import Model
from diverseevol.runs.metrics import SCORES, MetricDescription, MetricKey, describe

Frame = Any  # a pandas.DataFrame, whose module takes long to import
Row = Any  # one of its rows, with a column an attribute, as `itertuples` gives it
RELATIVE_SCORE = SCORES[0]

COLUMNS = (
    "source", "schedule", "seed", "round",
    "rows",  # of the pool that the model was trained on; None where that is not known
    "initial_pool",  # see `Model`
    "metric",  # by logged name, such as `relative_score/vicuna`
    "benchmark",  # the questions of a score; of any other metric its logged name
    "judge", "prompt_version",  # "" of what nobody judged
    "value",
    "low", "high",  # of its own 95 % interval, over questions or rows; NaN where it has none
    "description",  # how the number is read
    "file",  # that it was read from
    "scores",  # all that a judge said of the model, as `Scores`; None of what nobody judged
)  # fmt: skip


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> Frame:
    """The table of some rows. What is not known of a number is NaN, of anything else None."""
    import pandas as pd

    frame = pd.DataFrame([{**dict.fromkeys(columns), **row} for row in rows], columns=list(columns), dtype=object)
    return frame.astype({name: float for name in ("value", "low", "high") if name in columns})


def judged_row(model: Model, benchmark: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """The relative score of one model, by the figures of `Scores` or `scores.json`; one question has no interval."""
    low, high = (figures[end] if figures.get("questions") != 1 else None for end in ("ci_low", "ci_high"))
    return {
        **vars(model), "metric": str(MetricKey(RELATIVE_SCORE.name, benchmark)), "benchmark": benchmark,
        "judge": figures["judge"], "value": figures["relative_score"], "low": low, "high": high,
        "description": RELATIVE_SCORE,
    }  # fmt: skip


def measured_rows(
    model: Model, values: Mapping[str, Any], known: Mapping[str, MetricDescription], file: str = ""
) -> Iterator[dict[str, Any]]:
    """A row for each of a model's values, by logged name, that is a number.

    Args:
        model: whose they are.
        values: by logged name.
        known: how metrics are read, by name.
        file: that they were read from.
    """
    numbers = {metric: float(value) for metric, value in values.items() if is_number(value)}
    for metric, value in numbers.items():
        key = MetricKey.parse(metric)
        low, high = (numbers.get(str(end)) for end in key.ends)
        yield {
            **vars(model), "metric": metric, "benchmark": metric, "judge": "", "prompt_version": "", "value": value,
            "low": low, "high": high, "description": describe(key.name, known), "file": file,
        }  # fmt: skip


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value that was read is a number that can be compared."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
