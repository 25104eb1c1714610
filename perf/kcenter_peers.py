"""Other libraries' K-Center, called as their users call it: `pip install diverseevol[peers]` brings them."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

Picks = np.ndarray
Candidate = Callable[[np.ndarray, np.ndarray, int], Picks]


def scikit_activeml(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    from skactiveml.pool import CoreSet

    y = np.where(taken, 0.0, np.nan)
    return np.asarray(CoreSet(random_state=0).query(X, y, batch_size=n))


def small_text(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    """With the rows taken last, where alone its indices mean the same rows throughout."""
    from small_text.query_strategies.coresets import greedy_coreset

    order = np.argsort(taken, kind="stable")
    free = int((~taken).sum())
    picks = greedy_coreset(X[order], np.arange(free), np.arange(free, len(X)), n, distance_metric="euclidean")
    return np.asarray(order[picks])


def alipy(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    from alipy.query_strategy import QueryInstanceCoresetGreedy

    strategy = QueryInstanceCoresetGreedy(X, np.zeros(len(X)), np.arange(len(X)))
    return np.asarray(strategy.select(np.flatnonzero(taken), np.flatnonzero(~taken), batch_size=n))


def fpsample(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    """Its farthest point sampling with the rows taken as the start, which it gives back, too."""
    import fpsample as library

    start = np.flatnonzero(taken)
    return np.asarray(library.fps_sampling(X, len(start) + n, start_idx=start.tolist())[len(start) :], dtype=np.int64)


def faiss(X: np.ndarray, taken: np.ndarray, n: int) -> Picks:
    import faiss as library

    index = library.IndexFlatL2(X.shape[1])
    index.add(X[taken])
    least = index.search(X, 1)[0][:, 0]
    least[taken] = -1
    picks: list[int] = []
    for _ in range(n):
        picks.append(int(least.argmax()))
        least = np.minimum(least, library.pairwise_distances(X[picks[-1:]], X)[0])
        least[picks] = -1
    return np.array(picks)


PEERS: dict[str, tuple[str, Candidate]] = {
    "scikit-activeml": ("skactiveml", scikit_activeml),
    "small-text": ("small_text", small_text),
    "ALiPy": ("alipy", alipy),
    "fpsample": ("fpsample", fpsample),
    "faiss": ("faiss", faiss),
}


def installed() -> tuple[dict[str, Candidate], list[str]]:
    """The peers that are here, by name, and the names of the others."""
    available = {name: peer for name, (module, peer) in PEERS.items() if find_spec(module)}
    return available, [name for name in PEERS if name not in available]
