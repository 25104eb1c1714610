"""Exact distances between rows, and how well a pool covers a data set.

Products in float32 decide which pairs of rows matter; what is returned comes from float64 sums of squared differences.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from diverseevol.geometry.row_blocks import BLOCK_ELEMENTS, LONGEST, check_finite


def distance_to_pool(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " m"], pool: Int[np.ndarray, " pool"]
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """The Euclidean distance of each of `rows` to the nearest row of the pool, and that row's number.

    Every distance is a float64 sum of squared differences, so duplicates are exactly 0 apart; float32
    products only decide which pairs need one. Of equally near rows the lowest is named. An empty pool gives
    NaN and −1.

    Raises:
        InputError: a row holds NaN or inf.
    """
    return _nearest(X, rows, pool, np.full(len(rows), len(pool)))


def receipt_distances(
    X: Float[np.ndarray, "rows dim"], chosen: Int[np.ndarray, " n"], pool: Int[np.ndarray, " pool"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """What `distance_to_pool` was for each pick, in pick order, when it was made: earlier picks count as the pool."""
    return _nearest(X, chosen, np.concatenate([pool, chosen]), len(pool) + np.arange(len(chosen)))


def coverage_radius(
    X: Float[np.ndarray, "rows dim"], pool: Int[np.ndarray, " pool"], rows: Int[np.ndarray, " some"] | None = None
) -> float:
    """The largest Euclidean distance from any row to its nearest row of the pool, in float64.

    This is what K-Center makes small (Sener & Savarese 2018): smaller covers better, 0 covers all.

    Args:
        X: [rows, dim] all rows.
        pool: the rows that cover.
        rows: [some] the rows to be covered, None for all. A row that no sampler may pick would remain the farthest
            forever, and hide how well the pool covers the rest.

    Raises:
        ValueError: the pool is empty.
        InputError: a row holds NaN or inf.
    """
    if len(pool) == 0:
        raise ValueError("the coverage radius of an empty pool is undefined; give at least one row")
    rows = np.arange(len(X)) if rows is None else rows
    lower, upper = np.empty(len(rows)), np.empty(len(rows))
    for part, squared, error in _against(X, rows, pool):
        lower[part], upper[part] = (squared - error).min(axis=1), (squared + error).min(axis=1)
    finalists = rows[upper >= lower.max()]
    return float(distance_to_pool(X, finalists, pool)[0].max())


def squared_distances(
    X: Float[np.ndarray, "rows dim"], left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """The squared Euclidean distance of each pair of rows: float64 sums, whose bits depend on the pair alone."""
    squared = np.empty(len(left))
    step = max(1, BLOCK_ELEMENTS // (4 * max(X.shape[1], 1)))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        difference = X[left[part]].astype(np.float64) - X[right[part]]
        squared[part] = np.square(difference).sum(axis=1)
    return squared


def _nearest(
    X: Float[np.ndarray, "rows dim"],
    rows: Int[np.ndarray, " m"],
    columns: Int[np.ndarray, " p"],
    visible: Int[np.ndarray, " m"],
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """For each of `rows` the nearest among its first `visible` columns."""
    distance, nearest = np.full(len(rows), np.nan), np.full(len(rows), -1)
    if len(columns) == 0 or len(rows) == 0:
        return distance, nearest
    for part, squared, error in _against(X, rows, columns):
        unseen = np.arange(len(columns)) >= visible[part, None]
        squared[unseen] = np.inf
        close = (squared - error <= (squared + error).min(axis=1, keepdims=True)) & ~unseen
        row, column = np.nonzero(close)
        exact = np.sqrt(squared_distances(X, rows[part][row], columns[column]))
        # By row, then by distance, then by number: the first pair of each row is its nearest.
        order = np.lexsort((columns[column], exact, row))
        row, pairs = np.unique(row[order], return_index=True)
        distance[part.start + row] = exact[order][pairs]
        nearest[part.start + row] = columns[column[order][pairs]]
    return distance, nearest


def _against(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " m"], columns: Int[np.ndarray, " p"]
) -> Iterator[tuple[slice, Float[np.ndarray, "part p"], Float[np.ndarray, "part p"]]]:
    """|x − c|² of parts of the rows to all columns, and a bound on its error.

    One float32 product, after a vector near all rows is subtracted, which changes no distance and spares float32 the
    cancellation. dim terms are rounded, each at most 2⁻²⁴ of (|x| + |c|)².
    """
    with np.errstate(all="ignore"):  # _shifted reports what is wrong
        shift = X[columns[:1024]].mean(axis=0, dtype=np.float64).astype(np.float32)
    centres, norms = _shifted(X, columns, shift)
    dim = X.shape[1]
    step = max(1, BLOCK_ELEMENTS // max(dim, len(columns)))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        shifted, lengths = _shifted(X, rows[part], shift)
        squared = np.square(lengths)[:, None] + np.square(norms) - 2 * (shifted @ centres.T)
        error = (dim + 16) * 2.0**-24 * np.square(lengths[:, None] + norms) + dim * np.finfo(np.float32).tiny
        yield part, squared, error.astype(np.float32)


def _shifted(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " m"], shift: Float[np.ndarray, " dim"]
) -> tuple[Float[np.ndarray, "m dim"], Float[np.ndarray, " m"]]:
    """The rows less the shift, in float32, and their lengths."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = (X[rows] - shift).astype(np.float32)
        lengths = np.linalg.norm(shifted, axis=1)
    if not (lengths < LONGEST).all():
        check_finite(X)
    return shifted, lengths
