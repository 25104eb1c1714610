import numpy as np

from diverseevol.geometry.lazy_greedy import lazy_greedy


class Coverage:
    """The weight of the points covered: submodular, and easily added up by hand."""

    def __init__(self, sets: np.ndarray, weights: np.ndarray | None = None) -> None:
        self.sets = sets
        self.weights = np.ones(sets.shape[1]) if weights is None else weights
        self.covered = np.zeros(sets.shape[1], dtype=bool)
        self.asked = 0

    def gains(self, some: np.ndarray) -> np.ndarray:
        self.asked += len(some)
        return (self.sets[some] & ~self.covered) @ self.weights

    def add(self, pick: int) -> None:
        self.covered |= self.sets[pick]


def test_each_pick_adds_the_most_to_those_before():
    sets = np.zeros((4, 6), dtype=bool)
    for i, points in enumerate([[0, 1], [0, 1, 2], [2, 3], [3, 4, 5]]):
        sets[i, points] = True
    coverage = Coverage(sets)
    picks, gained = lazy_greedy(np.full(4, 6.0), coverage.gains, coverage.add, 4)
    assert picks.tolist() == [1, 3, 0, 2]  # 1 and 3 cover all; of 0 and 2, which add nothing, the lower is first
    assert gained.tolist() == [3, 3, 0, 0]


def test_the_picks_are_those_of_the_greedy_algorithm_and_most_gains_are_never_computed():
    rng = np.random.default_rng(0)
    sets, weights = rng.random((2000, 300)) < 0.02, rng.integers(1, 1000, 300).astype(np.float64)
    greedy, covered = [], np.zeros(300, dtype=bool)
    for _ in range(12):
        gains = (sets & ~covered) @ weights
        gains[greedy] = -1
        greedy.append(int(gains.argmax()))
        covered |= sets[greedy[-1]]
    coverage = Coverage(sets, weights)
    bounds = coverage.gains(np.arange(2000))
    picks, _ = lazy_greedy(bounds, coverage.gains, coverage.add, 12)
    assert picks.tolist() == greedy
    assert coverage.asked < 2000 + 12 * 2000 / 10


def test_bounds_that_are_too_high_cost_time_and_no_pick():
    rng = np.random.default_rng(1)
    sets = rng.random((50, 40)) < 0.2
    exact, loose = Coverage(sets), Coverage(sets)
    expected, _ = lazy_greedy(exact.gains(np.arange(50)), exact.gains, exact.add, 50)
    picks, _ = lazy_greedy(np.full(50, np.inf), loose.gains, loose.add, 50)
    assert picks.tolist() == expected.tolist()
