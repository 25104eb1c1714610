import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.samplers.features import Features
from diverseevol.samplers.uncertainty import Uncertainty

NONE = np.zeros(5, dtype=bool)


def select(sampler: Uncertainty, scores: list[float], n: int, taken: np.ndarray = NONE):
    features = Features(np.ones(5, dtype=np.int64), scores={sampler.statistic: np.array(scores, dtype=np.float32)})
    return sampler.select(features, taken, n, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("measure", "expected"),
    # Little confidence and a small margin are uncertain, and so is much entropy; rows 1 and 3 are equal.
    [("confidence", [2, 1, 3]), ("margin", [2, 1, 3]), ("entropy", [4, 0, 1])],
)
def test_the_most_uncertain_come_first_and_of_equal_ones_the_lowest(measure, expected):
    selection = select(Uncertainty(measure), [0.5, 0.25, 0.125, 0.25, 0.75], 3)
    assert selection.rows.tolist() == expected
    assert selection.score.tolist() == [[0.5, 0.25, 0.125, 0.25, 0.75][row] for row in expected]


def test_rows_taken_are_passed_over():
    taken = np.array([False, True, True, False, False])
    assert select(Uncertainty("margin"), [0.5, 0.25, 0.125, 0.25, 0.75], 2, taken).rows.tolist() == [3, 0]


@pytest.mark.parametrize(
    ("variant", "statistic"), [("reference", "reference_entropy"), ("probability", "response_entropy")]
)
def test_the_variant_decides_which_statistic_is_asked_for(variant, statistic):
    assert Uncertainty("entropy", variant).needs.statistics == {statistic}


def test_a_candidate_whose_statistic_is_no_number_is_named():
    with pytest.raises(InputError, match="reference_entropy, row 3: the model's prediction is not a finite number"):
        select(Uncertainty("entropy"), [1, 2, 3, np.nan, 5], 2)


def test_a_taken_row_may_have_no_statistic():
    taken = np.array([False, False, False, True, False])
    assert select(Uncertainty("entropy"), [1, 2, 3, np.nan, 5], 2, taken).rows.tolist() == [4, 2]
