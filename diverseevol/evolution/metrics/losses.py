"""The loss of the round's model on what no pool holds: a warning light, and not a judge."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from diverseevol.evolution.metrics.base import MeasuredRound, Metric, Need
from diverseevol.runs.metrics import Estimate

STANDARD_ERRORS = 1.959964  # on either side of a 95 % interval


class _Loss(Metric):
    unit = "nats per response token"
    higher_is = "worse"
    interval = True
    form = ".3f"


class HeldOutLoss(_Loss):
    """The mean loss of a response token over held-out rows, where there are any."""

    name = "held_out_loss"
    title = "loss on held-out rows"
    heading = "held-out\nloss"
    needs = frozenset({"held_out_loss"})

    def measure(self, measured: MeasuredRound) -> Mapping[str, Estimate]:
        """The loss."""
        return {} if measured.held_out_loss is None else {"": measured.held_out_loss}


@dataclass(frozen=True)
class ReferenceLoss(_Loss):
    """The mean loss of a response token over each benchmark's references, or its competitor's answers.

    Attributes:
        enabled: whether it is measured.
    """

    name = "reference_loss"
    title = "loss on references"
    heading = "loss on"

    enabled: bool = True

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """The losses, where they are asked for."""
        return frozenset({"reference_loss"}) if self.enabled else frozenset()

    def measure(self, measured: MeasuredRound) -> Mapping[str, Estimate]:
        """The losses by benchmark."""
        return measured.reference_loss if self.enabled else {}


def mean_loss(losses: Float[np.ndarray, " rows"], tokens: Int[np.ndarray, " rows"]) -> Estimate:
    """The mean loss of a response token over some rows; the rows are what was drawn, and what the interval is over.

    A ratio of two means: its standard error is that of the residuals (Cochran 1977, section 6.4).

    Args:
        losses: [rows] each row's mean loss, in nats per response token.
        tokens: [rows] each row's response tokens.
    """
    weights = np.asarray(tokens, dtype=np.float64)
    values = np.asarray(losses, dtype=np.float64)
    mean = float((weights * values).sum() / weights.sum())
    if len(values) < 2:
        return Estimate(mean, mean, mean)
    residuals = weights * (values - mean) / weights.mean()
    error = float(residuals.std(ddof=1)) / math.sqrt(len(values))
    return Estimate(mean, mean - STANDARD_ERRORS * error, mean + STANDARD_ERRORS * error)
