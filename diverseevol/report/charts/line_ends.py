"""Names of lines at their ends, where the eye is, so that no two touch."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

LABEL_GAP = 0.085  # between two labels at the ends of lines, as a share of the panel's height


def name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines where they end, at the right of the panel, so that no two names touch: (height, name, colour) each."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    heights = spread([height for height, _, _ in ends], LABEL_GAP * (high - low))
    for (_, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            name, (1, height), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            color=colour, va="center", fontsize=8, annotation_clip=False,
        )  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights at least `gap` apart, in the same order, as near to the given ones as a common shift of each cluster."""
    order = np.argsort(heights, kind="stable")
    clusters: list[list[float]] = []  # each: the heights of labels that would touch
    for height in np.asarray(heights, dtype=float)[order]:
        clusters.append([float(height)])
        while len(clusters) > 1 and _bottom(clusters[-1], gap) - _top(clusters[-2], gap) < gap:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    placed = [_bottom(cluster, gap) + i * gap for cluster in clusters for i in range(len(cluster))]
    result = [0.0] * len(order)
    for place, index in zip(placed, order, strict=True):
        result[index] = place
    return result


def _bottom(cluster: Sequence[float], gap: float) -> float:
    return float(np.mean(cluster)) - gap * (len(cluster) - 1) / 2


def _top(cluster: Sequence[float], gap: float) -> float:
    return float(np.mean(cluster)) + gap * (len(cluster) - 1) / 2
