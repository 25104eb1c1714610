"""Farthest-first traversal, exact and lazy: K-Center's greedy choice with one pass over the rows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.utils.dlpack import from_dlpack  # from_numpy warns of read-only memory maps

from diverseevol.geometry.distances import squared_distances
from diverseevol.geometry.row_blocks import check_finite, mean_row
from diverseevol.parallel.threads import workers as _workers

BLOCK_ELEMENTS = 2**20  # 256 rows of 4,096 numbers: a block of float32 stays in the processor's cache
KEPT_ELEMENTS = 2**23  # 2,048 picks of 4,096 numbers, in float64: 64 MiB
ROUNDING = 2 * 2.0**-8 + 2.0**-16  # of a product whose factors may be rounded to bfloat16
PART = 64  # centres that a worker compares with rows at once
RECENT = 8  # picks: a value that lacks no more than these is brought up to date by itself
UNIT32, UNIT64, TINY = 2.0**-24, 2.0**-53, 2.0**-120  # of a rounding of float32, of float64, of an underflow


def farthest_first(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    n: int,
    centres: Int[np.ndarray, " centres"] | None = None,
    among: Int[np.ndarray, " some"] | None = None,
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Pick n rows one after another, each the one farthest from all centres and all rows picked so far.

    These are the picks of a greedy algorithm that knows all distances in float64; of equally far rows the lowest
    is picked. Without any centre the first pick is the row nearest the mean. X is read in blocks and never copied
    as a whole; what is kept is 40 bytes for each row, and 64 MiB of picks at most.

    Why the picks are exact. Picks are centres, too. Write D²(x) for the squared distance of row x to its nearest
    centre. Every row carries a value v(x) ≥ D²(x):
      1. At first v(x) = |a|² − max (2 a·c − |c|²) + slack over *some* centres c, a and c both less a common shift:
         a minimum over fewer centres is no smaller, and the slack exceeds the rounding in float32, which is at most
         - twice ROUNDING·|a||c| for factors cut to bfloat16 or TF32 (2u + u² by Cauchy–Schwarz, u = 2⁻⁸), so no
           global precision setting of torch can break the bound;
         - (2 dim + 16)·2⁻²⁴·(|a| + |c|)² for the rest. Sums of dim terms take dim/2 for 2 a·c, for |a||c| ≤ (|a| +
           |c|)²/4, and dim for |a|² and |c|²; what is left of 2 dim is far more than the slack itself may be too
           small because |a| and the longest |c| are rounded, too. Of the 16, 3 are for a and c, whose components
           are rounded when the shift is taken off, and the others for the last few differences;
         - dim·TINY for underflow: each of dim terms may lose some 2⁻¹²⁶ of its own, and what a cut factor loses
           that way is below 2⁻²⁴ of the other one's square, or below 2⁻²²⁶.
      2. D² only shrinks when a centre joins, so an old v(x) stays a bound. An old v(x) = 0 stays exact.
      3. The row of the largest v is picked only when its v was made exact against all centres so far. Then
         D²(x) = v(x) ≥ v(y) ≥ D²(y) for every other row y, which is what the greedy algorithm asks.
      4. Where D²(y) = D²(x) in 3, v(y) = v(x), too. No such y is left aside, for a row whose bound equals the largest
         value is let in first; those let in lie by row number, and `argmax` takes the first. So x is the lowest.
    An exact value is a float64 sum of squared differences, the same bits for the same pair of rows wherever it is
    computed; float64 products only sort out which centres can be the nearest.

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
    with _workers() as workers:
        picks = []
        if n and len(centres) == 0:
            picks = [_nearest_the_mean(X, taken, among, workers)]
            centres = np.array([picks[0][0]])
            taken = taken | np.isin(np.arange(len(X)), centres)
        if n > len(picks):
            candidates = _Candidates(X, taken, n - len(picks), centres, workers)
            picks += [candidates.pick() for _ in range(n - len(picks))]
    return np.array([row for row, _ in picks], dtype=np.int64), np.sqrt([squared for _, squared in picks])


def _nearest_the_mean(
    X: Float[np.ndarray, "rows dim"],
    taken: Bool[np.ndarray, " rows"],
    among: Int[np.ndarray, " some"] | None,
    workers: ThreadPoolExecutor,
) -> tuple[int, float]:
    """The row nearest the mean, the lowest of several, and its squared distance."""
    mean = torch.from_numpy(mean_row(X, among))
    squared = np.empty(len(X))

    def measure(part: slice) -> None:
        squared[part] = (from_dlpack(np.ascontiguousarray(X[part])).double() - mean).square_().sum(dim=1).numpy()

    list(workers.map(measure, _parts(X)))
    squared[taken] = np.inf
    row = int(squared.argmin())
    return row, float(squared[row])


class _Candidates:
    """The rows not taken, by falling first bound; those that may matter soon are "open", and lie by row number.

    Attributes:
        row: [candidates] row numbers. The first `opened` are open; no other has a value above `value[opened]`.
        value: [candidates] upper bounds of the squared distance to all centres; −1 once picked.
        seen: [candidates] how many centres the value is exact for; 0 is none: a first bound.
        centres: those given, then the picks.
        picked, lengths: [kept, dim], [kept] the last `picks` picks, less the shift, and their lengths.
    """

    def __init__(
        self,
        X: Float[np.ndarray, "rows dim"],
        taken: Bool[np.ndarray, " rows"],
        n: int,
        centres: Int[np.ndarray, " centres"],
        workers: ThreadPoolExecutor,
    ) -> None:
        self.X, self.centres, self.workers = X, centres, workers
        self.shift = X[centres[0]].astype(np.float64)
        bound = np.where(taken, -1, _upper_bounds(X, centres, workers))
        self.row = np.argsort(-bound, kind="stable")[: len(X) - int(taken.sum())]
        self.value, self.seen = bound[self.row], np.zeros(len(self.row), dtype=np.int64)
        self.picked = torch.empty(min(n, max(1, KEPT_ELEMENTS // X.shape[1])), X.shape[1], dtype=torch.float64)
        self.lengths, self.picks = torch.empty(len(self.picked), dtype=torch.float64), 0
        self._open(1024)

    def pick(self) -> tuple[int, float]:
        """Take the farthest candidate: its row and its squared distance. It becomes a centre."""
        few = 1  # most often one is enough
        while True:
            value, seen = self.value[: self.opened], self.seen[: self.opened]
            best = int(value.argmax())  # the first of several, and so the lowest row
            if self.opened < len(self.row) and value[best] <= self.value[self.opened]:
                self._open(2 * self.opened)
                continue
            behind = len(self.centres) - seen
            stale = (behind > 0) & (value > 0)
            if not stale[best]:
                break
            # Few at a time lack the last picks; more, those of long ago; first bounds, which all centres have to be
            # read for, as many at a time as were made exact before. One that lacks much would slow the others down.
            lacks = np.where(seen == 0, 2, behind > RECENT)
            most = int((few, 32, np.clip(np.count_nonzero(seen), 192, 512))[lacks[best]])
            needed = stale & (lacks == lacks[best]) & (value >= value[~stale].max(initial=0))
            self._make_exact(np.flatnonzero(needed), most)
            few *= 2
        row, squared = int(self.row[best]), float(value[best])
        value[best] = -1
        self.centres = np.append(self.centres, row)
        if self.picks == len(self.picked):  # the later half stays; earlier picks are read as the centres given are
            self.picks //= 2
            for kept in (self.picked, self.lengths):
                kept[: self.picks] = kept[len(kept) - self.picks :]
        self.picked[self.picks] = torch.from_numpy(self.X[row] - self.shift)
        self.lengths[self.picks] = torch.linalg.vector_norm(self.picked[self.picks])
        self.picks += 1
        return row, squared

    def _open(self, count: int) -> None:
        """Let more rows take part, the next by first bound."""
        self.opened = min(count, len(self.row))
        order = np.argsort(self.row[: self.opened])
        for field in (self.row, self.value, self.seen):
            field[: self.opened] = field[order]

    def _make_exact(self, which: Int[np.ndarray, " open"], most: int) -> None:
        """Make the values of the `most` largest of these candidates exact for all centres."""
        most = min(most, max(1, 2 * BLOCK_ELEMENTS // max(len(self.centres), self.X.shape[1])))
        if len(which) > most:
            which = which[np.argpartition(-self.value[which], most)[:most]]
        oldest = int(self.seen[which].min())
        rows, centres = self.row[which], self.centres[oldest:]
        least = np.where(self.seen[which] == 0, np.inf, self.value[which])
        few = len(rows) * len(centres) <= RECENT  # their distances themselves cost less than bounds would
        low = np.full((len(rows), len(centres)), -np.inf) if few else self._lower_bounds(rows, oldest)
        nearest = low.argmin(axis=1)
        near = np.flatnonzero(low[np.arange(len(rows)), nearest] < least)
        np.minimum.at(least, near, squared_distances(self.X, rows[near], centres[nearest[near]]))
        low[near, nearest[near]] = np.inf
        near, other = np.nonzero(low < least[:, None])
        np.minimum.at(least, near, squared_distances(self.X, rows[near], centres[other]))
        self.value[which], self.seen[which] = least, len(self.centres)

    def _lower_bounds(self, rows: Int[np.ndarray, " m"], oldest: int) -> Float[np.ndarray, "m centres"]:
        """Lower bounds, a rounding away, of the squared distances of rows to all centres from `oldest` on."""
        A = torch.from_numpy(self.X[rows] - self.shift)
        a = torch.linalg.vector_norm(A, dim=1, keepdim=True)
        given = len(self.centres) - self.picks

        def bound(start: int) -> np.ndarray:
            if start >= given:
                C, c = self.picked[start - given : self.picks], self.lengths[start - given : self.picks]
            else:
                C = torch.from_numpy(self.X[self.centres[start : min(start + PART, given)]] - self.shift)
                c = torch.linalg.vector_norm(C, dim=1)
            error = (2 * self.X.shape[1] + 16) * UNIT64 * (a + c).square()
            return np.asarray((a.square() + c.square() - 2 * (A @ C.T) - error).clamp_(min=0).numpy())

        starts = [*range(oldest, given, PART), max(oldest, given)]
        return np.hstack(list((self.workers.map if len(starts) > 1 else map)(bound, starts)))


def _upper_bounds(
    X: Float[np.ndarray, "rows dim"], centres: Int[np.ndarray, " centres"], workers: ThreadPoolExecutor
) -> Float[np.ndarray, " rows"]:
    """The first bound of every row, in one pass, from some of the centres, spread evenly over them."""
    # A sixteenth of the centres bounds clustered rows tightly enough for all but some hundreds of them. Of very many
    # centres it is fewer: at 1,024 the pass is a long product already, and they are copied in float32.
    few = min(len(centres), int(np.clip(len(centres) // 16, 16, 1024)))
    some = centres[np.linspace(0, len(centres) - 1, few).astype(np.int64)]
    with np.errstate(all="ignore"):  # check_finite names what is wrong
        shift = X[some].mean(axis=0, dtype=np.float64).astype(np.float32)
        C = torch.from_numpy((X[some] - shift).astype(np.float32))
    half, longest = C.square().sum(dim=1) / 2, torch.linalg.vector_norm(C, dim=1).max().double()
    bound = np.empty(len(X))  # filled in place: small results kept between large blocks would scatter the memory

    def fill(part: slice) -> None:
        shifted = (from_dlpack(np.ascontiguousarray(X[part])) - torch.from_numpy(shift)).float()
        length = torch.linalg.vector_norm(shifted, dim=1).double()
        gain = (shifted @ C.T).sub_(half).amax(dim=1).double()
        slack = 2 * ROUNDING * length * longest + (2 * X.shape[1] + 16) * UNIT32 * (length + longest).square()
        bound[part] = (length.square() - 2 * gain + slack + X.shape[1] * TINY).numpy()

    list(workers.map(fill, _parts(X)))
    if not np.isfinite(bound).all():
        check_finite(X)
    return bound


def _parts(X: Float[np.ndarray, "rows dim"]) -> Iterator[slice]:
    """Consecutive rows, a block's worth at a time."""
    step = max(1, BLOCK_ELEMENTS // X.shape[1])
    return (slice(start, start + step) for start in range(0, len(X), step))
