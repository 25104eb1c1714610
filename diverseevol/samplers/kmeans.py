"""K-means: the rows at the centres of clusters, as many from each cluster."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from diverseevol.errors import InputError
from diverseevol.geometry.row_blocks import mean_row
from diverseevol.samplers.base import Needs, Selection, embedding_of
from diverseevol.samplers.features import Features

BATCH = 1024  # rows of a mini-batch


@dataclass(frozen=True)
class KMeans:
    """Clusters the candidates, gives each cluster the same quota, and takes the rows nearest its centre.

    Typical rows of every region, where K-Center takes the outermost: the clustering baseline of active learning (Xu
    et al. 2003; Zhdanov 2019, section 3, without weights), by mini-batch k-means (Sculley 2010). What the pool holds
    already is not looked at. Picks go round the clusters, the largest first; what a small cluster cannot give, the
    others share. The score of a pick is its distance to its centre.

    Costs (`passes` + 1) × candidates × clusters × dim multiplications, and a first draw of centres (k-means++) from
    three times as many rows, which are copied in float32 for it: all candidates where `clusters` is a third of them.
    One thread, so that the sums and with them the picks do not depend on how many there are. After the draw, rows are
    read in batches.

    Attributes:
        clusters: how many; null makes one for each pick.
        passes: how often each candidate moves a centre.
        space: the embeddings of the round's own model, of the foundation model, or of the rows' words.
    """

    clusters: int | None = None
    passes: int = 5
    space: Literal["current", "foundation", "text"] = "current"

    def __post_init__(self) -> None:
        for name, value in (("clusters", self.clusters), ("passes", self.passes)):
            if value is not None and value < 1:
                raise InputError(f"sampler.{name} is {value}; it must be at least 1")

    @property
    def needs(self) -> Needs:
        """The embeddings of one space."""
        return Needs(space=self.space)

    def select(
        self, features: Features, taken: Bool[np.ndarray, " rows"], n: int, rng: np.random.Generator
    ) -> Selection:
        """Choose n rows; see `Sampler.select`."""
        if n == 0:
            return Selection(rows=np.empty(0, dtype=np.int64), score=np.empty(0))
        # Here, for scikit-learn, with which it comes, takes a second.
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        candidates = np.flatnonzero(~taken)
        count = min(self.clusters or n, len(candidates))
        with threadpool_limits(limits=1):
            cluster, distance = _clusters(embedding_of(features), candidates, count, self.passes, rng)
        # Each cluster's rows by distance; then all clusters' nearest, all clusters' second nearest, and so on.
        order = np.lexsort((candidates, distance, cluster))
        sizes = np.bincount(cluster)
        turn = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        picks = order[np.lexsort((cluster[order], -sizes[cluster[order]], turn))][:n]
        meaning = "distance to the centre of the row's cluster; the lowest is picked"
        return Selection(candidates[picks], distance[picks], meaning)


def _clusters(
    X: Float[np.ndarray, "rows dim"],
    candidates: Int[np.ndarray, " candidates"],
    count: int,
    passes: int,
    rng: np.random.Generator,
) -> tuple[Int[np.ndarray, " candidates"], Float[np.ndarray, " candidates"]]:
    """The cluster of each candidate, and its distance to that cluster's centre."""
    from sklearn.cluster import MiniBatchKMeans

    mean = mean_row(X, candidates).astype(np.float32)  # is taken off: its size would cost float32 digits

    def read(batch_rows: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some dim"]:
        return np.asarray(X[candidates[batch_rows]] - mean, dtype=np.float32)

    model = MiniBatchKMeans(count, n_init=1, compute_labels=False, random_state=int(rng.integers(2**31)))
    model.partial_fit(read(rng.permutation(len(candidates))[: max(3 * count, BATCH)]))
    for _ in range(passes):
        for batch in _batches(rng.permutation(len(candidates))):
            model.partial_fit(read(batch))
    cluster, distance = np.empty(len(candidates), dtype=np.int64), np.empty(len(candidates))
    for batch in _batches(np.arange(len(candidates))):
        rows = read(batch)
        cluster[batch] = model.predict(rows)
        distance[batch] = np.linalg.norm(rows.astype(np.float64) - model.cluster_centers_[cluster[batch]], axis=1)
    return cluster, distance


def _batches(rows: Int[np.ndarray, " some"]) -> Iterator[Int[np.ndarray, " batch"]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
