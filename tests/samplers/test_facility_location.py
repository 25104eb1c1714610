import numpy as np
import pytest

from diverseevol.samplers import facility_location
from diverseevol.samplers.facility_location import FacilityLocation
from diverseevol.samplers.features import Features


def select(X: np.ndarray, taken: np.ndarray, n: int, tokens: np.ndarray | None = None):
    tokens = np.ones(len(X), dtype=np.int64) if tokens is None else tokens
    return FacilityLocation().select(Features(tokens, X), taken, n, np.random.default_rng(0))


def greedy(X: np.ndarray, pool: list[int], n: int) -> tuple[list[int], list[float]]:
    """What it says of itself, in float64 and without any saving."""
    squared = np.square(X[:, None].astype(np.float64) - X[None]).sum(axis=2)
    nearest = squared[:, pool].min(axis=1) if pool else np.full(len(X), np.inf)
    picks, means = [], []
    for _ in range(n):
        mean = np.minimum(nearest[:, None], squared).mean(axis=0)
        mean[pool + picks] = np.inf
        picks.append(int(mean.argmin()))
        nearest = np.minimum(nearest, squared[:, picks[-1]])
        means.append(nearest.mean())
    return picks, means


def world(rows: int = 300, dim: int = 6, mean: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(12, dim)) * 2
    return (mean + centres[rng.integers(12, size=rows)] + rng.normal(size=(rows, dim))).astype(np.float32)


def test_four_rows_on_a_line():
    # Sums of squared distances to rows at 0, 1, 2, 10: 105, 83, 69, 245, so 2 is first. Then 10 spares its own 64,
    # while 0 or 1 would spare 4 of the 5 that are left: of these two the lower row is next.
    selection = select(np.array([[0], [1], [2], [10]], dtype=np.float32), np.zeros(4, dtype=bool), 4)
    assert selection.rows.tolist() == [2, 3, 0, 1]
    assert selection.score[1:].tolist() == [64 / 4, 4 / 4, 1 / 4]


@pytest.mark.parametrize("pool", [[], [5], list(range(40))])
@pytest.mark.parametrize("mean", [0.0, 100.0, 1e5])
def test_the_picks_are_those_of_the_greedy_algorithm_in_float64(pool, mean):
    X = world(mean=mean)
    taken = np.isin(np.arange(len(X)), pool)
    selection = select(X, taken, 30)
    picks, means = greedy(X, pool, 30)
    assert selection.rows.tolist() == picks
    np.testing.assert_allclose(selection.score[1:], -np.diff(means), rtol=1e-3)


@pytest.mark.parametrize("pairs", [0, 1_000, 3_000])
def test_the_picks_do_not_depend_on_how_much_may_be_kept(pairs, monkeypatch):
    X = world()
    taken = np.arange(len(X)) < 20
    expected = select(X, taken, 40)
    monkeypatch.setattr(facility_location, "PAIRS", max(1, pairs))
    monkeypatch.setattr(facility_location, "COLUMNS", 64)
    monkeypatch.setattr(facility_location, "ROWS", 100)
    found = select(X, taken, 40)
    assert found.rows.tolist() == expected.rows.tolist()
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-4)


def test_ineligible_rows_neither_serve_nor_need_to_be_served():
    X = world()
    ineligible = np.arange(len(X)) % 3 == 1
    pool = np.arange(len(X)) < 30
    selection = select(X, ineligible | pool, 20, np.where(ineligible, 0, 1))
    eligible = np.flatnonzero(~ineligible)
    picks, _ = greedy(X[eligible], np.flatnonzero(pool[eligible]).tolist(), 20)
    assert selection.rows.tolist() == eligible[picks].tolist()


def test_equal_rows_are_served_by_one_of_them():
    X = np.repeat(world(20), 5, axis=0)
    rows = select(X, np.zeros(100, dtype=bool), 20).rows
    assert sorted(rows // 5) == list(range(20))
