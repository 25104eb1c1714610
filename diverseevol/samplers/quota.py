"""Quotas: any sampler, asked for so many rows of each source, or of each value of a field of the rows."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from diverseevol.errors import InputError, warn_once
from diverseevol.samplers.base import Needs, Sampler, Selection, choose, pool_of
from diverseevol.samplers.features import Features

log = logging.getLogger(__name__)

Shares = Literal["proportional", "equal"] | Mapping[str, float]


@dataclass(frozen=True)
class Quota:
    """Has another sampler choose within each group of rows, so that pool and picks together hold given shares.

    The groups are asked one after another, in the order of their names, each as if the data set were the pool (with the
    picks of the groups before) and the rows of that group alone: what the sampler does with the pool it does with all
    of it, and rows that another group has left are neither chosen nor looked at. Picks and scores are the sampler's, in
    the order in which they were picked. A group of which the pool has too many gives none; what a group has too few
    rows for, the others give, in proportion to their shares. Costs what the sampler costs for each group.

    Attributes:
        sampler: chooses within a group.
        by: what makes the groups: "source", or a field of the rows.
        shares: of pool and picks: "proportional", as of all rows that can be trained on; "equal"; or a share by group,
            where those that are not named have none and give rows only when no other has any left.
    """

    sampler: Sampler
    by: str = "source"
    shares: Shares = "proportional"

    def __post_init__(self) -> None:
        if isinstance(self.shares, str):
            return
        for name, share in self.shares.items():
            if not 0 <= share <= 1:
                raise InputError(f"sampler.shares: {name} has {share:g}; a share is from 0 to 1")
        if not math.isclose(total := sum(self.shares.values()), 1, abs_tol=1e-6):
            raise InputError(f"sampler.shares add up to {total:g}; give shares that add up to 1")

    @property
    def needs(self) -> Needs:
        """What the sampler needs, and the groups."""
        return replace(self.sampler.needs, columns=self.sampler.needs.columns | {self.by})

    def check(self, groups: Shaped[np.ndarray, " rows"]) -> None:
        """Check that the shares are of groups that there are.

        Raises:
            InputError: a name is none of theirs.
        """
        known = np.unique(groups).tolist()
        for name in self.shares if isinstance(self.shares, Mapping) else ():
            if name not in known:
                raise InputError(
                    f"sampler.shares names {name!r}, and sampler.quota={self.by} has the groups "
                    f"{', '.join(known[:20])}{', …' if len(known) > 20 else ''}; correct the name"
                )

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        labels = features.columns[self.by]
        names, group = np.unique(labels[features.eligible], return_inverse=True)
        groups = np.full(features.rows, -1)
        groups[features.eligible] = group
        taken = taken.copy()
        pool = np.bincount(groups[pool_of(features, taken)], minlength=len(names))
        left = np.bincount(groups[~taken], minlength=len(names))
        share = self._share(names, pool + left)
        self._tell_shortage(names, pool, left, share, n)
        selections: dict[str, Selection] = {}
        for number, size in enumerate(quotas(pool, left, share, n).tolist()):
            if size:
                outside = groups != number
                only = replace(features, response_tokens=np.where(outside & ~taken, 0, features.response_tokens))
                selection = choose(self.sampler, only, taken | outside, size, rng)
                taken[selection.rows] = True
                selections[str(names[number])] = selection
        if not selections:
            return Selection(np.empty(0, dtype=np.int64), np.empty(0))
        rows = np.concatenate([selection.rows for selection in selections.values()])
        score = np.concatenate([selection.score for selection in selections.values()])
        meanings = {selection.meaning for selection in selections.values()}
        named = (f"{name}: {selection.meaning}" for name, selection in selections.items())
        meaning = meanings.pop() if len(meanings) == 1 else "; ".join(named)
        return Selection(rows, score, f"{meaning} (within each {self.by})")

    def _share(
        self, names: Shaped[np.ndarray, " groups"], rows: Int[np.ndarray, " groups"]
    ) -> Float[np.ndarray, " groups"]:
        """The share of each group, of which there are so many rows."""
        if isinstance(self.shares, str):
            weights = rows if self.shares == "proportional" else np.ones(len(names))
        else:
            weights = np.array([self.shares.get(str(name), 0.0) for name in names])
        total = weights.sum()
        return np.asarray(weights / total if total else weights, dtype=np.float64)

    def _tell_shortage(
        self,
        names: Shaped[np.ndarray, " groups"],
        pool: Int[np.ndarray, " groups"],
        left: Int[np.ndarray, " groups"],
        share: Float[np.ndarray, " groups"],
        n: int,
    ) -> None:
        """Say which groups have fewer rows left than their shares ask for."""
        wanted = quotas(pool, np.full(len(left), n), share, n)
        for name, rows, asked in zip(names, left.tolist(), wanted.tolist(), strict=True):
            if asked > rows:
                warn_once(
                    log, "sampler.quota=%s: %s has %d rows left, and its share asks for %d; others give the rest",
                    self.by, name, rows, asked,
                )  # fmt: skip


def quotas(
    pool: Int[np.ndarray, " groups"],
    left: Int[np.ndarray, " groups"],
    share: Float[np.ndarray, " groups"],
    n: int,
) -> Int[np.ndarray, " groups"]:
    """How many rows each group gives, so that pool and picks together come as close to the shares as they can.

    A group gives what lifts it to its share of a size that all have in common, not less than nothing and not more than
    it has; the size is the one that makes it n rows. Fractions are rounded by the largest remainder, and of equal ones
    the first group's is rounded up.

    Args:
        pool: rows of each group in the pool.
        left: rows that each group has left.
        share: of each group, which add up to 1.
        n: rows to choose, not more than are left.
    """
    sharing = share > 0
    numbers = np.zeros(len(pool), dtype=np.int64)
    if n == 0:
        return numbers
    if (missing := n - int(left[sharing].sum())) > 0:  # then all of those, and the rest as the others have rows
        numbers[sharing] = left[sharing]
        numbers[~sharing] = _rounded(left[~sharing] * missing / left[~sharing].sum(), missing)
        return numbers
    P, Q, s = pool[sharing], left[sharing], share[sharing]
    # The rows that are given grow with the size, linearly between the sizes at which a group begins or ends to give.
    sizes = np.unique(np.concatenate([P / s, (P + Q) / s]))
    totals = np.array([np.clip(size * s - P, 0, Q).sum() for size in sizes])
    numbers[sharing] = _rounded(np.clip(np.interp(n, totals, sizes) * s - P, 0, Q), n)
    return numbers


def _rounded(exact: Float[np.ndarray, " groups"], total: int) -> Int[np.ndarray, " groups"]:
    """Whole numbers of this total, by the largest remainder."""
    floors = np.floor(exact + 1e-9).astype(np.int64)
    remainder = np.argsort(-np.round(exact - floors, 9), kind="stable")
    floors[remainder[: total - floors.sum()]] += 1
    return floors
