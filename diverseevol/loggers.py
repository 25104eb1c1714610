"""Loggers by their public names."""

from typing import TYPE_CHECKING

from diverseevol.public import lazily

if TYPE_CHECKING:
    from diverseevol.runs.trackers.csv_tracker import CSV as CSV
    from diverseevol.runs.trackers.tensorboard_tracker import TensorBoard as TensorBoard
    from diverseevol.runs.trackers.wandb_tracker import Wandb as Wandb
    from diverseevol.runs.tracking import NoLogger as NoLogger

__getattr__, __dir__ = lazily(__name__, __file__)
