import json
from dataclasses import asdict

import pytest
from judgement_files import authors_file, authors_record, lay, own_file, own_record

from diverseevol.errors import InputError
from diverseevol.evaluation.judge_round import judge_round
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.replay import UNCHECKED, Replay
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.progress import Silent

VICUNA = Benchmark("vicuna", (Question("1", "Why?"), Question("2", "Why?")))
LAB = Benchmark("lab", (Question("a", "Why?"), Question("b", "Why?")))
ANSWERS = {"1": "x", "2": "y", "a": "x", "b": "y"}


def answers_of(benchmark: Benchmark) -> list[dict[str, str]]:
    return [{"id": q.id, "instruction": q.instruction, "answer": ANSWERS[q.id]} for q in benchmark.questions]


def test_the_authors_recorded_judgements_are_repeated_in_the_questions_order(tmp_path):
    authors_file(tmp_path, authors_record(2, eval_QUERY0=[3.0, 9.0], response_QUERY0="3 9"), authors_record(1))
    judge = Replay(str(tmp_path), round=6)
    found = [
        (j.question_id, j.order, j.model_score, j.competitor_score) for j in judge.judge(AnswerSheet(VICUNA, ANSWERS))
    ]
    assert found == [("1", 0, 4, 8), ("1", 1, 5, 7), ("2", 0, 3, 9), ("2", 1, 5, 7)]
    assert judge.name == "gpt-4"


def test_a_round_is_judged_by_what_was_recorded_of_that_round(tmp_path):
    for t, score in ((2, 3.0), (4, 6.0)):
        path = tmp_path / "in" / "lab" / "tiny" / "kc" / "seed0" / "rounds" / f"{t:02d}" / "judgements" / "lab.jsonl"
        lay(path, [own_record(q, model_score=score) for q in "ab"])
        lay(tmp_path / "run" / "rounds" / f"{t:02d}" / "answers" / "lab.jsonl", answers_of(LAB))
    judge = Replay(str(tmp_path / "in"))
    for t, score in ((2, 3.0), (4, 6.0)):
        folder = tmp_path / "run" / "rounds" / f"{t:02d}"
        judge_round(folder, (LAB,), judge, Silent())
        assert json.loads((folder / "scores.json").read_text())["lab"]["relative_score"] == 10 * score
    replayed = {r.round: r.value for r in score_folder(tmp_path / "run").frame.itertuples()}
    assert replayed == {2: 30, 4: 60}


def test_a_missing_judgement_is_named(tmp_path):
    path = authors_file(tmp_path / "a", authors_record(1))
    with pytest.raises(InputError, match=rf"{path.name}: no recorded judgement of question '2' in order 0"):
        Replay(str(tmp_path / "a"), round=6).judge(AnswerSheet(VICUNA, ANSWERS))
    with pytest.raises(InputError, match=r"benchmark vicuna, round 7 \(there: vicuna round 6\)"):
        Replay(str(tmp_path / "a"), round=7).judge(AnswerSheet(VICUNA, ANSWERS))
    with pytest.raises(InputError, match=r"give judge\.round=N"):
        Replay(str(tmp_path / "a")).judge(AnswerSheet(VICUNA, ANSWERS))


def test_several_evolutions_are_told_apart_by_schedule_and_seed(tmp_path):
    for seed in (0, 1):
        own_file(
            tmp_path,
            *(own_record(q, model_score=4.0 + seed) for q in "ab"),
            run=f"lab/tiny/kcenter-iterative/seed{seed}",
        )
    own_file(tmp_path, *map(own_record, "ab"), run="lab/tiny/random-iterative/seed0")
    with pytest.raises(InputError, match=r"say which by judge\.schedule and judge\.seed"):
        Replay(str(tmp_path), round=2).judge(AnswerSheet(LAB, ANSWERS))
    judge = Replay(str(tmp_path), schedule="kcenter-iterative", seed=1, round=2)
    assert [j.model_score for j in judge.judge(AnswerSheet(LAB, ANSWERS))] == [5, 5]


def test_judgements_of_another_answer_are_not_repeated(tmp_path):
    path = own_file(tmp_path, *map(own_record, "ab"))
    lay(path.parents[1] / "answers" / "lab.jsonl", answers_of(LAB))
    judge = Replay(str(tmp_path), round=2)
    assert len(judge.judge(AnswerSheet(LAB, ANSWERS))) == 2
    with pytest.raises(InputError, match="recorded for another answer to question 'b'"):
        judge.judge(AnswerSheet(LAB, {**ANSWERS, "b": "other"}))


def test_a_replayed_smoke_measure_keeps_its_warning_and_an_unparsed_judgement_its_lack(tmp_path):
    lost = own_record("b", judge="overlap", model_score=None, competitor_score=None)
    own_file(tmp_path, own_record("a", judge="overlap"), lost)
    judge = Replay(str(tmp_path), round=2)
    label = str(judge.capabilities.label)
    assert label.startswith("smoke measure, not a judgement of quality; 1 files of recorded judgements could not")
    assert [asdict(j)["model_score"] for j in judge.judge(AnswerSheet(LAB, ANSWERS))] == [3, None]


def test_judgements_that_may_be_of_other_answers_carry_a_warning(tmp_path):
    authors_file(tmp_path / "released", authors_record(1), authors_record(2))
    path = own_file(tmp_path / "own", *map(own_record, "ab"))
    for place, folder, benchmark in (("released", "06", VICUNA), ("own", "02", LAB)):
        target = tmp_path / "run" / "rounds" / folder
        lay(target / "answers" / f"{benchmark.name}.jsonl", answers_of(benchmark))
        judge_round(target, (benchmark,), Replay(str(tmp_path / place)), Silent())
        label = json.loads((target / "scores.json").read_text())[benchmark.name]["label"]
        assert label == f"1 files of recorded judgements {UNCHECKED}"
    lay(path.parents[1] / "answers" / "lab.jsonl", answers_of(LAB))
    assert Replay(str(tmp_path / "own"), round=2).capabilities.label is None
