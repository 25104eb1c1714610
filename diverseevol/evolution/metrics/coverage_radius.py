"""How far the source reaches beyond the pool."""

from diverseevol.evolution.metrics.base import MeasuredRound, Metric
from diverseevol.geometry.distances import coverage_radius


class CoverageRadius(Metric):
    """The largest distance from any row that can be trained on to the pool, in the foundation model's space."""

    name = "coverage_radius"
    title = "coverage radius"
    unit = "largest distance to the pool"
    pays_while = "falling"
    level = False  # of all rows it is 0, whatever they are
    heading = "radius"
    form = ".2f"
    needs = frozenset({"foundation_embedding"})

    def measure(self, measured: MeasuredRound) -> float:
        """The radius."""
        assert measured.foundation_embedding is not None
        return coverage_radius(measured.foundation_embedding, measured.pool, measured.eligible)
