from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet, Judge, Judgement
from diverseevol.evaluation.judges.without_model import Gold, NoJudge, Overlap
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.scores.scores import score

QUESTION = Question("q", "Which?", reference="The red fox sleeps.", competitor="A fox, the red one, is asleep.")


def judged(judge: Judge, answer: str, question: Question = QUESTION) -> Judgement:
    (judgement,) = judge.judge(AnswerSheet(Benchmark("mine", (question,)), {question.id: answer}))
    return judgement


def gold(answer: str, reference: str = "The red fox sleeps.") -> float:
    return judged(Gold(), answer, replace(QUESTION, reference=reference)).model_score


@pytest.mark.parametrize("answer", ["The red fox sleeps.", "the  RED\nfox sleeps", " The red fox sleeps . "])
def test_gold_gives_ten_whatever_the_case_spaces_and_last_full_stop(answer):
    assert gold(answer) == 10


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("", 1), ("  \n", 1), (".", 1), ("green", 1), ("the red fox", 9), ("red", 4), ("sleeps fox red the", 2)],
)
def test_gold_gives_partial_credit_by_words_in_common(answer, expected):
    assert gold(answer) == expected


def test_gold_never_gives_ten_to_an_unequal_answer():
    words = [f"w{i}" for i in range(200)]
    assert gold(" ".join(words[:-1]), " ".join(words)) == 9


def test_golds_partial_credit_agrees_with_a_brute_force_subsequence():
    rng = np.random.default_rng(0)

    def subsequences(words):
        return {c for n in range(len(words) + 1) for c in combinations(words, n)}

    for _ in range(60):
        said, right = (list(rng.choice(list("abc"), size=rng.integers(1, 7))) for _ in range(2))
        common = max(len(c) for c in subsequences(said) & subsequences(right))
        expected = 10 if said == right else min(max(round(20 * common / (len(said) + len(right))), 1), 9)
        assert gold(" ".join(said), " ".join(right)) == expected


def test_perfect_gold_answers_score_100_and_empty_ones_10():
    benchmark = Benchmark("mine", tuple(replace(QUESTION, id=str(i), reference=f"answer {i}") for i in range(5)))
    perfect = {q.id: q.reference or "" for q in benchmark.questions}
    assert score(Gold().judge(AnswerSheet(benchmark, perfect))).relative_score == 100
    assert score(Gold().judge(AnswerSheet(benchmark, dict.fromkeys(perfect, "")))).relative_score == 10


def test_overlap_runs_from_one_to_ten_and_rises_with_the_overlap():
    answers = ["", "zzz", "A fox", "A fox, the red one", QUESTION.competitor]
    scores = [judged(Overlap(), answer).model_score for answer in answers]
    assert scores[:2] == [1, 1]
    assert scores[-1] == pytest.approx(10)
    assert scores[1] < scores[2] < scores[3] < scores[4]
    assert all(judged(Overlap(), answer).competitor_score == 10 for answer in answers)


def test_overlap_carries_its_warning_into_the_scores():
    judge = Overlap()
    assert judge.capabilities.label == "smoke measure, not a judgement of quality"
    record = score([judged(judge, "fox")], judge.capabilities.label).record()
    assert record["label"] == judge.capabilities.label
    assert Gold().capabilities.label is None


def test_judgements_come_in_the_order_of_the_questions():
    benchmark = Benchmark("mine", tuple(replace(QUESTION, id=i) for i in "cab"))
    answers = {"a": "x", "b": "y", "c": "z", "unasked": "w"}
    for judge in (Gold(), Overlap()):
        assert [(j.question_id, j.order, j.judge) for j in judge.judge(AnswerSheet(benchmark, answers))] == [
            (i, 0, judge.name) for i in "cab"
        ]


@pytest.mark.parametrize(
    ("judge", "question", "answers", "complaint"),
    [
        (Gold(), replace(QUESTION, reference=None), {"q": "x"}, "no reference"),
        (Overlap(), replace(QUESTION, competitor=None), {"q": "x"}, "no competitor"),
        (Gold(), QUESTION, {}, "no answer"),
        (Overlap(), QUESTION, {}, "no answer"),
    ],
)
def test_what_a_judge_lacks_is_named_with_benchmark_and_question(judge, question, answers, complaint):
    with pytest.raises(InputError, match=f"benchmark mine, question 'q': {complaint}"):
        judge.judge(AnswerSheet(Benchmark("mine", (question,)), answers))


def test_no_judge_judges_nothing():
    assert NoJudge().judge(AnswerSheet(Benchmark("mine", (QUESTION,)), {})) == []
