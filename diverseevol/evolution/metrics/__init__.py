"""What is measured of a round: a file for each metric, and what all metrics have in common in `base`.

A metric of your own is a class like these, and a file in `conf/metric/` that names it; `Metric` says what it has.
"""

from diverseevol.evolution.metrics.base import MeasuredRound, Metric, Need
from diverseevol.evolution.metrics.coverage_radius import CoverageRadius
from diverseevol.evolution.metrics.losses import HeldOutLoss, ReferenceLoss
from diverseevol.evolution.metrics.train_loss import TrainLoss
from diverseevol.evolution.metrics.vendi_score import VendiScore, VendiScoreCentred, VendiScoreCurrent
from diverseevol.runs.metrics import COSTS, POOL_SIZE, SCORES

__all__ = [
    "DEFAULT", "KNOWN", "CoverageRadius", "HeldOutLoss", "MeasuredRound", "Metric", "Need", "ReferenceLoss",
    "TrainLoss", "VendiScore", "VendiScoreCentred", "VendiScoreCurrent",
]  # fmt: skip

DEFAULT: tuple[Metric, ...] = (  # those of conf/metric/default.yaml
    TrainLoss(), VendiScore(), VendiScoreCentred(), VendiScoreCurrent(), CoverageRadius(), HeldOutLoss(),
    ReferenceLoss(enabled=False),
)  # fmt: skip

# How every number that the project itself writes is read, by name and in the order in which tables have them.
KNOWN = {each.name: each for each in (POOL_SIZE, *(metric.description for metric in DEFAULT), *SCORES, *COSTS)}
