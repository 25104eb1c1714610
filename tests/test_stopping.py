"""When more rows stopped paying, on curves made by hand."""

import numpy as np
import pytest

from diverseevol.evaluation.scores.plateau import MINIMUM_ROUNDS, Stop, stop, wobble
from diverseevol.report.stopping import in_words, recommend

ROWS = 100.0 * np.arange(1, 12)


def test_a_flat_curve_never_paid():
    found = stop(ROWS, np.full((3, 11), 70.0))
    assert (found.verdict, found.round, found.alone) == ("never paid", 0, (0, 0, 0))


def test_a_straight_rise_is_still_paying_and_so_says_each_seed():
    found = stop(ROWS, np.array([[5.0 * t + seed for t in range(11)] for seed in range(3)]))
    assert (found.verdict, found.round, found.alone) == ("still paying", None, (None, None, None))


@pytest.mark.parametrize("knee", [1, 3, 6, 8])
def test_a_rise_that_ends_stops_where_it_ends(knee):
    found = stop(ROWS, np.array([[10.0 * min(t, knee) for t in range(11)]]))
    assert (found.verdict, found.round, found.rows) == ("stopped paying", knee, 100 * (knee + 1))


def test_an_end_that_two_rounds_do_not_confirm_is_no_end():
    found = stop(ROWS, np.array([[10.0 * min(t, 9) for t in range(11)]]))
    assert found.verdict == "still paying"


def test_a_late_rise_after_a_plateau_is_waited_for():
    y = np.array([[0.0, 10, 10, 10, 10, 10, 20, 20, 20, 20, 20]])
    assert stop(ROWS, y).round == 6


def test_a_decline_is_no_gain():
    assert stop(ROWS, np.array([[10.0 - t for t in range(11)]])).verdict == "never paid"
    assert stop(ROWS, np.array([[0.0, 6, 10, 8, 7, 6, 5, 4, 3, 2, 1]])).round == 2


@pytest.mark.parametrize("draw", range(20))
def test_noise_moves_the_stop_of_a_saturating_curve_by_a_few_rounds_at_most(draw):
    rng = np.random.default_rng(draw)
    course = 60 + 20 * (1 - np.exp(-np.arange(11) / 1.5))
    found = stop(ROWS, course + rng.normal(0, 1.0, size=(5, 11)))
    assert found.verdict == "stopped paying"
    assert found.round is not None
    assert 2 <= found.round <= 6


def test_pure_noise_is_hardly_ever_called_a_rise():
    rng = np.random.default_rng(0)
    said = [stop(ROWS, 70 + rng.normal(0, 2.0, size=(3, 11))).verdict for _ in range(200)]
    assert said.count("still paying") + said.count("stopped paying") < 20


def test_noise_as_large_as_the_gain_cannot_be_told():
    y = np.array([[0.0, 9, -6, 8, -7, 10, -5, 9, -6, 8, 12]])
    found = stop(ROWS, y)
    assert found.verdict in ("cannot tell", "never paid")


def test_few_rounds_cannot_be_told_from_any_course():
    found = stop(ROWS[: MINIMUM_ROUNDS - 1], np.zeros((2, MINIMUM_ROUNDS - 1)))
    assert found.verdict == "cannot tell"
    assert f"{MINIMUM_ROUNDS - 1} rounds" in in_words(found)


def test_neither_the_unit_nor_the_offset_of_a_curve_matters():
    rng = np.random.default_rng(1)
    y = 60 + 20 * (1 - np.exp(-np.arange(11) / 2)) + rng.normal(0, 0.5, size=(3, 11))
    assert stop(ROWS, y).round == stop(ROWS, 1000 * y - 7).round == stop(10 * ROWS, y).round


def test_the_wobble_of_noise_on_a_line_is_its_standard_deviation():
    rng = np.random.default_rng(2)
    assert wobble(0.3 * np.arange(20_000) + rng.normal(0, 2.0, 20_000)) == pytest.approx(2.0, rel=0.05)


def of(verdict, t=None, alone=(1, 1, 1), reason=""):
    return Stop(verdict, t, None if t is None else 100 * (t + 1), alone, 0.1, reason)


def test_the_benchmark_that_paid_longest_decides():
    said = recommend([of("stopped paying", 3), of("stopped paying", 5, (4, 5, 6))], [of("still paying")])
    assert said.startswith("stop after round 5, at 600 rows")
    assert "rounds 4 to 6" in said


def test_one_benchmark_that_still_pays_is_enough_to_go_on():
    assert recommend([of("stopped paying", 3), of("still paying")], []).startswith("no stop in sight")


def test_pools_decide_only_where_nothing_was_judged_and_it_is_said():
    said = recommend([], [of("stopped paying", 4), of("stopped paying", 2)])
    assert said.startswith("stop after round 4")
    assert "nothing was judged" in said


def test_one_seed_is_called_one_seed():
    assert "another may say otherwise" in recommend([of("stopped paying", 4, (4,))], [])


def test_what_cannot_be_told_is_not_recommended():
    assert recommend([of("cannot tell", reason="4 rounds")], [of("still paying")]) == "cannot tell: 4 rounds"
    assert recommend([], []).startswith("cannot tell")
