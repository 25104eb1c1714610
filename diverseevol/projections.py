"""The rows on a plane, for the report's map: each projection a file in the run folder."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from diverseevol.measures import pca_map

PCA = "pca"
DIMENSIONS = 50  # that t-SNE is given: what lies beyond is mostly noise, and costs time
PERPLEXITY = 30  # neighbours that a row attends to; fewer where there are few rows


def tsne_map(X: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows 2"]:
    """Coordinates that keep neighbours together (van der Maaten & Hinton 2008); float32.

    Distances between clusters, and their sizes, mean nothing. Starts from the PCA, with a fixed seed: the same rows
    give the same map. Takes minutes for tens of thousands of rows.
    """
    from sklearn.manifold import TSNE  # a second that a report need not wait

    reduced = pca_map(X, min(DIMENSIONS, X.shape[1]))
    if len(X) < 4 or not np.ptp(reduced, axis=0).any():  # nothing to arrange
        return pca_map(X)
    perplexity = min(PERPLEXITY, (len(X) - 1) / 3)
    # The start is ours: scikit-learn's is scaled by a spread that may be 0.
    start = 1e-4 * pca_map(X) / (np.std(reduced[:, 0]) or 1.0)
    found: np.ndarray = TSNE(perplexity=perplexity, init=start, random_state=0, n_jobs=1).fit_transform(reduced)
    return found.astype(np.float32)


PROJECTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {PCA: pca_map, "tsne": tsne_map}


def map_name(projection: str) -> str:
    """The file in the run folder: `map.npy` is the PCA, `map-NAME.npy` any other, by whoever put it there."""
    return "map.npy" if projection == PCA else f"map-{projection}.npy"
