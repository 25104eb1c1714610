"""The seam between the loop and the choice of rows: what a sampler needs, what it gives, and the checks on both.

A sampler is a pure function of features, taken rows, n and a random generator. It owns no model, file, rank or
loop. Adding one is one file here and one YAML in `conf/sampler/`; the contract tests find it there by themselves.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.errors import InputError
from diverseevol.samplers.features import Features


@dataclass(frozen=True)
class Needs:
    """What a sampler wants to know of the rows; the loop computes this and nothing more.

    Attributes:
        space: whose embeddings: none, those of the round's own model ("current"), the foundation's, or those of "text",
            which need no model (see `diverseevol.data.text_space`).
        statistics: names of per-row token statistics from the same pass (see `engine.probing.token_statistics`).
        committee: how many further models (query by committee) the loop must train on resamples of the pool.
        earlier: how many of the last rounds' models sit on the committee, which the loop then keeps; early rounds
            have fewer.
        lengths: whether `Features.response_tokens` is chosen by; the loop always knows it, but a user who brings
            embeddings may not.
        columns: fields of the records, beside instruction, input and response, that it may see (labels, as a rule).
            A sampler that names none sees none.
    """

    space: Literal["none", "text", "current", "foundation"] = "none"
    statistics: frozenset[str] = frozenset()
    committee: int = 0
    earlier: int = 0
    lengths: bool = False
    columns: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Selection:
    """The rows chosen, in pick order, with the sampler's score for each at the moment it was picked.

    Attributes:
        rows: [n] row numbers.
        score: [n] what each was picked for.
        meaning: what the score is, its unit, and whether the highest or the lowest is picked; for readers.
    """

    rows: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    meaning: str = "the sampler's own"


@runtime_checkable
class Sampler(Protocol):
    """Chooses the rows that join the pool."""

    @property
    def needs(self) -> Needs:
        """What the loop must compute before `select` is called."""
        ...

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows among those not taken.

        Args:
            features: per-row facts, of which `needs` are present.
            taken: [rows] True for rows that must not be chosen (the pool and the ineligible rows).
            n: how many rows; at most the number of rows not taken.
            rng: the only source of randomness.

        Returns:
            n distinct rows, none of them taken, in pick order.

        Raises:
            InputError: what it chooses by is NaN or inf for some row, or does not allow for its options.
        """
        ...


def chooses_row_by_row(sampler: Sampler) -> bool:
    """Whether of more picks the first are those of fewer, so that a row has a rank beyond the budget.

    A sampler says so by an attribute `row_by_row`; one that draws at random, or looks at n first, has none.
    """
    return bool(getattr(sampler, "row_by_row", False))


def pool_of(features: Features, taken: Bool[np.ndarray, " rows"]) -> Int[np.ndarray, " pool"]:
    """The rows trained on so far: those taken, less those that are taken only because they are ineligible."""
    return np.flatnonzero(taken & (features.response_tokens > 0))


def embedding_of(features: Features) -> Float[np.ndarray, "rows dim"]:
    """The embeddings that a sampler's needs named.

    Raises:
        ValueError: they were not computed.
    """
    if features.embedding is None:
        raise ValueError("this sampler needs embeddings, and these features hold none")
    return features.embedding


def finite_scores(features: Features, statistic: str, rows: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
    """A statistic of some rows, all of it finite: NaN has no place in an order.

    Raises:
        InputError: a row's is NaN or inf.
    """
    values: np.ndarray = features.scores[statistic][rows]
    bad = rows[~np.isfinite(values)]
    if len(bad):
        raise InputError(
            f"{statistic}, row {', '.join(map(str, bad[:5]))}{' and others' if len(bad) > 5 else ''}: the model's "
            f"prediction is not a finite number; lower tuning.learning_rate or use trainer.precision=32-true"
        )
    return values


def choose(
    sampler: Sampler, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
) -> Selection:
    """Ask a sampler for n rows and check what it gives, so that no sampler needs to check for itself.

    Raises:
        InputError: more rows are asked for than are left.
        RuntimeError: the sampler broke its contract.
    """
    left = int((~taken).sum())
    if n < 0 or n > left:
        raise InputError(
            f"{n} rows were asked for but {left} are left to choose from; lower schedule.step_size or "
            f"schedule.rounds, or bring more rows"
        )
    selection = sampler.select(features, taken, n, rng)
    rows = selection.rows
    name = type(sampler).__name__
    if len(rows) != n or len(np.unique(rows)) != n:
        raise RuntimeError(f"{name} gave {len(np.unique(rows))} distinct rows of {len(rows)} instead of {n}")
    if n and (rows.min() < 0 or rows.max() >= len(taken) or taken[rows].any()):
        raise RuntimeError(f"{name} chose rows that are taken or do not exist: {rows[:5].tolist()} …")
    return selection
