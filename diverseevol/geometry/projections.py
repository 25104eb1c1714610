"""The rows on a plane, for the report's map: each projection a file in the run folder."""

from collections.abc import Callable, Mapping

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from diverseevol.geometry.row_blocks import blocks, mean_row

PCA = "pca"
DIMENSIONS = 50  # principal directions that t-SNE reads: the others are mostly noise, and cost time
PERPLEXITY = 30  # t-SNE's number of neighbours; lower where there are few rows


def pca_map(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " some"] | None = None, dims: int = 2
) -> Float[np.ndarray, "rows dims"]:
    """Coordinates of every row along its principal directions, for drawing; float32.

    Coordinates along directions that do not exist (fewer columns than `dims`) are 0.

    Args:
        X: [rows, dim] all rows.
        rows: [some] the rows that mean and directions are taken from, None for all.
        dims: how many directions.

    Raises:
        InputError: a row holds NaN or inf.
    """
    mean, _, directions = principal_directions(X, min(dims, X.shape[1]), rows)
    coordinates = np.zeros((len(X), dims), dtype=np.float32)
    for start, block in blocks(X):
        coordinates[start : start + len(block), : directions.shape[1]] = (block - mean) @ directions
    return coordinates


def principal_directions(
    X: Float[np.ndarray, "rows dim"], dims: int, rows: Int[np.ndarray, " some"] | None = None
) -> tuple[Float[np.ndarray, " dim"], Float[np.ndarray, " dims"], Float[np.ndarray, "dim dims"]]:
    """The mean of some rows, their variances along the directions of largest variance, and these, largest first.

    The sign of a direction is fixed by making its largest component positive.

    Raises:
        InputError: a row holds NaN or inf.
    """
    dim, count = X.shape[1], len(X if rows is None else rows)
    mean = mean_row(X, rows)
    covariance = np.zeros((dim, dim))
    for _, block in blocks(X, rows):
        covariance += (block - mean).T @ (block - mean)
    variance, directions = scipy.linalg.eigh(covariance / max(count, 1), subset_by_index=[dim - dims, dim - 1])
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return mean, variance[::-1], (directions * np.where(largest < 0, -1.0, 1.0))[:, ::-1]


def tsne_map(
    X: Float[np.ndarray, "rows dim"], rows: Int[np.ndarray, " some"] | None = None
) -> Float[np.ndarray, "rows 2"]:
    """Coordinates that keep neighbours together (van der Maaten & Hinton 2008); float32.

    Distances between clusters and the sizes of clusters mean nothing. It starts from the PCA with a fixed seed: the
    same rows give the same map. It takes minutes for tens of thousands of rows.
    """
    from sklearn.manifold import TSNE  # takes a second to import

    reduced = pca_map(X, rows, min(DIMENSIONS, X.shape[1]))
    if len(X) < 4 or not np.ptp(reduced, axis=0).any():  # nothing to arrange
        return pca_map(X, rows)
    perplexity = min(PERPLEXITY, (len(X) - 1) / 3)
    # scikit-learn's own start is divided by a standard deviation that may be 0.
    start = 1e-4 * pca_map(X, rows) / (np.std(reduced[:, 0]) or 1.0)
    coordinates: np.ndarray = TSNE(perplexity=perplexity, init=start, random_state=0, n_jobs=1).fit_transform(reduced)
    return coordinates.astype(np.float32)


PROJECTIONS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {PCA: pca_map, "tsne": tsne_map}


def map_name(projection: str) -> str:
    """The file in the run folder: `map.npy` for the PCA, `map-NAME.npy` for any other projection."""
    return "map.npy" if projection == PCA else f"map-{projection}.npy"
