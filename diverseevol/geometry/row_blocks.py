"""Rows read in blocks of a few megabytes, checked, so that memory-mapped arrays of any length stay where they are."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from diverseevol.errors import InputError

BLOCK_ELEMENTS = 2**22  # 1,024 rows of 4,096 numbers: large enough for a fast product, small enough to forget
LONGEST = 1e18  # a row's length: squares of sums of two such rows still fit in float32


def blocks(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " some"] | None = None
) -> Iterator[tuple[int, Float[np.ndarray, "block dim"]]]:
    """Some rows, None for all, checked and in float32 or better; with each block the index of its first row."""
    step = max(1, BLOCK_ELEMENTS // max(X.shape[1], 1))
    for start in range(0, len(X) if rows is None else len(rows), step):
        part = slice(start, start + step)
        block = np.asarray(X[part if rows is None else rows[part]])
        if not np.isfinite(block).all():
            check_finite(X)
        yield start, block.astype(np.float32) if block.dtype == np.float16 else block


def mean_row(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " some"] | None = None
) -> Float[np.ndarray, " dim"]:
    """The mean over some rows, None for all, in float64."""
    total = np.zeros(X.shape[1])
    for _, block in blocks(X, rows):
        total += block.sum(axis=0, dtype=np.float64)
    return total / max(len(X) if rows is None else len(rows), 1)


def check_finite(X: Float[np.ndarray, "rows dim"]) -> None:
    """Check that a distance can be taken to every row.

    Raises:
        InputError: rows hold NaN, inf or numbers that are too large; the message names the rows.
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
