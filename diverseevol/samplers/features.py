"""What one probing pass of a model says about every row of the data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Shaped


@dataclass(frozen=True)
class Features:
    """Per-row facts that samplers choose by, aligned with the data set: index i is row i of D.

    Attributes:
        response_tokens: [rows] tokens of each row's response (end token included) after truncation; 0 marks a
            row that cannot be trained on, of which the other facts say nothing.
        embedding: [rows, dim] mean-pooled last hidden states, memory-mapped where large; None where the
            sampler's needs name no space.
        scores: per-row token statistics by name, each [rows]; only those that the sampler's needs name.
        columns: the records' own fields by name, each [rows] as text (see `diverseevol.data.columns`); only those
            that the sampler's needs name.
    """

    response_tokens: Int[np.ndarray, " rows"]
    embedding: Float[np.ndarray, "rows dim"] | None = None
    scores: Mapping[str, Float[np.ndarray, " rows"]] = field(default_factory=dict)
    columns: Mapping[str, Shaped[np.ndarray, " rows"]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows the data set has."""
        return len(self.response_tokens)

    @property
    def eligible(self) -> Int[np.ndarray, " some"]:
        """The rows that can be trained on: means and variances are taken over these."""
        return np.flatnonzero(self.response_tokens > 0)
