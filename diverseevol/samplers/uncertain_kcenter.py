"""K-Center among the most uncertain: what the model does not know, without asking for the same thing twice."""

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from diverseevol.errors import InputError, warn_once
from diverseevol.samplers.base import Needs, Selection, embedding_of, pool_of
from diverseevol.samplers.features import Features
from diverseevol.samplers.kcenter import FARTHEST
from diverseevol.samplers.uncertainty import Measure, Uncertainty, Variant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UncertainKCenter:
    """The `among`·n most uncertain candidates compete, and farthest-first traversal from the pool takes n of them.

    Filtering by uncertainty, then choosing for diversity, is the scheme of Zhdanov (2019, "Diverse mini-batch active
    learning", section 3), who clusters where this covers. The score of a pick is its distance to the nearest row of
    the pool or picked before it, or without a pool of the first one to the mean. Costs one pass of the model over the
    rows with its head, one sort, and one pass over the embeddings.

    Attributes:
        measure: of uncertainty; see `Uncertainty`.
        variant: of the measure; see `Uncertainty`.
        among: how many times n candidates compete; 1 is uncertainty sampling in another order, and what leaves
            none out is K-Center.
        space: the embeddings of the round's own model, of the foundation model, or of the rows' words.
    """

    measure: Measure = "entropy"
    variant: Variant = "probability"
    among: int = 10
    space: Literal["current", "foundation", "text"] = "current"

    def __post_init__(self) -> None:
        if self.among < 1:
            raise InputError(f"sampler.among is {self.among}; it must be at least 1: among·n candidates compete")

    @property
    def needs(self) -> Needs:
        """One token statistic and the embeddings of one space."""
        return Needs(space=self.space, statistics=self._uncertainty.needs.statistics)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        from diverseevol.geometry.farthest_first import farthest_first  # here, for it imports torch

        X = embedding_of(features)
        left = int((~taken).sum())
        competing = min(self.among * n, left)
        if n < left <= self.among * n:
            warn_once(
                log, "sampler.among=%d leaves no candidate out, so the picks are those of kcenter; lower it", self.among
            )
        uncertain = self._uncertainty.select(features, taken, competing, rng).rows
        barred = np.ones(len(X), dtype=bool)
        barred[uncertain] = False
        rows, distance = farthest_first(X, barred, n, pool_of(features, taken), features.eligible)
        return Selection(rows, distance, f"{FARTHEST}, of the {competing:,} most uncertain")

    @property
    def _uncertainty(self) -> Uncertainty:
        return Uncertainty(self.measure, self.variant)
