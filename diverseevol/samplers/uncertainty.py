"""Uncertainty sampling: the rows that the round's own model is least sure of."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from diverseevol.samplers.base import Needs, Selection, finite_scores
from diverseevol.samplers.features import Features

Measure = Literal["confidence", "margin", "entropy"]
Variant = Literal["reference", "probability"]


@dataclass(frozen=True)
class Uncertainty:
    """Takes the rows with the least confidence, the least margin or the most entropy (Settles 2009, section 3.1).

    The score of a pick is its statistic. Of equally uncertain rows the lowest is picked. Costs one pass of the model
    over the rows with its head (which a 7B model hardly notices), then one sort.

    Attributes:
        measure: of each position's prediction of the next token: the highest value ("confidence"), the highest less
            the second ("margin"), or the entropy in nats ("entropy").
        variant: "reference", the authors': raw logits (the entropy has none) averaged over every token, template and
            prompt included; or "probability", the textbook's: probabilities, averaged over the response tokens.
    """

    measure: Measure
    variant: Variant = "reference"

    @property
    def statistic(self) -> str:
        """The name of the token statistic that rows are sorted by."""
        return f"{'reference' if self.variant == 'reference' else 'response'}_{self.measure}"

    @property
    def needs(self) -> Needs:
        """One token statistic."""
        return Needs(statistics=frozenset({self.statistic}))

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        candidates = np.flatnonzero(~taken)
        score = finite_scores(features, self.statistic, candidates)
        order = np.argsort(-score if self.measure == "entropy" else score, kind="stable")[:n]
        return Selection(candidates[order], score[order].astype(np.float64), self.meaning)

    @property
    def meaning(self) -> str:
        """What the score is, for readers."""
        reference, entropy = self.variant == "reference", self.measure == "entropy"
        quantity = "entropy, nats" if entropy else f"{self.measure} of {'raw logits' if reference else 'probabilities'}"
        over = "all tokens" if reference else "the response's tokens"
        return f"{quantity}, mean over {over}; the {'highest' if entropy else 'lowest'} is picked"
