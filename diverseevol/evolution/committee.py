"""The models that a sampler asks beside the round's own, where it chooses by their disagreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedModel

from diverseevol.engine.learner import Learner
from diverseevol.evolution.setup import Streams
from diverseevol.options import Schedule
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.runs.run_folder import RunFolder
from diverseevol.samplers.base import Needs

FOLDER = "committee"  # below a round's folder, until the round is complete


@dataclass(frozen=True)
class Member:
    """A model that is on disk, or can be made again as it was.

    Attributes:
        name: the phase that makes it.
        folder: where it is kept.
        rows: what it is trained on; a bootstrap resample repeats rows.
        seed: what its training comes from.
    """

    name: str
    folder: RoundFolder
    rows: Int[np.ndarray, " pool"]
    seed: Sequence[int]

    def train_and_save(self, learner: Learner, keep_dtype: Literal["source"] | None) -> None:
        """Train the model, and keep it as a round keeps its own."""
        checkpoint = self.folder.checkpoint
        model = learner.fit(self.rows, self.seed, phase=f"fine-tune {self.name}", checkpoint=checkpoint).model

        def save(folder: Path) -> None:
            learner.models.save(model, folder, keep_dtype)

        if learner.processes.first:
            self.folder.keep_model(save, learner.tuning.KEPT)
            self.folder.drop(checkpoint)
        learner.processes.barrier()

    def load(self, learner: Learner) -> PreTrainedModel:
        """The model that was kept."""
        return learner.models.load(self.folder.path / learner.tuning.KEPT).eval()


def committee(
    t: int, pool: Int[np.ndarray, " pool"], needs: Needs, schedule: Schedule, streams: Streams, run: RunFolder
) -> list[Member]:
    """The other members of round t's committee: fresh models by bagging, then the models of the last rounds.

    Bagging trains each member on as many rows as the pool has, drawn from it with replacement, in an order of its
    own (Breiman 1996; Abe & Mamitsuka 1998). Early rounds have fewer rounds before them, and round 0 none.

    Args:
        t: the round.
        pool: [pool] the rows of P_t in the order in which they joined.
        needs: the sampler's: how many members, and of which kind; none without a committee.
        schedule: how the pool grew.
        streams: randomness by purpose.
        run: the run folder.
    """
    members = []
    current = run.round(t)
    for m in range(1, needs.committee + 1):
        resample = streams.generator(t, f"resample {m}").choice(pool, size=len(pool))
        folder = RoundFolder(current.path / FOLDER / f"{m:02d}", t, current.digest)
        members.append(Member(f"{FOLDER} {m}", folder, resample, streams.entropy(t, f"{FOLDER} {m}")))
    for s in range(max(0, t - needs.earlier), t):
        P_s = pool[: (schedule.seed_size or 0) + s * schedule.step_size]
        members.append(Member(f"round {s} again", run.round(s), P_s, streams.entropy(s, "training")))
    return members
