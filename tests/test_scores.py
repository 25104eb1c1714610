import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.scores.scores import RESAMPLES, Scores, resampled_counts, score


def judgements(rows: Sequence[Sequence[tuple[float, float]]]) -> list[Judgement]:
    """One row a question, one (model, competitor) pair an order."""
    return [
        Judgement(str(i), order, float(model), float(competitor), "j", "1", "")
        for i, row in enumerate(rows)
        for order, (model, competitor) in enumerate(row)
    ]


def random_rows(questions: int, seed: int) -> list[list[tuple[float, float]]]:
    halves = np.random.default_rng(seed).integers(2, 21, size=(questions, 2, 2)) / 2
    return [[(float(m), float(c)) for m, c in row] for row in halves]


@pytest.mark.parametrize("seed", range(5))
def test_every_figure_agrees_with_its_definition(seed):
    rows = random_rows(30, seed)
    found = score(judgements(rows))
    sums = [(sum(m for m, _ in row), sum(c for _, c in row)) for row in rows]
    assert found.questions == 30
    assert found.relative_score == pytest.approx(100 * sum(m for m, _ in sums) / sum(c for _, c in sums))
    assert found.mean_ratio == pytest.approx(100 * sum(m / c for m, c in sums) / 30)
    assert (found.win, found.tie, found.lose) == tuple(
        sum(test(m, c) for m, c in sums) for test in (lambda m, c: m > c, lambda m, c: m == c, lambda m, c: m < c)
    )
    verdicts = [tuple((m > c) - (m < c) for m, c in row) for row in rows]
    assert found.order_changes == sum(a != b for a, b in verdicts)
    assert found.order_flips == sum({a, b} == {-1, 1} for a, b in verdicts)
    assert found.ci_low < found.relative_score < found.ci_high


def test_the_order_of_the_judgements_matters_to_no_figure_and_not_to_the_interval():
    rows = judgements(random_rows(20, 1))
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    assert score(shuffled).record() == score(rows).record()
    assert score(shuffled).by_question.ids == score(rows).by_question.ids


def test_one_order_has_no_order_effects():
    found = score(judgements([[(5, 10)], [(10, 10)]]))
    assert (found.order_changes, found.order_flips) == (None, None)
    assert (found.win, found.tie, found.lose) == (0, 1, 1)


def test_zeros_are_counted_and_belong_in_the_sums():
    found = score(judgements([[(0, 8), (2, 8)], [(6, 8), (0, 8)]]))
    assert found.zeros == 2
    assert found.relative_score == 25


def test_a_competitor_without_points_leaves_the_mean_of_ratios_undefined():
    found = score(judgements([[(4, 0), (4, 0)], [(4, 8), (4, 8)]]))
    assert found.mean_ratio is None
    assert found.relative_score == 100
    with pytest.raises(InputError, match="all 0"):
        score(judgements([[(4, 0)]]))


def test_the_interval_is_reproducible_and_shrinks_with_more_questions():
    few, many = judgements(random_rows(20, 3)), judgements(random_rows(2000, 3))
    assert score(few) == score(few)
    assert score(few).ci_low != score(few, seed=1).ci_low

    def width(found: Scores) -> float:
        return found.ci_high - found.ci_low

    assert width(score(many)) < 0.2 * width(score(few))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Questions from a population of known ratio; 95 % up to the error of 300 trials and the bootstrap's."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        model = rng.integers(1, 11, size=60)
        found = score(judgements([[(m, 10)] for m in model]))
        covered += found.ci_low <= 55 <= found.ci_high
    assert 0.90 <= covered / 300 <= 0.985


def test_equal_questions_leave_no_noise():
    found = score(judgements([[(7, 10), (7, 10)]] * 9))
    assert found.ci_low == pytest.approx(70)
    assert found.ci_high == pytest.approx(70)


@pytest.mark.parametrize("questions", [1, 7, 900])
def test_every_resample_draws_as_many_questions_as_there_are(questions):
    blocks = list(resampled_counts(questions, 0))
    assert sum(len(block) for block in blocks) == RESAMPLES
    assert all((block.sum(axis=1) == questions).all() for block in blocks)
    assert all(block.shape[1] == questions for block in blocks)


def test_a_record_is_json_and_says_what_its_interval_knows():
    found = score(judgements(random_rows(5, 0)), label="careful")
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["relative_score"] == found.relative_score
    assert (record["judge"], record["label"]) == ("j", "careful")
    assert "question noise only" in record["interval"]


ONE, OTHER = judgements([[(5, 6)], [(7, 8)]])


@pytest.mark.parametrize(
    ("faulty", "complaint"),
    [
        ([], "no judgements"),
        ([ONE, ONE], "'0': judged twice in order 0"),
        ([ONE, OTHER, replace(ONE, order=1)], "'1': not judged in order 1"),
        ([replace(ONE, order=2)], "'0', order 2"),
        ([replace(ONE, model_score=10.5)], "a score of 10.5"),
        ([replace(ONE, competitor_score=-1.0)], "a score of -1"),
        ([replace(ONE, model_score=math.nan)], "a score of nan"),
        ([ONE, replace(OTHER, judge="another")], "judged by another"),
        ([ONE, replace(OTHER, prompt_version="2")], "one judge and prompt at a time"),
    ],
)
def test_contradictory_judgements_are_refused_by_name(faulty, complaint):
    with pytest.raises(InputError) as caught:
        score(faulty)
    assert complaint in str(caught.value)
