import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.samplers.features import Features
from diverseevol.samplers.qbc import QueryByCommittee


def select(scores: list[float], n: int, seed: int = 0):
    features = Features(
        np.ones(len(scores), dtype=np.int64), scores={"committee_kl": np.array(scores, dtype=np.float32)}
    )
    taken = np.arange(len(scores)) == 0
    return QueryByCommittee(disagreement="kl").select(features, taken, n, np.random.default_rng(seed))


def test_the_rows_that_the_committee_disagrees_about_most_come_first():
    selection = select([9, 0.25, 0.5, 0.125, 0.75], 3)
    assert selection.rows.tolist() == [4, 2, 1]
    assert selection.score.tolist() == [0.75, 0.5, 0.25]


def test_chance_decides_between_rows_that_are_disagreed_about_equally():
    drawn = [select([0] * 10, 3, seed).rows.tolist() for seed in range(200)]
    often = np.bincount(np.concatenate(drawn), minlength=10)
    assert often[0] == 0  # taken
    assert often[1:].min() > 600 / 9 / 2  # none of the others is favoured: 66.7 times each are expected
    assert select([0, 0, 1, 0, 0], 2).rows[0] == 2


def test_a_bagging_committee_is_trained_and_one_of_rounds_is_kept():
    bagging, rounds = QueryByCommittee(size=3).needs, QueryByCommittee(size=3, committee="rounds").needs
    assert (bagging.committee, bagging.earlier) == (2, 0)
    assert (rounds.committee, rounds.earlier) == (0, 2)
    assert bagging.statistics == rounds.statistics == {"committee_vote_entropy"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_disagreement_that_is_no_number_is_refused_where_it_could_be_chosen(value):
    with pytest.raises(InputError, match="committee_kl, row 2: the model's prediction is not a finite number"):
        select([9, 0.25, value, 0.125], 1)
    assert select([value, 0.25, 0.5], 1).rows.tolist() == [2]  # row 0 is taken


def test_one_member_is_no_committee():
    with pytest.raises(InputError, match=r"sampler\.size is 1; a committee needs at least 2 members"):
        QueryByCommittee(size=1)
