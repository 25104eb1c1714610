import numpy as np

from diverseevol.samplers.features import Features
from diverseevol.samplers.random import Random

TAKEN = np.array([True, False, False, True, False, False])


def chosen(n: int, seed: int) -> list[int]:
    return Random().select(Features(np.full(6, 9)), TAKEN, n, np.random.default_rng(seed)).rows.tolist()


def test_the_picks_are_those_that_the_generator_draws_of_the_candidates():
    assert chosen(3, 7) == np.random.default_rng(7).choice([1, 2, 4, 5], size=3, replace=False).tolist()
    assert sorted(chosen(4, 0)) == [1, 2, 4, 5]


def test_every_candidate_has_the_same_chance_at_every_place():
    draws = np.array([chosen(2, seed) for seed in range(4000)])
    for place in draws.T:
        counts = np.bincount(place, minlength=6)[[1, 2, 4, 5]]
        # 1,000 each is expected, with a standard deviation of 27.
        assert np.abs(counts - 1000).max() < 5 * 27
