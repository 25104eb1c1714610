"""Facility location: the rows that stand for the rest, so that every row has one nearby on the whole."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from diverseevol.features import Features
from diverseevol.measures import distance_to_pool, mean_row
from diverseevol.samplers.base import Needs, Selection, embedding_of, pool_of
from diverseevol.samplers.lazy_greedy import lazy_greedy

ROWS, COLUMNS = 1024, 2048  # of the block of distances that is in memory
PAIRS = 2**26  # distances that may be kept: half a gigabyte


@dataclass(frozen=True)
class FacilityLocationSampler:
    """Always the row that lowers the mean squared distance of all eligible rows to their nearest row of the pool most.

    K-Center minimises the largest such distance and so goes for outliers; this is its counterpart for the mean. As
    maximisation: f(S) = Σ_i max_{j ∈ S} (d − |x_i − x_j|²) for a large d is monotone and submodular, so greedy choice
    comes within 1 − 1/e of the best (Nemhauser, Wolsey & Fisher 1978; for data selection: Wei, Iyer & Bilmes 2015).
    The score of a pick is by how much the mean fell. With nothing taken, the first pick is the row with the least
    mean squared distance to all, and its score counts from a distance that no two rows exceed.

    Costs rows² × dim multiplications in float32, in blocks and never as a rows × rows matrix. What is kept are the
    distances that can still matter, of rows nearer to a candidate than to the pool: about rows² / |pool|, and at most
    512 MB. Where the pool is too small for that, the first picks cost some tens × rows × dim each, and the blocks are
    gone through once more. The picks are the greedy algorithm's but for the rounding: gains that agree to about six
    digits may swap.

    Attributes:
        space: the embeddings of the round's own model or of the foundation model.
    """

    space: Literal["current", "foundation"] = "current"

    @property
    def needs(self) -> Needs:
        """The embeddings of one model."""
        return Needs(space=self.space)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`.

        Raises:
            InputError: a row holds NaN or inf.
        """
        left, pool = np.flatnonzero(~taken), pool_of(features, taken)
        facilities = _Facilities(embedding_of(features), np.sort(np.concatenate([pool, left])), pool)
        rows, gained = [], []
        # Of P random rows one in P + 1 is nearer than all others: so many pairs are to be expected, and twice is safe.
        first = min(n, max(0, 2 * facilities.count**2 // PAIRS - len(pool)))
        for count, keep in ((first, False), (n - first, True)):
            if not count:
                continue
            candidates = left[~np.isin(left, rows)]
            bounds = facilities.survey(candidates, keep)
            picks, gains = lazy_greedy(
                bounds,
                lambda some, of=candidates: facilities.gains(of[some]),  # type: ignore[misc]
                lambda pick, of=candidates: facilities.add(int(of[pick])),  # type: ignore[misc]
                count,
            )
            rows += candidates[picks].tolist()
            gained += gains.tolist()
        return Selection(rows=np.array(rows, dtype=np.int64), score=np.array(gained))


class _Facilities:
    """The rows to be served, and the squared distance of each to the nearest row that serves.

    With c a row and μ the mean, x·2(c − μ) − (|c − μ|² + μ·2(c − μ)) = |x − μ|² − |x − c|²: the rows are neither
    shifted nor copied, and yet the large mean that hidden states share does not cancel digits away.

    Attributes:
        squared: [rows] to the nearest row that serves; 0 for rows that need none.
        kept: of each COLUMNS rows surveyed a sparse matrix: column c says by how much c would have served row x
            better. Distances to the nearest only fall, so c will never serve any other row better. Empty where that
            was too much to keep.
    """

    def __init__(
        self, X: Float[np.ndarray, "rows dim"], served: Int[np.ndarray, " served"], pool: Int[np.ndarray, " pool"]
    ) -> None:
        self.X = X
        self.count = len(served)
        self.mean = mean_row(X).astype(np.float32)
        own = [np.square(X[part] - self.mean).sum(axis=1) for part in _parts(len(X), ROWS)]
        self.own = np.concatenate(own).astype(np.float32)  # |x − μ|²
        self.squared = np.zeros(len(X), dtype=np.float32)
        self.squared[served] = np.square(distance_to_pool(X, served, pool)[0]) if len(pool) else 4 * self.own.max()
        self.kept: list[scipy.sparse.csc_array] = []

    def survey(self, rows: Int[np.ndarray, " some"], keep: bool = False) -> Float[np.ndarray, " some"]:
        """By how much the mean squared distance would fall, were each of these rows alone to serve, too.

        Args:
            rows: [some] the rows in question.
            keep: whether to keep the pairs that matter, so that `gains` and `add` need no blocks.
        """
        total, pairs = np.zeros(len(rows)), 0
        for some in _parts(len(rows), COLUMNS):
            shifted, offset = self._shifted(rows[some])
            blocks = []
            for part in _parts(len(self.X), ROWS):
                better = self.X[part].astype(np.float32, copy=False) @ shifted
                better -= offset
                better += (self.squared[part] - self.own[part])[:, None]
                total[some] += np.maximum(better, 0, out=better).sum(axis=0)
                if keep:
                    blocks.append(scipy.sparse.csr_array(better))
                    pairs += blocks[-1].nnz
                    keep = pairs <= PAIRS
            if keep:
                self.kept.append(scipy.sparse.vstack(blocks, format="csc"))
        if not keep:
            self.kept = []
        self.surveyed = self.squared.copy()
        self.position = {int(row): i for i, row in enumerate(rows)}
        return total / self.count

    def gains(self, rows: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """What `survey` said of these rows, as it is now."""
        if not self.kept:
            return self.survey(rows)
        total = np.empty(len(rows))
        for i, row in enumerate(rows):
            served, better = self._served(int(row))
            total[i] = np.maximum(better - (self.surveyed[served] - self.squared[served]), 0).sum(dtype=np.float64)
        return total / self.count

    def add(self, row: int) -> None:
        """Let a row serve."""
        if self.kept:
            served, better = self._served(row)
            self.squared[served] = np.minimum(self.squared[served], np.maximum(self.surveyed[served] - better, 0))
        else:
            shifted, offset = self._shifted(np.array([row]))
            for part in _parts(len(self.X), ROWS):
                nearer = (self.X[part].astype(np.float32, copy=False) @ shifted - offset)[:, 0]
                self.squared[part] = np.minimum(self.squared[part], np.maximum(self.own[part] - nearer, 0))
        self.squared[row] = 0

    def _served(self, row: int) -> tuple[Int[np.ndarray, " served"], Float[np.ndarray, " served"]]:
        """The rows that a row would have served better when it was surveyed, and by how much."""
        block, column = divmod(self.position[row], COLUMNS)
        matrix = self.kept[block]
        part = slice(matrix.indptr[column], matrix.indptr[column + 1])
        return matrix.indices[part], matrix.data[part]

    def _shifted(
        self, rows: Int[np.ndarray, " some"]
    ) -> tuple[Float[np.ndarray, "dim some"], Float[np.ndarray, " some"]]:
        """The columns 2(c − μ), and what goes off their products with the rows."""
        shifted = 2 * (self.X[rows] - self.mean).astype(np.float32).T
        return shifted, self.own[rows] + self.mean @ shifted


def _parts(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))
