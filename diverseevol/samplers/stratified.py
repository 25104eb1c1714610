"""Stratified sampling: as many rows of every label, and none that another label rules out; the lab's oracle."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from diverseevol.samplers.base import Needs, Selection, pool_of
from diverseevol.samplers.features import Features


@dataclass(frozen=True)
class Stratified:
    """Always a random row of the label that the pool has fewest rows of.

    It sees what no other sampler sees: labels. Where rows have them (Dolly's `category`), it says what balance alone
    is worth; on the lab, whose labels are the truth, it is the oracle that a sampler may be held against. The score
    of a pick is how many rows of its label there were before it. Of equally rare labels one drawn at random comes
    first. Costs no model, one sort.

    Attributes:
        balance: the field whose values are balanced.
        without: a field that rules a row out where it says anything (not "", null, false or 0): in the pool it counts
            as no row of its label, and it is chosen only when no other is left. None rules none out.
    """

    balance: str
    without: str | None = None

    @property
    def needs(self) -> Needs:
        """The two fields."""
        return Needs(columns=frozenset({self.balance, *([] if self.without is None else [self.without])}))

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        names, label = np.unique(features.columns[self.balance], return_inverse=True)
        ruled_out = np.zeros(features.rows, dtype=bool)
        if self.without is not None:
            ruled_out = features.columns[self.without] != ""
        pool = pool_of(features, taken)
        count = np.bincount(label[pool[~ruled_out[pool]]], minlength=len(names))
        order = rng.permutation(np.flatnonzero(~taken))
        order = order[np.argsort(ruled_out[order], kind="stable")]  # sound rows first
        # A row finds so many of its label there, if each label's rows join in this order.
        height = count[label[order]] + _rank_within(label[order])
        turn = rng.permutation(len(names))  # among equally rare labels
        picks = np.lexsort((turn[label[order]], height, ruled_out[order]))[:n]
        meaning = f"rows of the same {self.balance} in the pool or picked before; the lowest is picked"
        return Selection(order[picks], height[picks].astype(np.float64), meaning)


def _rank_within(label: np.ndarray) -> np.ndarray:
    """How many of the same label come before each."""
    by_label = np.argsort(label, kind="stable")
    _, start, size = np.unique(label[by_label], return_index=True, return_counts=True)
    rank = np.empty(len(label), dtype=np.int64)
    rank[by_label] = np.arange(len(label)) - np.repeat(start, size)
    return rank
