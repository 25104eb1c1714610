"""Random choice: the baseline that every other sampler has to beat."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from diverseevol.samplers.base import Needs, Selection
from diverseevol.samplers.features import Features


@dataclass(frozen=True)
class Random:
    """Draws uniformly without replacement: the authors' baseline, and the way in which P_0 is drawn.

    Costs nothing: no probing at all. Its scores are 0.
    """

    @property
    def needs(self) -> Needs:
        """Nothing."""
        return Needs()

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        rows = rng.choice(np.flatnonzero(~taken), size=n, replace=False)
        return Selection(rows, np.zeros(n), "none: picked at random")
