"""K-Center: always the row farthest from everything in the pool, the paper's sampler."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float

from diverseevol.errors import InputError
from diverseevol.features import Features
from diverseevol.measures import mean_row
from diverseevol.samplers.base import Needs, Selection
from diverseevol.samplers.farthest_first import farthest_first


@dataclass(frozen=True)
class KCenterSampler:
    """Greedy farthest-first choice of centres (Gonzalez 1985; Sener & Savarese 2018; the paper's equation).

    The score of a pick is its distance to the nearest row taken or picked before it. Where nothing is taken,
    the first pick is the row nearest the mean, and its score the distance to the mean.

    Attributes:
        metric: "euclidean", the paper's, or "cosine": the distance between rows scaled to length 1, which
            orders rows as the cosine distance does.
        whiten: the number of directions of largest variance to keep, each scaled to variance 1; None keeps
            the space as it is. Comes after the scaling of "cosine".
        space: the embeddings of the round's own model, the paper's, or of the foundation model.
    """

    metric: Literal["euclidean", "cosine"] = "euclidean"
    whiten: int | None = None
    space: Literal["current", "foundation"] = "current"

    def __post_init__(self) -> None:
        for field, value, known in (
            ("metric", self.metric, ("euclidean", "cosine")),
            ("space", self.space, ("current", "foundation")),
        ):
            if value not in known:
                raise InputError(f"sampler.{field}={value}: not known; give {known[0]} or {known[1]}")
        if self.whiten is not None and self.whiten < 1:
            raise InputError(f"sampler.whiten={self.whiten}: must be null or at least 1; give 1 or more")

    @property
    def needs(self) -> Needs:
        """The embeddings of one model."""
        return Needs(space=self.space)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`.

        Raises:
            InputError: a row holds NaN or inf, or there are fewer directions than `whiten` asks for.
        """
        X = features.embedding
        if X is None:
            raise ValueError("K-Center needs embeddings, and these features hold none")
        if self.metric == "cosine":
            X = X / np.linalg.norm(X, axis=1, keepdims=True)
        if self.whiten is not None:
            X = whitened(X, self.whiten)
        rows, distance = farthest_first(X, taken, n)
        return Selection(rows=rows, score=distance)


def whitened(X: Float[np.ndarray, "rows dim"], dims: int) -> Float[np.ndarray, "rows dims"]:
    mean = mean_row(X)
    centred = X - mean
    values, directions = scipy.linalg.eigh(centred.T @ centred / len(X))
    result: np.ndarray = centred @ (directions[:, -dims:] / np.sqrt(values[-dims:]))
    return result
