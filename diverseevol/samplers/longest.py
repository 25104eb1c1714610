"""The longest responses: a baseline without a model, and one that is hard to beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from diverseevol.samplers.base import Needs, Selection
from diverseevol.samplers.features import Features


@dataclass(frozen=True)
class Longest:
    """Takes the rows whose responses have the most tokens, after truncation.

    The baseline of Zhao et al. (2024, arXiv 2402.04833, abstract), who take the thousand longest of a data set. The
    score of a pick is its number of tokens; of equally long responses the lowest row is picked, so among those that
    fill `prompt.max_length` the order is that of the data. Costs one sort; probes nothing.
    """

    row_by_row: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """The lengths of the responses."""
        return Needs(lengths=True)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        candidates = np.flatnonzero(~taken)
        tokens = features.response_tokens[candidates]
        order = np.argsort(-tokens, kind="stable")[:n]
        return Selection(
            candidates[order], tokens[order].astype(np.float64), "tokens of the response; the highest is picked"
        )
