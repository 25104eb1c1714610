"""Farthest-first traversal, exact and lazy: K-Center's greedy choice with one pass over the rows.

Every candidate carries an upper bound of its squared distance to the nearest centre. Bounds only become too high as
centres join, so a candidate whose bound is up to date and the largest is the farthest row: most distances are never
computed. docs/farthest_first.md proves that the picks are exact.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.utils.dlpack import from_dlpack  # from_numpy warns of read-only memory maps

from diverseevol.geometry.distances import squared_distances
from diverseevol.geometry.row_blocks import check_finite, mean_row
from diverseevol.parallel.threads import workers

# Memory against calls: larger blocks need fewer calls, and leave the processor's cache.
BLOCK_ELEMENTS = 2**20  # a block of rows: 256 rows of 4,096 numbers
KEPT_ELEMENTS = 2**23  # picks kept in float64: 2,048 of 4,096 numbers, 64 MiB; earlier ones are read from X again
CENTRES_AT_ONCE = 64  # centres that one worker compares with rows

# The first pass against later work: more centres make it longer and its bounds tighter.
FIRST_CENTRES = (16, 1024)  # fewest and most; in between a sixteenth of the centres
FIRST_OPEN = 1024  # candidates that are searched at each pick, at first; doubled when a closed one may be the farthest

# Work for a pick against the number of turns: a large batch may measure candidates in vain, a small one takes turns.
RECENT = 8  # up to so many missing picks are recent
LONG_AGO_AT_ONCE = 32
UNMEASURED_AT_ONCE = (192, 512)  # fewest and most; in between as many as were measured before

# Bounds of rounding errors.
ROUNDING = 2 * 2.0**-8 + 2.0**-16  # of a product whose factors may be cut to bfloat16
UNIT32, UNIT64, TINY = 2.0**-24, 2.0**-53, 2.0**-120  # of one operation in float32, in float64, of an underflow


class Stale(IntEnum):
    """Which centres the value of a candidate does not yet account for."""

    RECENT = 0  # the last few picks: their distances cost little, and one candidate at a time is most often enough
    LONG_AGO = 1  # more picks than that
    UNMEASURED = 2  # all centres: the value is a first bound, and each centre has to be read


def farthest_first(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    n: int,
    centres: Int[np.ndarray, " centres"] | None = None,
    among: Int[np.ndarray, " some"] | None = None,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Pick n rows one after another, each the one farthest from all centres and all rows picked before it.

    These are the picks of a greedy algorithm that knows all distances in float64 (Gonzalez 1985, section 2); of equally
    far rows the lowest is picked. Without any centre the first pick is the row nearest the mean. X is read in blocks
    and never copied completely; 40 bytes a row are kept, and 64 MiB of picks at most.

    Args:
        X: the rows, of any float precision, memory-mapped or not.
        taken: [rows] True for rows that must not be picked.
        n: how many to pick; at most the number of rows not taken.
        centres: the rows to be far from; None is all rows taken.
        among: the rows whose mean a first pick without any centre lies nearest to; None is all.

    Returns:
        The picks in order, and the distance of each to its nearest centre at that moment; of a first pick without
        any centre, the distance to the mean.

    Raises:
        InputError: a row holds NaN or inf.
    """
    centres = np.flatnonzero(taken) if centres is None else centres
    with workers() as pool:
        picks = []
        if n and len(centres) == 0:
            picks = [_nearest_to_mean(X, taken, among, pool)]
            centres = np.array([picks[0][0]])
            taken = taken | np.isin(np.arange(len(X)), centres)
        if n > len(picks):
            candidates = Candidates(X, taken, n - len(picks), centres, pool)
            picks += [candidates.pick() for _ in range(n - len(picks))]
    return np.array([row for row, _ in picks], dtype=np.int64), np.sqrt([squared for _, squared in picks])


def _nearest_to_mean(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    among: Int[np.ndarray, " some"] | None,
    pool: ThreadPoolExecutor,
) -> tuple[int, float]:
    """The row nearest the mean, the lowest of several, and its squared distance."""
    mean = torch.from_numpy(mean_row(X, among))
    squared = np.empty(len(X))

    def measure(part: slice) -> None:
        squared[part] = (from_dlpack(np.ascontiguousarray(X[part])).double() - mean).square_().sum(dim=1).numpy()

    list(pool.map(measure, _parts(X)))
    squared[taken] = np.inf
    row = int(squared.argmin())
    return row, float(squared[row])


class Candidates:
    """The rows not taken, by falling first bound. Those that may matter soon are open, in the order of their numbers.

    Attributes:
        row: [candidates] row numbers. The first `opened` are open; no closed one has a value above `value[opened]`.
        value: [candidates] upper bounds of the squared distance to all centres; −1 once picked.
        seen: [candidates] the number of centres that the value is exact for; 0 is none: a first bound.
        centres: the centres at the start, then the picks.
        picked, lengths: [kept, dim], [kept] the last `picks` picks, less the shift, and their lengths.
    """

    def __init__(
        self,
        X: Float[np.ndarray, "rows dim"],
        taken: Bool[np.ndarray, " rows"],
        n: int,
        centres: Int[np.ndarray, " centres"],
        pool: ThreadPoolExecutor,
    ) -> None:
        self.X, self.centres, self.pool = X, centres, pool
        self.shift = X[centres[0]].astype(np.float64)
        bound = np.where(taken, -1, upper_bounds(X, centres, pool))
        self.row = np.argsort(-bound, kind="stable")[: len(X) - int(taken.sum())]
        self.value, self.seen = bound[self.row], np.zeros(len(self.row), dtype=np.int64)
        self.picked = torch.empty(min(n, max(1, KEPT_ELEMENTS // X.shape[1])), X.shape[1], dtype=torch.float64)
        self.lengths, self.picks = torch.empty(len(self.picked), dtype=torch.float64), 0
        self._open(FIRST_OPEN)

    def pick(self) -> tuple[int, float]:
        """Take the farthest candidate: its row and its squared distance. It becomes a centre."""
        recent_at_once = 1
        while True:
            value, seen = self.value[: self.opened], self.seen[: self.opened]
            best = int(value.argmax())  # the first of several, and so the lowest row
            if self.opened < len(self.row) and value[best] <= self.value[self.opened]:
                self._open(2 * self.opened)
                continue
            missing = len(self.centres) - seen
            stale = (missing > 0) & (value > 0)
            if not stale[best]:
                break
            # The best candidate is brought up to date together with others that might be picked in its place. Only
            # those of its own kind: one that lacks many centres would have all of a batch read them.
            kind = np.where(seen == 0, Stale.UNMEASURED, np.where(missing > RECENT, Stale.LONG_AGO, Stale.RECENT))
            at_once = {
                Stale.RECENT: recent_at_once,
                Stale.LONG_AGO: LONG_AGO_AT_ONCE,
                Stale.UNMEASURED: int(np.clip(np.count_nonzero(seen), *UNMEASURED_AT_ONCE)),
            }[Stale(kind[best])]
            rivals = stale & (kind == kind[best]) & (value >= value[~stale].max(initial=0))
            self._make_exact(np.flatnonzero(rivals), at_once)
            recent_at_once *= 2
        row, squared = int(self.row[best]), float(value[best])
        value[best] = -1
        self._add_centre(row)
        return row, squared

    def _add_centre(self, row: int) -> None:
        self.centres = np.append(self.centres, row)
        if self.picks == len(self.picked):  # the later half stays; earlier picks are read from X, as first centres are
            self.picks //= 2
            for kept in (self.picked, self.lengths):
                kept[: self.picks] = kept[len(kept) - self.picks :]
        self.picked[self.picks] = torch.from_numpy(self.X[row] - self.shift)
        self.lengths[self.picks] = torch.linalg.vector_norm(self.picked[self.picks])
        self.picks += 1

    def _open(self, count: int) -> None:
        """Open more rows, the next by first bound."""
        self.opened = min(count, len(self.row))
        order = np.argsort(self.row[: self.opened])
        for field in (self.row, self.value, self.seen):
            field[: self.opened] = field[order]

    def _make_exact(self, members: Int[np.ndarray, " open"], at_once: int) -> None:
        """Make the largest values of these candidates, at most `at_once`, exact against all centres."""
        at_once = min(at_once, max(1, 2 * BLOCK_ELEMENTS // max(len(self.centres), self.X.shape[1])))
        if len(members) > at_once:
            members = members[np.argpartition(-self.value[members], at_once)[:at_once]]
        oldest = int(self.seen[members].min())
        rows, centres = self.row[members], self.centres[oldest:]
        least = np.where(self.seen[members] == 0, np.inf, self.value[members])
        # Lower bounds say which centres can be nearest. The most likely centre is measured first, which rules out
        # nearly all others; where there are few pairs, measuring them all costs less than bounds would.
        measure_all = len(rows) * len(centres) <= RECENT
        low = np.full((len(rows), len(centres)), -np.inf) if measure_all else self._lower_bounds(rows, oldest)
        nearest = low.argmin(axis=1)
        near = np.flatnonzero(low[np.arange(len(rows)), nearest] < least)
        np.minimum.at(least, near, squared_distances(self.X, rows[near], centres[nearest[near]]))
        low[near, nearest[near]] = np.inf
        near, centre = np.nonzero(low < least[:, None])
        np.minimum.at(least, near, squared_distances(self.X, rows[near], centres[centre]))
        self.value[members], self.seen[members] = least, len(self.centres)

    def _lower_bounds(self, rows: Int[np.ndarray, " m"], oldest: int) -> Float[np.ndarray, "m centres"]:
        """Lower bounds, a rounding away, of the squared distances of rows to all centres from `oldest` on."""
        A = torch.from_numpy(self.X[rows] - self.shift)
        a = torch.linalg.vector_norm(A, dim=1, keepdim=True)
        unkept = len(self.centres) - self.picks  # centres that are read from X

        def bound(start: int) -> np.ndarray:
            if start >= unkept:
                C, c = self.picked[start - unkept : self.picks], self.lengths[start - unkept : self.picks]
            else:
                C = torch.from_numpy(self.X[self.centres[start : min(start + CENTRES_AT_ONCE, unkept)]] - self.shift)
                c = torch.linalg.vector_norm(C, dim=1)
            error = (2 * self.X.shape[1] + 16) * UNIT64 * (a + c).square()
            return np.asarray((a.square() + c.square() - 2 * (A @ C.T) - error).clamp_(min=0).numpy())

        starts = [*range(oldest, unkept, CENTRES_AT_ONCE), max(oldest, unkept)]
        return np.hstack(list((self.pool.map if len(starts) > 1 else map)(bound, starts)))


def product(
    A: Float[torch.Tensor, "rows dim"], C: Float[torch.Tensor, "centres dim"]
) -> Float[torch.Tensor, "rows centres"]:
    """The products of the first bounds, in whatever precision torch is set to take them."""
    return A @ C.T


def upper_bounds(
    X: Float[np.ndarray, "rows dim"], centres: Int[np.ndarray, " centres"], pool: ThreadPoolExecutor
) -> Float[np.ndarray, " rows"]:
    """The first bound of every row, in one pass, from some of the centres, spread evenly over them."""
    # A sixteenth of the centres bounds clustered rows tightly enough for all but some hundreds of them. At the most
    # the pass is a long product already, and these centres are copied in float32.
    count = min(len(centres), int(np.clip(len(centres) // 16, *FIRST_CENTRES)))
    chosen = centres[np.linspace(0, len(centres) - 1, count).astype(np.int64)]
    with np.errstate(all="ignore"):  # check_finite names what is wrong
        shift = X[chosen].mean(axis=0, dtype=np.float64).astype(np.float32)
        C = torch.from_numpy((X[chosen] - shift).astype(np.float32))
    half, longest = C.square().sum(dim=1) / 2, torch.linalg.vector_norm(C, dim=1).max().double()
    bound = np.empty(len(X))  # filled in place: small results kept between large blocks would scatter the memory

    def fill(part: slice) -> None:
        shifted = (from_dlpack(np.ascontiguousarray(X[part])) - torch.from_numpy(shift)).float()
        length = torch.linalg.vector_norm(shifted, dim=1).double()
        gain = product(shifted, C).sub_(half).amax(dim=1).double()
        slack = 2 * ROUNDING * length * longest + (2 * X.shape[1] + 16) * UNIT32 * (length + longest).square()
        bound[part] = (length.square() - 2 * gain + slack + X.shape[1] * TINY).numpy()

    list(pool.map(fill, _parts(X)))
    if not np.isfinite(bound).all():
        check_finite(X)
    return bound


def _parts(X: Float[np.ndarray, "rows dim"]) -> Iterator[slice]:
    """Consecutive rows, a block's worth at a time."""
    step = max(1, BLOCK_ELEMENTS // X.shape[1])
    return (slice(start, start + step) for start in range(0, len(X), step))
