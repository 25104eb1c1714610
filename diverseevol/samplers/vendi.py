"""Vendi: pools of a diversity that is chosen, by rank among random batches or greedily."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.errors import InputError
from diverseevol.geometry.diversity import unit_directions, vendi_score
from diverseevol.geometry.lazy_greedy import lazy_greedy
from diverseevol.geometry.row_blocks import check_finite
from diverseevol.samplers.base import Needs, Selection, embedding_of, pool_of
from diverseevol.samplers.features import Features

ROWS = 4096  # whose products with the pool are in memory together

# Where log(1 + m(s)) is sampled, s = e^u: steps of 0.8 leave an error of e^(−2π²/0.8), ends at ±34 one of e^−34.
SAMPLES = np.exp(np.arange(-34, 34.1, 0.8))


@dataclass(frozen=True)
class Vendi:
    """Draws random batches and takes the one at a chosen rank of the Vendi-Score of pool and batch together.

    This is the paper's instrument for pools of one size and different diversity (arXiv 2311.08182, the analysis of
    figure 4). The score of every pick is the Vendi-Score that the batch leads to. Costs `batches` Vendi-Scores of
    |pool| + n rows, each a cube of that number or of dim, whichever is less.

    With `greedy` the batch is built row by row instead, each the one that raises the Vendi-Score most; its score is
    the Vendi-Score with it. Among sets of one size the score's logarithm grows with −tr C log C, C the sum of the
    rows' outer products, which is submodular (Friedland & Gaubert 2013: the derivative of λ log λ is operator
    monotone), so lazy evaluation gives the greedy algorithm's very picks. Costs rows × dim × min(|pool|, dim) once,
    and for each pick an eigendecomposition of min(|pool| + picks, dim) rows.

    Attributes:
        batches: how many random batches are drawn.
        rank: which of them is taken: 1 leads to the highest Vendi-Score, `batches` to the lowest.
        greedy: build one batch greedily; then `batches` and `rank` say nothing.
        space: the foundation model's embeddings, the paper's, those of the round's own model, or the rows' words.
    """

    batches: int = 100
    rank: int = 1
    greedy: bool = False
    space: Literal["foundation", "current", "text"] = "foundation"

    def __post_init__(self) -> None:
        if self.batches < 1 or not 1 <= self.rank <= self.batches:
            raise InputError(
                f"sampler.rank is {self.rank} of sampler.batches={self.batches}; it must be from 1, the most diverse "
                f"batch, to the number of batches"
            )

    @property
    def row_by_row(self) -> bool:
        """Whether of more picks the first are those of fewer."""
        return self.greedy

    @property
    def needs(self) -> Needs:
        """The embeddings of one space."""
        return Needs(space=self.space)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        X, pool, candidates = embedding_of(features), pool_of(features, taken), np.flatnonzero(~taken)
        if n == 0:
            return Selection(rows=np.empty(0, dtype=np.int64), score=np.empty(0))
        check_finite(X)
        if self.greedy:
            return _greedy(X, pool, candidates, n)
        drawn = [rng.choice(candidates, size=n, replace=False) for _ in range(self.batches)]
        scores = np.array([vendi_score(X[np.concatenate([pool, batch])]) for batch in drawn])
        best = np.argsort(-scores, kind="stable")[self.rank - 1]
        meaning = f"Vendi-Score of the pool and all picks; rank {self.rank} of {self.batches} random batches"
        return Selection(drawn[best], np.full(n, scores[best]), meaning)


def _greedy(
    X: Float[np.ndarray, "rows dim"], pool: Int[np.ndarray, " pool"], candidates: Int[np.ndarray, " candidates"], n: int
) -> Selection:
    spectrum = _Spectrum(unit_directions(X[pool]), dual=len(pool) + n <= X.shape[1])
    parts = [candidates[start : start + ROWS] for start in range(0, len(candidates), ROWS)]
    picks, gained = lazy_greedy(
        np.concatenate([spectrum.gains(unit_directions(X[part])) for part in parts]),
        lambda batch: spectrum.gains(unit_directions(X[candidates[batch]])),
        lambda pick: spectrum.add(unit_directions(X[candidates[[pick]]])),
        n,
    )
    sizes = len(pool) + 1 + np.arange(n)
    # Σ λ/n log λ/n of the eigenvalues λ of C, whose sum is n, is (Σ λ log λ)/n − log n.
    score = sizes * np.exp((spectrum.initial + np.cumsum(gained)) / sizes)
    return Selection(candidates[picks], score, "Vendi-Score of the pool and the picks so far; the highest is picked")


class _Spectrum:
    """The eigenvalues and eigenvectors of C = Σ x xᵀ over the pool's directions x, and what −tr C log C gains.

    A row x adds −1 + ∫ (log(1 + m(s)) − 1/(1 + s)) ds over s from 0 to ∞, with m(s) = xᵀ (C + s)⁻¹ x: integrate
    λ log λ = ∫ (λ/(1 + s) − λ/(λ + s)) ds by parts, after det(C + xxᵀ + s)/det(C + s) = 1 + m(s). With s = e^u the
    integrand is analytic for |Im u| < π and falls off at both ends, so the trapezoidal rule converges exponentially.
    """

    def __init__(self, rows: Float[np.ndarray, "pool dim"], *, dual: bool) -> None:
        """Start from the pool's directions; `dual` decomposes their products with one another instead of C."""
        self.rows = rows
        self.dual = dual
        self.products = rows @ rows.T if dual else rows.T @ rows
        self._decompose()
        self.initial = -float(self.values @ np.log(self.values))

    def add(self, row: Float[np.ndarray, "one dim"]) -> None:
        """Let a row join."""
        if self.dual:
            across = self.rows @ row.T
            self.products = np.block([[self.products, across], [across.T, row @ row.T]])
            self.rows = np.concatenate([self.rows, row])
        else:
            self.products += row.T @ row
        self._decompose()

    def gains(self, rows: Float[np.ndarray, "some dim"]) -> Float[np.ndarray, " some"]:
        """By how much each of these rows alone would raise −tr C log C."""
        weights = np.square((rows @ self.rows.T if self.dual else rows) @ self.vectors)
        beyond = np.maximum(1 - weights.sum(axis=1, keepdims=True), 0)  # of |x|² = 1, outside the span of C
        m = weights @ (1 / (self.values[:, None] + SAMPLES)) + beyond / SAMPLES
        step = np.log(SAMPLES[1] / SAMPLES[0])
        integral: np.ndarray = step * ((np.log1p(m) - 1 / (1 + SAMPLES)) @ SAMPLES)
        return integral - 1

    def _decompose(self) -> None:
        values, vectors = np.linalg.eigh(self.products)
        spanned = values > 1e-10 * max(len(values), 1)  # equal rows span less than their number
        self.values = values[spanned]
        self.vectors = vectors[:, spanned] / (np.sqrt(self.values) if self.dual else 1)
