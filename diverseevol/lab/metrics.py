"""`metric=lab`: what a pool is made of, by the labels that only the lab's rows carry."""

from diverseevol.evolution.metrics.base import MeasuredRound, Metric
from diverseevol.lab.dataset import Labels, labels_of


class SkillsCovered(Metric):
    """How many skills have a sound row in the pool."""

    name = "skills_covered"
    title = "skills covered"
    unit = "skills in the pool"
    heading = "skills"
    form = ".0f"

    def measure(self, measured: MeasuredRound) -> float:
        """The number of skills."""
        labels = _labels(measured)
        return len({skill for skill, noisy in zip(labels.skill, labels.noisy, strict=True) if not noisy})


class NoisyShare(Metric):
    """The share of the pool's rows that are spoiled."""

    name = "noisy_share"
    title = "noisy rows"
    unit = "share of the pool"
    heading = "noisy"
    form = ".0%"

    def measure(self, measured: MeasuredRound) -> float:
        """The share."""
        return float(_labels(measured).noisy.mean())


class DuplicateShare(Metric):
    """The share of the pool's rows that ask what another row of the data set asks."""

    name = "duplicate_share"
    title = "duplicates"
    unit = "share of the pool"
    heading = "repeated"
    form = ".0%"

    def measure(self, measured: MeasuredRound) -> float:
        """The share."""
        return float(_labels(measured).duplicate.mean())


def _labels(measured: MeasuredRound) -> Labels:
    return labels_of(measured.dataset.take(measured.pool))
