"""What every job that runs a model has in common: the prompt, the trainer, the processes and the progress display."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning

from diverseevol.data.prompt import Prompt
from diverseevol.engine.memory import Budgets
from diverseevol.engine.trainers import start
from diverseevol.parallel.processes import Processes
from diverseevol.progress import Progress, Silent


@dataclass(frozen=True, kw_only=True)
class ModelJob:
    """A job that runs models.

    Attributes:
        prompt: template and tokeniser.
        trainer: makes a Lightning trainer from further keywords.
        processes: this process and its peers.
        progress: shows how far a phase has come.
        budgets: how much goes through a model at a time, once a device was full.
    """

    prompt: Prompt
    trainer: Callable[..., lightning.Trainer] = lightning.Trainer
    processes: Processes = field(default_factory=Processes)
    progress: Progress = field(default_factory=Silent)
    budgets: Budgets = field(default_factory=Budgets)

    def start(self, **options: Any) -> lightning.Trainer:
        """A trainer on this process's device."""
        return start(self.trainer, self.processes, **options)
