"""Metrics by their public names, and what one of your own is made with."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.evolution.metrics import CoverageRadius as CoverageRadius
    from diverseevol.evolution.metrics import HeldOutLoss as HeldOutLoss
    from diverseevol.evolution.metrics import MeasuredRound as MeasuredRound
    from diverseevol.evolution.metrics import Metric as Metric
    from diverseevol.evolution.metrics import ReferenceLoss as ReferenceLoss
    from diverseevol.evolution.metrics import TrainLoss as TrainLoss
    from diverseevol.evolution.metrics import VendiScore as VendiScore
    from diverseevol.evolution.metrics import VendiScoreCentred as VendiScoreCentred
    from diverseevol.evolution.metrics import VendiScoreCurrent as VendiScoreCurrent
    from diverseevol.runs.metrics import Estimate as Estimate

__getattr__, __dir__ = lazily(__name__, __file__)
