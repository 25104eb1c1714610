"""Who sits on a committee beside the round's own model, for samplers that ask for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedModel

from diverseevol.engine.learner import Learner
from diverseevol.evolution.setup import Evolution
from diverseevol.runs.round_folder import RoundFolder

FOLDER = "committee"  # below a round's folder, while the round is not whole


@dataclass(frozen=True)
class Seat:
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

    def fill(self, evolution: Evolution) -> None:
        """Train the model, and keep it as a round keeps its own."""
        learner = evolution.learner
        model = learner.fit(self.rows, self.seed, what=f"fine-tune {self.name}").model

        def save(folder: Path) -> None:
            learner.foundation.save(model, folder, evolution.keep_dtype)

        if learner.processes.first:
            self.folder.keep_model(save)
        learner.processes.barrier()

    def load(self, learner: Learner) -> PreTrainedModel:
        """The model that was kept."""
        return learner.foundation.load(self.folder.model).eval()


def seats(t: int, rows: Int[np.ndarray, " pool"], evolution: Evolution) -> list[Seat]:
    """The other members of round t's committee: fresh models by bagging, then the models of the last rounds.

    Bagging trains each member on as many rows as the pool has, drawn from it with replacement, in an order of its
    own (Breiman 1996; Abe & Mamitsuka 1998). Early rounds have fewer rounds before them, and round 0 none.

    Args:
        t: the round.
        rows: the pool P_t in the order in which its rows joined.
        evolution: whose sampler asks for a committee.
    """
    needs, streams, schedule, run = evolution.sampler.needs, evolution.streams, evolution.schedule, evolution.run
    members = []
    for m in range(1, needs.committee + 1):
        resample = streams.generator(t, f"resample {m}").choice(rows, size=len(rows))
        here = run.round(t)
        folder = RoundFolder(here.path / FOLDER / f"{m:02d}", t, here.digest)
        members.append(Seat(f"{FOLDER} {m}", folder, resample, streams.entropy(t, f"{FOLDER} {m}")))
    for s in range(max(0, t - needs.earlier), t):
        before = rows[: (schedule.seed_size or 0) + s * schedule.step_size]
        members.append(Seat(f"round {s} again", run.round(s), before, streams.entropy(s, "training")))
    return members
