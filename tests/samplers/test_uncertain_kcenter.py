import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.samplers.features import Features
from diverseevol.samplers.kcenter import KCenter
from diverseevol.samplers.uncertain_kcenter import UncertainKCenter
from diverseevol.samplers.uncertainty import Uncertainty


def line(places: list[float], entropy: list[float], ineligible: tuple[int, ...] = ()) -> Features:
    tokens = np.ones(len(places), dtype=np.int64)
    tokens[list(ineligible)] = 0
    X = np.array(places, dtype=np.float32)[:, None]
    return Features(tokens, X, {"response_entropy": np.array(entropy, dtype=np.float32)})


# On a line, the pool at 0; the outermost row is the one that the model is surest of.
FEATURES = line([0, 1, 5, 9, 10], [0, 0.9, 0.8, 0.7, 0.1])
TAKEN = np.array([True, False, False, False, False])


@pytest.mark.parametrize(("among", "row", "far"), [(1, 1, 1), (2, 2, 5), (3, 3, 9), (4, 4, 10), (9, 4, 10)])
def test_the_farthest_of_the_most_uncertain_is_chosen(among, row, far):
    selection = UncertainKCenter(among=among).select(FEATURES, TAKEN, 1, np.random.default_rng(0))
    assert (selection.rows.tolist(), selection.score.tolist()) == ([row], [far])


def test_a_pick_becomes_a_centre():
    selection = UncertainKCenter(among=2).select(FEATURES, TAKEN, 2, np.random.default_rng(0))
    assert selection.rows.tolist() == [4, 2]  # 5 and 9 are 5 and 1 away from what is there then
    assert selection.score.tolist() == [10, 5]


def test_ineligible_rows_are_nothing_to_be_far_from():
    features = line([0, 1, 5, 9, 10], [0, 0.9, 0.8, 0.7, 0.1], ineligible=(4,))
    taken = np.array([True, False, False, False, True])
    selection = UncertainKCenter(among=3).select(features, taken, 1, np.random.default_rng(0))
    assert (selection.rows.tolist(), selection.score.tolist()) == ([3], [9])


def test_its_ends_are_uncertainty_sampling_and_k_center(caplog):
    rng = np.random.default_rng(4)
    features = Features(
        np.ones(60, dtype=np.int64),
        rng.normal(size=(60, 5)).astype(np.float32),
        {"response_margin": rng.random(60).astype(np.float32)},
    )
    taken = np.arange(60) < 10

    def rows(sampler):
        return sampler.select(features, taken, 8, np.random.default_rng(0)).rows.tolist()

    uncertain = rows(Uncertainty("margin", "probability"))
    assert set(rows(UncertainKCenter("margin", among=1))) == set(uncertain)
    assert not caplog.messages
    for _ in range(2):
        assert rows(UncertainKCenter("margin", among=7)) == rows(KCenter())
    (said,) = caplog.messages  # once
    assert "sampler.among=7 leaves no candidate out, so the picks are those of kcenter" in said


def test_no_competitors_at_all_are_refused():
    with pytest.raises(InputError, match=r"sampler\.among is 0; it must be at least 1"):
        UncertainKCenter(among=0)
