"""Farthest-first traversal."""

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.measures import mean_row


def farthest_first(
    X: Float[np.ndarray, "rows dim"], taken: Bool[np.ndarray, " rows"], n: int
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    mean = mean_row(X)
    A = X - mean
    squared = np.full(len(X), np.inf)
    for row in map(int, np.flatnonzero(taken)):
        squared = np.minimum(squared, np.square(A - A[row]).sum(axis=1))
    rows, score = np.empty(n, dtype=np.int64), np.empty(n)
    for k in range(n):
        if k == 0 and not taken.any():
            to_mean = np.square(A).sum(axis=1)
            row = int(to_mean.argmin())
            score[k] = np.sqrt(to_mean[row])
        else:
            open_ = np.where(taken, -1, squared)
            open_[rows[:k]] = -1
            row = int(open_.argmax())
            score[k] = np.sqrt(squared[row])
        rows[k] = row
        squared = np.minimum(squared, np.square(A - A[row]).sum(axis=1))
    return rows, score
