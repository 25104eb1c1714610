"""Rows of every kind that K-Center must not stumble over, and the greedy algorithm that it must agree with."""

import numpy as np


def greedy(X: np.ndarray, taken: np.ndarray, n: int) -> tuple[list[int], list[float]]:
    """The oracle."""
    X = X.astype(np.float64)
    least = np.full(len(X), np.inf)
    for centre in np.flatnonzero(taken):
        least = np.minimum(least, np.square(X - X[centre]).sum(axis=1))
    free, picks, distance = ~taken, [], []
    for _ in range(n):
        if np.isinf(least).all():
            to_mean = np.square(X - X.mean(axis=0)).sum(axis=1)
            pick = int(np.where(free, to_mean, np.inf).argmin())
            distance.append(float(np.sqrt(to_mean[pick])))
        else:
            pick = int(np.where(free, least, -1).argmax())
            distance.append(float(np.sqrt(least[pick])))
        free[pick] = False
        picks.append(pick)
        least = np.minimum(least, np.square(X - X[pick]).sum(axis=1))
    return picks, distance


def clustered(rows: int = 700, dim: int = 48, seed: int = 0) -> np.ndarray:
    """Clusters of power-law sizes far from the origin, a few columns much larger than the rest, equal rows."""
    rng = np.random.default_rng(seed)
    cluster = rng.zipf(1.5, size=rows) % 30
    X = 3 * rng.standard_normal((30, dim))[cluster] + rng.gamma(1, 1, (rows, 1)) * rng.standard_normal((rows, dim))
    X += 100 * rng.standard_normal(dim)
    X[:, :2] += 2000
    X[rows // 2 : rows // 2 + 20] = X[:20]
    return X.astype(np.float32)


def near_duplicates() -> np.ndarray:
    X = clustered(200)
    return np.concatenate([X, X + 1e-5 * np.random.default_rng(1).standard_normal(X.shape)])


DATA = {
    "clustered": clustered(),
    "float16": (clustered() - 2000).astype(np.float16),
    "float64": clustered().astype(np.float64) + 1e5,
    "iid": np.random.default_rng(2).standard_normal((1500, 64)).astype(np.float32),
    "near duplicates": near_duplicates(),
    "constant columns": np.hstack([clustered(), np.full((700, 30), -7e3, dtype=np.float32)]),
    "one column": clustered(400, 3)[:, :1].copy(),
    "tiny numbers": clustered() * np.float32(1e-24),
    "large numbers": clustered() * np.float32(1e13),
    "all equal": np.full((300, 5), 0.3, dtype=np.float32),
    "many ties": np.random.default_rng(3).integers(0, 2, size=(500, 6)).astype(np.float32),
}


def scattered(rows: int, size: int, seed: int = 4) -> np.ndarray:
    taken = np.zeros(rows, dtype=bool)
    taken[np.random.default_rng(seed).choice(rows, size, replace=False)] = True
    return taken
