"""How well the round's model fits its own pool."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diverseevol.evolution.metrics.base import MeasuredRound, Metric


class TrainLoss(Metric):
    """The training loss at the end of the fit: pools of other rows are other tasks."""

    name = "train_loss"
    title = "training loss"
    unit = "nats per response token"
    comparable = False
    heading = "loss"
    form = ".3f"

    def measure(self, measured: MeasuredRound) -> float:
        """The loss."""
        return final_loss(measured.curve)


def final_loss(curve: Sequence[Mapping[str, Any]]) -> float:
    """Mean loss of the last tenth of a fit's steps, in nats per response token."""
    return float(np.mean([point["loss"] for point in curve[-max(1, len(curve) // 10) :]]))
