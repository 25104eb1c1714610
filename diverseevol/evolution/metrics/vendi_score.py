"""How many distinct rows the pool has, in effect (Friedman & Dieng, arXiv 2210.02410)."""

from diverseevol.evolution.metrics.base import MeasuredRound, Metric
from diverseevol.geometry.diversity import vendi_score, vendi_score_centred


class VendiScore(Metric):
    """The paper's Vendi-Score: of the pool's rows in the foundation model's space."""

    name = "vendi_score"
    title = "Vendi-Score"
    unit = "effective rows"
    pays_while = "rising"
    heading = "Vendi"
    form = ".2f"
    needs = frozenset({"foundation_embedding"})

    def measure(self, measured: MeasuredRound) -> float:
        """The score."""
        assert measured.foundation_embedding is not None
        return vendi_score(measured.foundation_embedding[measured.pool])


class VendiScoreCentred(VendiScore):
    """The same after the mean over all rows is taken off, which presses the paper's score towards 1."""

    name = "vendi_score_centred"
    title = "Vendi-Score, centred"
    heading = "Vendi\ncentred"

    def measure(self, measured: MeasuredRound) -> float:
        """The score."""
        assert measured.foundation_embedding is not None
        return vendi_score_centred(measured.foundation_embedding, measured.pool, measured.eligible)


class VendiScoreCurrent(Metric):
    """The Vendi-Score in the space of the round's own model: another space in each round."""

    name = "vendi_score_current"
    title = "Vendi-Score, in the round's own space"
    unit = "effective rows"
    comparable = False
    heading = ""
    needs = frozenset({"current_embedding"})

    def measure(self, measured: MeasuredRound) -> float:
        """The score."""
        assert measured.current_embedding is not None
        return vendi_score(measured.current_embedding)
