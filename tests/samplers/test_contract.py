"""Every sampler keeps the contract. Samplers are found in conf/sampler by themselves: a new YAML is a new candidate."""

import functools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from diverseevol.samplers import FacilityLocation, Sampler
from diverseevol.testing import SamplerContract

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = [
    "entropy sampler.variant=probability",
    "kcenter sampler.drop=0.3",
    "kcenter sampler.metric=cosine",
    "kcenter sampler.whiten=5",
    "least_confidence sampler.variant=probability",
    "margin sampler.variant=probability",
    "oracle sampler.without=null",
    "qbc sampler.committee=rounds",
    "qbc sampler.disagreement=kl",
    "vendi sampler.greedy=true",
]
CHOICES = sorted(file.stem for file in (CONF / "sampler").glob("*.yaml")) + OPTIONS


@functools.cache
def composed(choice: str) -> Sampler:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        sampler: Sampler = instantiate(compose("evolve", f"sampler={choice}".split()).sampler, _convert_="all")
    return sampler


@pytest.mark.parametrize("choice", CHOICES)
class TestShipped(SamplerContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, choice: str) -> None:
        self.choice = choice
        # Two rows that would serve no one but each other gain the same.
        self.ties = isinstance(composed(choice), FacilityLocation)

    def sampler(self) -> Sampler:
        return composed(self.choice)
