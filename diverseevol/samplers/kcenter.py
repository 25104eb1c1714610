"""K-Center: always the row farthest from everything in the pool, the paper's sampler."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.errors import InputError
from diverseevol.geometry.projections import principal_directions
from diverseevol.geometry.row_blocks import blocks
from diverseevol.samplers.base import Needs, Selection, embedding_of, finite_scores, pool_of
from diverseevol.samplers.features import Features

LOSS = "response_loss"
FARTHEST = (
    "distance to the nearest row of the pool or picked before; the highest is picked (where there is no such row yet: "
    "the row nearest the mean of all, and its distance to that)"
)


@dataclass(frozen=True)
class KCenter:
    """Greedy farthest-first choice of centres, as in the paper's section 3.

    It is Gonzalez's (1985, section 2), for active learning algorithm 1 of Sener & Savarese (2018). The score of a
    pick is its distance to the nearest row of the pool or picked before it. Where there is no pool, the first pick is
    the row nearest the mean of all eligible rows, and its score the distance to the mean.

    Costs one pass of the model over the rows for the embeddings, then one pass over these and a few exact distances
    for each pick (see `farthest_first`); on clustered rows, little more than rows × dim × |pool| / 16. The
    embeddings are read where they lie, in their own precision, but for the copies that the options below name.

    Attributes:
        metric: "euclidean", the paper's, or "cosine": the distance between rows scaled to length 1, which
            orders rows as the cosine distance does, and takes a float32 copy of the embeddings.
        whiten: the number of directions of largest variance to keep, each scaled to variance 1; None keeps
            the space as it is. Comes before the scaling of "cosine", as in the authors' code. Takes a float32 array,
            rows × whiten.
        space: the embeddings of the round's own model, the paper's, of the foundation model, or of the rows' words,
            which no model is asked for.
        device: "cpu", the lazy traversal, or "cuda", a running minimum on a GPU that has room for the rows.
        drop: the share of the candidates with the highest loss of their own that may not be chosen: outliers, whose
            loss is extreme, are far from everything. Takes a pass with the model's head; at 0 there is none.
    """

    metric: Literal["euclidean", "cosine"] = "euclidean"
    whiten: int | None = None
    space: Literal["current", "foundation", "text"] = "current"
    device: Literal["cpu", "cuda"] = "cpu"
    drop: float = 0.0

    row_by_row: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.whiten is not None and self.whiten < 1:
            raise InputError(f"sampler.whiten is {self.whiten}; it must be null or at least 1")
        if self.device == "cuda":
            import torch  # here and below, so that an option that cannot be is refused without its seconds

            if not torch.cuda.is_available():
                raise InputError("sampler.device is cuda, and there is no CUDA device here; give sampler.device=cpu")
        if not 0 <= self.drop < 1:
            raise InputError(f"sampler.drop is {self.drop}; it is a share of the candidates, from 0 to less than 1")

    @property
    def needs(self) -> Needs:
        """The embeddings of one space, and where rows are dropped the loss of each response under the round's own."""
        return Needs(space=self.space, statistics=frozenset({LOSS} if self.drop else ()))

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        X = embedding_of(features)
        if self.whiten is not None:
            X = whitened(X, self.whiten, features.eligible)
        if self.metric == "cosine":
            X = unit_rows(X, features.response_tokens > 0)
        centres = pool_of(features, taken)
        if self.drop:
            taken = taken | self._dropped(features, taken, n)
        if self.device == "cpu":
            from diverseevol.geometry.farthest_first import farthest_first

            rows, distance = farthest_first(X, taken, n, centres, features.eligible)
        else:
            import torch

            from diverseevol.geometry.farthest_first_cuda import running_minimum

            rows, distance = running_minimum(X, taken, n, centres, torch.device(self.device), features.eligible)
        return Selection(rows, distance, FARTHEST)

    def _dropped(self, features: Features, taken: Bool[np.ndarray, " rows"], n: int) -> Bool[np.ndarray, " rows"]:
        """The candidates of the highest loss; never so many that fewer than n are left."""
        candidates = np.flatnonzero(~taken)
        number = min(int(self.drop * len(candidates)), len(candidates) - n)
        highest = np.argsort(-finite_scores(features, LOSS, candidates), kind="stable")[:number]
        dropped = np.zeros(len(taken), dtype=bool)
        dropped[candidates[highest]] = True
        return dropped


def unit_rows(X: Float[np.ndarray, "rows dim"], eligible: Bool[np.ndarray, " rows"]) -> Float[np.ndarray, "rows dim"]:
    """The rows scaled to length 1, in float32; one that is zero stays so where it is not eligible.

    Raises:
        InputError: an eligible row is zero.
    """
    unit = np.empty(X.shape, dtype=np.float32)
    for start, block in blocks(X):
        length = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
        zero = length[:, 0] == 0
        if (bad := zero & eligible[start : start + len(block)]).any():
            raise InputError(
                f"embeddings, row {start + int(bad.argmax())}: is zero and has no direction, which "
                f"sampler.metric=cosine compares; remove the row or give sampler.metric=euclidean"
            )
        length[zero] = 1  # the mean of no response token, of a row that has none
        unit[start : start + len(block)] = block / length
    return unit


def whitened(
    X: Float[np.ndarray, "rows dim"], dims: int, eligible: Int[np.ndarray, " some"]
) -> Float[np.ndarray, "rows dims"]:
    """The rows along the principal directions of those that are eligible, each scaled to their variance 1.

    In float32, which also takes equal rows back to equal numbers: a product may round them apart.

    Raises:
        InputError: fewer directions vary.
    """
    mean, variance, directions = principal_directions(X, min(dims, X.shape[1]), eligible)
    varying = int((variance > variance[0] * X.shape[1] * np.finfo(np.float64).eps).sum())
    if varying < dims:
        raise InputError(
            f"sampler.whiten is {dims}; these embeddings vary in {varying} directions only; give {varying} or less"
        )
    white = np.empty((len(X), dims), dtype=np.float32)
    for start, block in blocks(X):
        white[start : start + len(block)] = (block - mean) @ (directions / np.sqrt(variance))
    return white
