"""How diverse rows are: the Vendi-Score."""

import numpy as np
from jaxtyping import Float, Int

from diverseevol.geometry.row_blocks import blocks, mean_row


def vendi_score(X: Float[np.ndarray, "rows dim"]) -> float:
    """The effective number of distinct rows: 1 where all point the same way, `rows` where all are orthogonal.

    exp(−Σ λ log λ) over the eigenvalues λ of K / rows, K the cosine kernel (Friedman & Dieng, arXiv
    2210.02410; the paper's analysis, figure 4). K and the dim × dim matrix of the same products share their
    non-zero eigenvalues, so the smaller one is decomposed.

    A zero row has no direction. All zero rows get one extra direction, orthogonal to all others, so that equal rows
    stay equal. Only centred embeddings have such rows, where a row is the mean.

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
    from vendi_score import vendi  # imports scikit-learn, which takes a second

    # score_K divides by the side of its matrix; the eigenvalues must be those of products divided by n.

    return float(vendi.score_K(kernel * (len(kernel) / n)))


def vendi_score_centred(
    X: Float[np.ndarray, "rows dim"], pool: Int[np.ndarray, " pool"], rows: Int[np.ndarray, " some"] | None = None
) -> float:
    """The Vendi-Score of the pool's rows after the mean over all rows of the data set is subtracted.

    Hidden states share a large mean, which pushes the paper's score of every pool towards 1.

    Args:
        X: [rows, dim] all rows.
        pool: the rows that are scored.
        rows: [some] the rows that the mean is taken over, None for all. A row that cannot be trained on may have no
            response to embed, and its zeros would shift the mean.
    """
    return vendi_score(X[pool].astype(np.float64) - mean_row(X, rows))


def unit_directions(block: Float[np.ndarray, "block dim"]) -> Float[np.ndarray, "block dim+1"]:
    """Rows scaled to length 1; the last column is the direction of zero rows."""
    length = np.linalg.norm(block.astype(np.float64), axis=1, keepdims=True)
    return np.hstack([block / np.where(length > 0, length, 1), length == 0])
