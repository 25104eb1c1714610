"""How diverse a pool is and how well it covers the data set: pure functions of arrays.

All of them read their input in blocks of a few megabytes, so memory-mapped arrays of any length and
precision stay where they are.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from diverseevol.errors import InputError

BLOCK_ELEMENTS = 2**22  # 1,024 rows of 4,096 numbers: large enough for a fast product, small enough to forget
LONGEST = 1e18  # a row's length: squares of sums of two such rows still fit in float32


def vendi_score(X: Float[np.ndarray, "rows dim"]) -> float:
    """The effective number of distinct rows: 1 where all point the same way, `rows` where all are orthogonal.

    exp(−Σ λ log λ) over the eigenvalues λ of K / rows, K the cosine kernel (Friedman & Dieng, arXiv
    2210.02410; the paper's analysis, figure 4). K and the dim × dim matrix of the same products share their
    non-zero eigenvalues, so the smaller one is decomposed.

    A zero row has no direction. It is given one of its own, orthogonal to all others and shared by all zero
    rows, so that equal rows stay equal; only centred embeddings have such rows, where a row is the mean.

    Raises:
        ValueError: there are no rows.
        InputError: a row holds NaN or inf.
    """
    n, dim = X.shape
    if n == 0:
        raise ValueError("the Vendi-Score of no rows is undefined; give at least one row")
    if n <= dim:
        directions = np.concatenate([unit_directions(block) for _, block in blocks(X)])
        kernel = directions @ directions.T
    else:
        kernel = np.zeros((dim + 1, dim + 1))
        for _, block in blocks(X):
            directions = unit_directions(block)
            kernel += directions.T @ directions
    # score_K divides by the side of what it is given; the eigenvalues must be those of products over n.
    from vendi_score import vendi  # here, for it imports scikit-learn

    return float(vendi.score_K(kernel * (len(kernel) / n)))


def vendi_score_centred(
    X: Float[np.ndarray, "rows dim"], pool: Int[np.ndarray, " pool"], rows: Int[np.ndarray, " some"] | None = None
) -> float:
    """The Vendi-Score of the pool's rows after the mean over all rows of the data set is taken off.

    Hidden states share a large mean, which presses the paper's score of every pool towards 1.

    Args:
        X: [rows, dim] all rows.
        pool: the rows that are scored.
        rows: [some] the rows whose mean it is, None for all: a row that cannot be trained on may have no response
            to embed, and its zeros would drag the mean.
    """
    return vendi_score(X[pool].astype(np.float64) - mean_row(X, rows))


def mean_row(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " some"] | None = None
) -> Float[np.ndarray, " dim"]:
    """The mean over some rows, None for all, in float64."""
    total = np.zeros(X.shape[1])
    for _, block in blocks(X, rows):
        total += block.sum(axis=0, dtype=np.float64)
    return total / max(len(X) if rows is None else len(rows), 1)


def distance_to_pool(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " m"], pool: Int[np.ndarray, " pool"]
) -> tuple[Float[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """The Euclidean distance of each of `rows` to the nearest row of the pool, and that row's number.

    Every distance is a float64 sum of squared differences, so duplicates are exactly 0 apart; float32
    products only sort out which pairs need one. Of equally near rows the lowest is named. An empty pool gives
    NaN and −1.

    Raises:
        InputError: a row holds NaN or inf.
    """
    return _nearest(X, rows, pool, np.full(len(rows), len(pool)))


def receipt_distances(
    X: Float[np.ndarray, "rows dim"], chosen: Int[np.ndarray, " n"], pool: Int[np.ndarray, " pool"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """What `distance_to_pool` said of each pick when it was made: the pool and all earlier picks count.

    Args:
        X: the embeddings.
        chosen: the picks in pick order.
        pool: the rows trained on before the first pick.
    """
    return _nearest(X, chosen, np.concatenate([pool, chosen]), len(pool) + np.arange(len(chosen)))


def coverage_radius(
    X: Float[np.ndarray, "rows dim"], pool: Int[np.ndarray, " pool"], rows: Int[np.ndarray, " some"] | None = None
) -> float:
    """The largest Euclidean distance from any row to its nearest row of the pool, in float64.

    This is what K-Center makes small (Sener & Savarese 2018): smaller covers better, 0 covers all.

    Args:
        X: [rows, dim] all rows.
        pool: the rows that cover.
        rows: [some] the rows to be covered, None for all: a row that no sampler may pick would stay the farthest for
            ever, and hide what the pool does for the others.

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


def blocks(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " some"] | None = None
) -> Iterator[tuple[int, Float[np.ndarray, "block dim"]]]:
    """Some rows, None for all, in float32 or better, checked; with each block the place of its first row."""
    step = max(1, BLOCK_ELEMENTS // max(X.shape[1], 1))
    for start in range(0, len(X) if rows is None else len(rows), step):
        part = slice(start, start + step)
        block = np.asarray(X[part if rows is None else rows[part]])
        if not np.isfinite(block).all():
            check_finite(X)
        yield start, block.astype(np.float32) if block.dtype == np.float16 else block


def squared_distances(
    X: Float[np.ndarray, "rows dim"], left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"]
) -> Float[np.ndarray, " pairs"]:
    """The squared Euclidean distances of pairs of rows: float64 sums, the same bits for a pair in any company."""
    squared = np.empty(len(left))
    step = max(1, BLOCK_ELEMENTS // (4 * max(X.shape[1], 1)))
    for start in range(0, len(left), step):
        part = slice(start, start + step)
        difference = X[left[part]].astype(np.float64) - X[right[part]]
        squared[part] = np.square(difference).sum(axis=1)
    return squared


def check_finite(X: Float[np.ndarray, "rows dim"]) -> None:
    """Do nothing where a distance can be taken to every row.

    Raises:
        InputError: rows hold NaN, inf or numbers too large; it names them.
    """
    bad: list[int] = []
    step = max(1, BLOCK_ELEMENTS // max(X.shape[1], 1))
    for start in range(0, len(X), step):
        with np.errstate(over="ignore", invalid="ignore"):
            length = np.linalg.norm(np.asarray(X[start : start + step], dtype=np.float32), axis=1)
        bad += (start + np.flatnonzero(~(length < LONGEST))).tolist()
    if bad:
        named = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise InputError(
            f"embeddings, row {named}: holds NaN, inf or numbers too large to square in float32; all numbers "
            f"must be finite: correct or remove these rows, or embed in float32 if float16 overflowed"
        )


def unit_directions(block: Float[np.ndarray, "block dim"]) -> Float[np.ndarray, "block dim+1"]:
    """Rows of length 1; the last column is the direction of those that have none."""
    length = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
    return np.hstack([block / np.where(length > 0, length, 1), length == 0])


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
        who, which = np.nonzero(close)
        exact = np.sqrt(squared_distances(X, rows[part][who], columns[which]))
        order = np.lexsort((columns[which], exact, who))
        who, first = np.unique(who[order], return_index=True)
        distance[part.start + who] = exact[order][first]
        nearest[part.start + who] = columns[which[order][first]]
    return distance, nearest


def _against(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " m"], columns: Int[np.ndarray, " p"]
) -> Iterator[tuple[slice, Float[np.ndarray, "part p"], Float[np.ndarray, "part p"]]]:
    """|x − c|² of parts of the rows to all columns, and a bound on its error.

    One float32 product, after a vector near all rows is taken off: that changes no distance and saves float32
    from cancellation. dim terms are rounded, each at most 2⁻²⁴ of (|x| + |c|)².
    """
    with np.errstate(all="ignore"):  # _shifted names what is wrong
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
    """The rows less the shift in float32, and their lengths."""
    with np.errstate(over="ignore", invalid="ignore"):
        shifted = (X[rows] - shift).astype(np.float32)
        lengths = np.linalg.norm(shifted, axis=1)
    if not (lengths < LONGEST).all():
        check_finite(X)
    return shifted, lengths
