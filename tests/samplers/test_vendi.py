import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.geometry.diversity import vendi_score
from diverseevol.samplers.features import Features
from diverseevol.samplers.vendi import Vendi

# Along the axes: the rows 0 and 1 say the same thing.
AXES = np.array([[1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 3]], dtype=np.float32)


def select(sampler: Vendi, X: np.ndarray, taken: np.ndarray, n: int, seed: int = 0):
    return sampler.select(Features(np.ones(len(X), dtype=np.int64), X), taken, n, np.random.default_rng(seed))


def world(rows: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(8)
    return (0.5 + rng.normal(size=(9, dim))[rng.integers(9, size=rows)] + rng.normal(size=(rows, dim)) / 3).astype("f4")


def test_the_rank_decides_how_diverse_the_pool_becomes():
    taken = np.array([True, False, False, False])
    best = select(Vendi(batches=40, rank=1), AXES, taken, 1)
    worst = select(Vendi(batches=40, rank=40), AXES, taken, 1)
    assert best.rows[0] in (2, 3)
    assert worst.rows.tolist() == [1]
    np.testing.assert_allclose([best.score[0], worst.score[0]], [2, 1])


def test_ranks_descend_by_the_score_of_pool_and_batch():
    X, taken = world(80, 6), np.arange(80) < 10
    scores = []
    for rank in range(1, 13):
        selection = select(Vendi(batches=12, rank=rank), X, taken, 7)
        assert selection.score.tolist() == [vendi_score(X[np.concatenate([np.arange(10), selection.rows])])] * 7
        scores.append(selection.score[0])
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 12


def test_greedy_takes_new_directions_first():
    # Orthogonal rows count 1, 2, 3; with the first one doubled, the shares 1/2, 1/4, 1/4 count 2^1.5.
    selection = select(Vendi(greedy=True), AXES, np.array([True, False, False, False]), 3)
    assert selection.rows.tolist() == [2, 3, 1]
    np.testing.assert_allclose(selection.score, [2, 3, 2**1.5])


@pytest.mark.parametrize("dim", [4, 40])
@pytest.mark.parametrize("pool", [[], [3], list(range(15))])
def test_greedy_raises_the_score_most_at_each_pick(dim, pool):
    X = world(70, dim)
    X[20] = 0  # has no direction, and counts as one of its own
    selection = select(Vendi(greedy=True), X, np.isin(np.arange(70), pool), 12)
    rows = list(pool)
    for row, score in zip(selection.rows.tolist(), selection.score, strict=True):
        others = [vendi_score(X[[*rows, other]]) for other in range(70) if other not in rows]
        np.testing.assert_allclose([score, vendi_score(X[[*rows, row]])], max(others), rtol=1e-9)
        rows.append(row)


def test_greedy_beats_every_random_batch():
    X, taken = world(200, 12), np.arange(200) < 5
    greedy = select(Vendi(greedy=True), X, taken, 10).score[-1]
    assert greedy > select(Vendi(batches=200), X, taken, 10).score[0]


def test_ineligible_rows_are_no_part_of_the_pool():
    X, taken = world(50, 8), np.arange(50) < 12
    tokens = np.where(np.arange(50) % 2, 0, 1)
    found = Vendi(greedy=True).select(Features(tokens, X), taken | (tokens == 0), 5, np.random.default_rng(0))
    pool = [0, 2, 4, 6, 8, 10]
    np.testing.assert_allclose(found.score[-1], vendi_score(X[pool + found.rows.tolist()]))


@pytest.mark.parametrize(("batches", "rank"), [(10, 0), (10, 11), (0, 0)])
def test_a_rank_that_does_not_exist_is_refused(batches, rank):
    with pytest.raises(InputError, match=f"sampler.rank is {rank} of sampler.batches={batches}; it must be from 1"):
        Vendi(batches=batches, rank=rank)
