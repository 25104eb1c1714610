"""What a metric is, what it sees of a round, and how a round's metrics are measured together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from diverseevol.data.dataset import Dataset
from diverseevol.errors import InputError
from diverseevol.runs.metrics import Estimate, MetricDescription, MetricKey, fits

# What a round computes for the metrics that ask for it, and not otherwise.
Need = Literal["foundation_embedding", "current_embedding", "held_out_loss", "reference_loss"]
Value = float | Estimate


@dataclass(frozen=True)
class MeasuredRound:
    """A round as metrics see it.

    Attributes:
        index: t.
        pool: [pool] the rows of P_t, in the order in which they joined.
        dataset: the rows' texts and further fields.
        eligible: [eligible] the rows that can be trained on.
        response_tokens: [rows] how long each row's response is.
        curve: the fit's steps, each with its loss.
        foundation_embedding: [rows, dim] all rows in the foundation model's space; None unless a metric needs it.
        current_embedding: [pool, dim] the pool in the space of the round's own model; None unless needed.
        held_out_loss: of the round's model on held-out rows; None unless needed, or where no rows are held out.
        reference_loss: of the round's model on the references of each benchmark; empty unless needed.
    """

    index: int
    pool: Int[np.ndarray, " pool"]
    dataset: Dataset
    eligible: Int[np.ndarray, " eligible"]
    response_tokens: Int[np.ndarray, " rows"]
    curve: Sequence[Mapping[str, Any]]
    foundation_embedding: Float[np.ndarray, "rows dim"] | None = None
    current_embedding: Float[np.ndarray, "pool dim_of_round"] | None = None
    held_out_loss: Estimate | None = None
    reference_loss: Mapping[str, Estimate] = field(default_factory=dict)


class Metric:
    """A number of each round; derive from it, or give a class of your own the same attributes.

    Its attributes beside `needs` are those of `MetricDescription`, and only `name` has to be given: the title is made
    of it, and the column's heading of the title.

    Attributes:
        needs: what the round must compute for it.
    """

    name: str
    title: str = ""
    unit: str = ""
    higher_is: Literal["better", "worse", "neither"] = "neither"
    comparable: bool = True
    interval: bool = False
    pays_while: Literal["rising", "falling", ""] = ""
    level: bool = True
    heading: str | None = None
    form: str = ".4g"
    needs: frozenset[Need] = frozenset()

    def measure(self, measured: MeasuredRound) -> Value | Mapping[str, Value]:
        """The round's value, or one for each part that it has, such as a benchmark; empty where there is none."""
        raise NotImplementedError

    @property
    def description(self) -> MetricDescription:
        """How the metric is read."""
        return description_of(self)


def description_of(metric: Any) -> MetricDescription:
    """How a metric is read; what a class that does not derive from `Metric` leaves out is as there."""
    names = [field.name for field in fields(MetricDescription)]
    values: dict[str, Any] = {name: getattr(metric, name, getattr(Metric, name, None)) for name in names}
    name = values["name"]
    if not isinstance(name, str) or not name or "/" in name:
        raise InputError(
            f"{type(metric).__qualname__}.name is {name!r}: expected the name of a metric, without a slash; set it"
        )
    values["title"] = values["title"] or name.replace("_", " ")
    if values["heading"] is None:
        values["heading"] = values["title"]
    flaw = next((key for key, value in values.items() if key != "name" and not fits(key, value)), None)
    if flaw is not None:
        raise InputError(
            f"{type(metric).__qualname__}.{flaw} is {values[flaw]!r:.60}, which describes no metric; correct it "
            f"(docs/extending.md)"
        )
    if not callable(getattr(metric, "measure", None)):
        raise InputError(f"{type(metric).__qualname__} has no method measure(round), so it is no metric; add one")
    return MetricDescription(**values)


def needs_of(metrics: Sequence[Metric]) -> frozenset[Need]:
    """What a round must compute for these metrics.

    Raises:
        InputError: a metric needs what no round computes.
    """
    needs: frozenset[Need] = frozenset().union(*(getattr(metric, "needs", ()) for metric in metrics))
    if unknown := sorted(needs - set(get_args(Need))):
        raise InputError(f"metric: no round computes {', '.join(unknown)}; needs can be {', '.join(get_args(Need))}")
    return needs


def measure_all(metrics: Sequence[Metric], measured: MeasuredRound) -> dict[str, float]:
    """The values of some metrics by logged name; an estimate has the ends of its interval beside it.

    Raises:
        InputError: a metric gives what is not a finite number.
    """
    values: dict[str, float] = {}
    for metric in metrics:
        result = metric.measure(measured)
        for part, value in result.items() if isinstance(result, Mapping) else [("", result)]:
            key = MetricKey(metric.name, part)
            numbers = dict(zip((key, *key.ends), value, strict=True)) if isinstance(value, Estimate) else {key: value}
            for name, number in numbers.items():
                if not isinstance(number, int | float | np.number) or not isfinite(number):
                    raise InputError(
                        f"metric {name}, round {measured.index}: expected a finite number, got {number!r:.60}; correct "
                        f"{type(metric).__qualname__}.measure, or leave it out with ~metric.{metric.name}"
                    )
                values[str(name)] = number if isinstance(number, int) else float(number)
    return values
