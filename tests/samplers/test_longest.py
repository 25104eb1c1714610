import numpy as np

from diverseevol.samplers.features import Features
from diverseevol.samplers.longest import Longest


def test_the_longest_responses_come_first_and_of_equal_ones_the_lowest():
    features = Features(np.array([3, 9, 5, 9, 512, 0]))
    taken = np.array([False, False, False, False, True, True])
    selection = Longest().select(features, taken, 3, np.random.default_rng(0))
    assert selection.rows.tolist() == [1, 3, 2]
    assert selection.score.tolist() == [9, 9, 5]


def test_no_model_is_asked():
    needs = Longest().needs
    assert (needs.space, needs.statistics, needs.lengths) == ("none", frozenset(), True)
