"""The learner: everything that an evolution does with models.

    fit(rows)        the foundation model, fine-tuned on a pool     engine/tuning/tuner.py
    probe(model, …)  embeddings and token statistics                engine/probing/prober.py
    answer(model, …) a model's answers to questions                 engine/answering/answerer.py

It knows nothing of rounds, samplers or run folders.
"""

from dataclasses import dataclass

from transformers import PreTrainedModel

from diverseevol.engine.answering.answerer import Answerer
from diverseevol.engine.probing.prober import Prober
from diverseevol.engine.tuning.tuner import Tuner


@dataclass(frozen=True, kw_only=True)
class Learner(Tuner, Prober, Answerer):
    """A foundation model and the rows as tokens, with all three jobs."""

    def foundation_model(self) -> PreTrainedModel:
        """The foundation model, around the weights that adapters share where there are some."""
        return self.models.load()
