"""A judgement without scores, all the way from disk to the verdict: counted, left out, and never a zero."""

import json

import pytest
from judgement_files import own_file, own_record

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.scores.comparison import compare
from diverseevol.evaluation.scores.read_judgements import read_judgements
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.evaluation.scores.scores import score
from diverseevol.evaluation.scores.tables import scores_table
from diverseevol.output.console import Console

LOST = {"model_score": None, "competitor_score": None}


def both_orders(question, model, competitor=8.0, **changes):
    return [own_record(question, order=k, model_score=model, competitor_score=competitor, **changes) for k in (0, 1)]


def test_it_is_read_from_disk_as_what_it_is(tmp_path):
    own_file(tmp_path, own_record("a", **LOST), own_record("b"))
    (file,) = read_judgements(tmp_path)
    assert [(j.model_score, j.competitor_score, j.parsed) for j in file.judgements] == [
        (None, None, False),
        (3, 10, True),
    ]


@pytest.mark.parametrize("field", ["model_score", "competitor_score"])
@pytest.mark.parametrize("how", ["null", "absent"])
def test_one_score_without_the_other_is_a_fault_of_the_file(tmp_path, field, how):
    record = own_record("a") | {field: None}
    if how == "absent":
        record = {key: value for key, value in record.items() if key != field}
    own_file(tmp_path, record)
    with pytest.raises(InputError, match=f"line 1, field '{field}'"):
        list(read_judgements(tmp_path))


def test_two_absent_scores_are_no_judgement_without_scores(tmp_path):
    own_file(tmp_path, {key: value for key, value in own_record("a").items() if key not in LOST})
    with pytest.raises(InputError, match="field 'model_score': missing"):
        list(read_judgements(tmp_path))


def test_its_question_is_left_out_in_both_orders(tmp_path):
    def one(question, order, model):
        return Judgement(question, order, model, None if model is None else 8.0, "j", "1", "")

    kept = [one("a", 0, 4.0), one("a", 1, 6.0)]
    lost = [one("b", 0, 9.0), one("b", 1, None)]
    found, alone = score(kept + lost), score(kept)
    assert (found.unparsed, found.questions, found.zeros) == (1, 1, 0)
    assert found.record() == alone.record() | {"unparsed": 1}
    with pytest.raises(InputError, match="every question has a judgement without scores"):
        score(lost)
    with pytest.raises(InputError, match="one score without the other"):
        score([*kept, Judgement("c", 0, 5.0, None, "j", "1", "")])


def test_the_scoreboard_counts_it_and_does_not_take_the_file_for_a_short_one(tmp_path):
    run = "lab/tiny/kcenter-iterative/seed{}"
    own_file(tmp_path, *(own_record(q) for q in "abc"), run=run.format(0))
    own_file(tmp_path, own_record("a"), own_record("b", **LOST), own_record("c"), run=run.format(1))
    board = score_folder(tmp_path)
    assert [(s.by_question.ids, s.by_question.unparsed) for s in board.frame.scores] == [
        (("a", "b", "c"), ()),
        (("a", "c"), ("b",)),
    ]
    (warning,) = board.warnings
    assert warning.startswith("1 judgements in 1 of 2 files hold no scores; their 1 questions are left out")
    assert "seed1" in warning
    console = Console(width=200)
    with console.capture() as capture:
        console.print(scores_table(board))
    assert "1 judgements in 1 of 2 files hold no scores" in capture.get()


def test_models_are_compared_on_the_questions_judged_on_both_sides(tmp_path):
    """Without the question that only one side has, these two are equal."""
    for seed in range(3):
        own_file(tmp_path, *both_orders("a", 4.0), *both_orders("b", 8.0), run=f"lab/tiny/kc/seed{seed}")
        own_file(tmp_path, *both_orders("a", 4.0), *both_orders("b", None, None), run=f"lab/tiny/rand/seed{seed}")
    comparison = compare(score_folder(tmp_path).frame, "rand")
    assert comparison.models.difference.tolist() == [0, 0, 0]
    (verdict,) = comparison.samplers.itertuples()
    assert (verdict.differences, verdict.verdict) == ((0, 0, 0), "cannot tell")
    label, _ = comparison.labels
    assert label.startswith("3 questions of 3 models have a judgement without scores")
    json.dumps(comparison.record())


def test_questions_that_were_never_asked_are_still_refused(tmp_path):
    own_file(tmp_path, *both_orders("a", 4.0), *both_orders("b", None, None), run="lab/tiny/kc/seed0")
    own_file(tmp_path, *both_orders("a", 4.0), *both_orders("c", 4.0), run="lab/tiny/rand/seed0")
    with pytest.raises(InputError, match=r"not the same questions \(1 are in one only, first 'c'\)"):
        compare(score_folder(tmp_path).frame, "rand")


def test_two_models_without_a_common_question_cannot_be_compared(tmp_path):
    own_file(tmp_path, *both_orders("a", 4.0), *both_orders("b", None, None), run="lab/tiny/kc/seed0")
    own_file(tmp_path, *both_orders("a", None, None), *both_orders("b", 4.0), run="lab/tiny/rand/seed0")
    with pytest.raises(InputError, match="too few questions"):
        compare(score_folder(tmp_path).frame, "rand")
