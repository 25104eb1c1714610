"""Facility location: the rows that stand for the rest, so that on average every row has one nearby."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.geometry.distances import distance_to_pool
from diverseevol.geometry.lazy_greedy import lazy_greedy
from diverseevol.geometry.row_blocks import mean_row
from diverseevol.samplers.base import Needs, Selection, embedding_of, pool_of
from diverseevol.samplers.features import Features

ROWS, COLUMNS = 1024, 2048  # of the block of distances that is in memory
PAIRS = 2**26  # distances that may be kept, at ten bytes each


@dataclass(frozen=True)
class FacilityLocation:
    """Always the row that lowers the mean squared distance of all eligible rows to their nearest row of the pool most.

    K-Center minimises the largest such distance and so goes for outliers; this is its counterpart for the mean. As
    maximisation: f(S) = Σ_i max_{j ∈ S} (d − |x_i − x_j|²) for a large d is monotone and submodular, so greedy choice
    comes within 1 − 1/e of the best (Nemhauser, Wolsey & Fisher 1978). It is the "exemplar-based clustering" of
    Mirzasoleiman et al. (2015, arXiv 1409.7938, the experiment of that name), and serves data selection in Wei, Iyer &
    Bilmes (2015).
    The score of a pick is by how much the mean fell. With nothing taken, the first pick is the row with the least
    mean squared distance to all, and its score counts from a distance that no two rows exceed.

    Costs rows² × dim multiplications in float32, in blocks and never as a rows × rows matrix. What is kept are the
    distances that can still matter, of rows nearer to a candidate than to the pool: about rows² / |pool|, and at most
    some 700 MB. Where the pool is too small for that, the first picks cost some tens × rows × dim each, and the blocks
    are gone through once more. The picks are the greedy algorithm's but for the rounding: gains that agree to about
    six digits may swap.

    Attributes:
        space: the embeddings of the round's own model, of the foundation model, or of the rows' words.
    """

    space: Literal["current", "foundation", "text"] = "current"

    row_by_row: ClassVar[bool] = True

    @property
    def needs(self) -> Needs:
        """The embeddings of one space."""
        return Needs(space=self.space)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        candidates, pool = np.flatnonzero(~taken), pool_of(features, taken)
        facilities = _Facilities(embedding_of(features), np.sort(np.concatenate([pool, candidates])), pool)
        # Of P random rows one in P + 1 is nearer than all others: so many pairs are to be expected, and twice is safe.
        unkept = min(n, max(0, 2 * facilities.count**2 // PAIRS - len(pool)))
        rows, score = facilities.pick(candidates, unkept, keep=False)
        more, more_score = facilities.pick(np.setdiff1d(candidates, rows), n - unkept, keep=True)
        meaning = "fall of the mean squared distance of all rows to the nearest one chosen; the highest is picked"
        return Selection(np.concatenate([rows, more]), np.concatenate([score, more_score]), meaning)


class _Facilities:
    """The rows to be served, and the squared distance of each to the nearest row that serves.

    With x and c rows less the mean, x·2c − |c|² = |x|² − |x − c|². The mean is taken off each block on its way to the
    product: hidden states share a large one, which would cancel digits away if it were taken off the product instead.

    Attributes:
        squared: [rows] to the nearest row that serves; 0 for rows that need none.
        kept: of each COLUMNS rows surveyed, which rows they would have served better. Distances to the nearest only
            fall, so they will never serve any other row better. Empty where that was too much to keep.
    """

    def __init__(
        self, X: Float[np.ndarray, "rows dim"], served: Int[np.ndarray, " served"], pool: Int[np.ndarray, " pool"]
    ) -> None:
        self.X = X
        self.count = len(served)
        self.mean = mean_row(X, served).astype(np.float32)
        own = [np.square(self._less_mean(part)).sum(axis=1) for part in _parts(len(X), ROWS)]
        self.own = np.concatenate(own)  # |x − μ|²
        self.squared = np.zeros(len(X), dtype=np.float32)
        far = 4 * self.own[served].max(initial=0)
        self.squared[served] = np.square(distance_to_pool(X, served, pool)[0]) if len(pool) else far
        self.kept: list[_Pairs] = []

    def pick(
        self, candidates: Int[np.ndarray, " candidates"], n: int, *, keep: bool
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Let n candidates serve, each the one that serves best: these, and by how much the mean fell."""
        if n == 0:
            return np.empty(0, dtype=np.int64), np.empty(0)
        picks, gained = lazy_greedy(
            self.survey(candidates, keep=keep),
            lambda batch: self.gains(candidates[batch]),
            lambda pick: self.add(int(candidates[pick])),
            n,
        )
        return candidates[picks], gained

    def survey(self, rows: Int[np.ndarray, " some"], *, keep: bool = False) -> Float[np.ndarray, " some"]:
        """By how much the mean squared distance would fall, were each of these rows alone to serve, too.

        Args:
            rows: [some] the rows in question.
            keep: whether to keep the pairs that matter, so that `gains` and `add` need no blocks.
        """
        total = np.zeros(len(rows))
        kept: list[_Pairs] = []
        for block in _parts(len(rows), COLUMNS):
            columns, offset = 2 * self._less_mean(rows[block]).T, self.own[rows[block]]
            pairs: list[_Pairs] = []
            for part in _parts(len(self.X), ROWS):
                better = self._less_mean(part) @ columns
                better -= offset
                already = self.own[part] - self.squared[part]
                if keep:
                    pairs.append(_Pairs.above(better, already, part.start))
                    total[block] += pairs[-1].sums(len(offset))
                else:
                    better -= already[:, None]
                    total[block] += np.maximum(better, 0, out=better).sum(axis=0)
            if keep:
                kept.append(_Pairs.by_column(pairs))
                keep = sum(len(pairs.better) for pairs in kept) <= PAIRS
        self.kept = kept if keep else []
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
            column = 2 * self._less_mean(np.array([row]))[0]
            for part in _parts(len(self.X), ROWS):
                nearer = self._less_mean(part) @ column - self.own[row]
                self.squared[part] = np.minimum(self.squared[part], np.maximum(self.own[part] - nearer, 0))
        self.squared[row] = 0

    def _served(self, row: int) -> tuple[Int[np.ndarray, " served"], Float[np.ndarray, " served"]]:
        """The rows that a row would have served better when it was surveyed, and by how much."""
        block, column = divmod(self.position[row], COLUMNS)
        pairs = self.kept[block]
        part = slice(*np.searchsorted(pairs.column, [column, column + 1]))
        return pairs.row[part], pairs.better[part]

    def _less_mean(self, rows: slice | Int[np.ndarray, " some"]) -> Float[np.ndarray, "some dim"]:
        """Some rows less the mean, in float32."""
        shifted: np.ndarray = (self.X[rows] - self.mean).astype(np.float32, copy=False)
        return shifted


@dataclass(frozen=True)
class _Pairs:
    """Rows, columns of a block of candidates, and by how much the one would serve the other better."""

    row: Int[np.ndarray, " pairs"]
    column: Int[np.ndarray, " pairs"]
    better: Float[np.ndarray, " pairs"]

    @classmethod
    def above(
        cls, values: Float[np.ndarray, "part some"], thresholds: Float[np.ndarray, " part"], start: int
    ) -> "_Pairs":
        """The entries above their row's threshold, less that, and the number of their row."""
        entries = np.flatnonzero(values > thresholds[:, None])
        row, column = np.divmod(entries.astype(np.int32), np.int32(values.shape[1]))
        return cls(row + np.int32(start), column.astype(np.int16), values.ravel()[entries] - thresholds[row])

    @classmethod
    def by_column(cls, parts: list["_Pairs"]) -> "_Pairs":
        """All of them, sorted by column."""
        column = np.concatenate([part.column for part in parts])
        order = np.argsort(column, kind="stable")
        row, better = (np.concatenate([getattr(part, name) for part in parts])[order] for name in ("row", "better"))
        return cls(row, column[order], better)

    def sums(self, columns: int) -> Float[np.ndarray, " columns"]:
        """The sum of each column."""
        return np.bincount(self.column, self.better, columns).astype(np.float64, copy=False)  # of no pairs: integers


def _parts(length: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, length, step))
