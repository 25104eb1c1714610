"""The same scores whether a judge is asked while an evolution runs or afterwards."""

import json
import os
import subprocess
import sys

import pytest
from chat_server import KEY, ChatServer
from judgement_files import lay

from diverseevol.evaluation.exam import Exam, MissingResults, missing_results
from diverseevol.evaluation.judge_round import judge_round, length_report
from diverseevol.evaluation.judges.base import AnswerSheet, Capabilities, Judgement
from diverseevol.evaluation.judges.openai_judge import OpenAI
from diverseevol.evaluation.judges.without_model import Gold, NoJudge, Overlap
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.scores.scores import read_scores, score
from diverseevol.evolution.loop import evolve
from diverseevol.options import Generation
from diverseevol.progress import Silent


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ChatServer().running() as running:
        yield running


def test_a_judge_in_the_loop_and_one_afterwards_give_the_same_scores(evolution, server, tmp_path):
    benchmark = Benchmark("mine", tuple(Question(str(i), f"Name {i} words.", competitor="y" * 6) for i in range(3)))
    options = {"model": "gpt-4", "base_url": server.url, "cache": str(tmp_path / "cache")}
    exam = Exam((benchmark,), OpenAI(**options), Generation(max_new_tokens=4))
    rounds = evolve(evolution(tmp_path / "run", exam=exam))
    folders = [tmp_path / "run" / "rounds" / f"{done.index:02d}" for done in rounds]
    inside = [read_scores(folder) for folder in folders]
    asked = len(server.requests)
    # Tiny models repeat themselves, and what was asked before is known.
    assert 6 <= asked <= 6 * len(rounds)
    for folder in folders:
        (folder / "scores.json").unlink()
        (folder / "judgements" / "mine.jsonl").unlink()
        judge_round(folder, (benchmark,), OpenAI(**options), Silent())
    assert [read_scores(folder) for folder in folders] == inside
    assert len(server.requests) == asked


def test_rounds_scored_by_another_judge_are_reported(tmp_path):
    benchmark = Benchmark("mine", (Question("0", "Why?", reference="So.", competitor="Thus."),))
    generation = Generation(max_new_tokens=4, temperature=0.7)
    line = {
        "id": "0",
        "instruction": "Why?",
        "input": "",
        "answer": "So.",
        "generation": {"max_new_tokens": 4, "temperature": 0.7},
    }
    lay(tmp_path / "00" / "answers" / "mine.jsonl", [line])
    judge_round(tmp_path / "00", (benchmark,), Gold(), Silent())
    assert missing_results(Exam((benchmark,), Gold(), generation), [tmp_path / "00"]) == MissingResults()
    assert missing_results(Exam((benchmark,), Overlap(), generation), [tmp_path / "00"]) == MissingResults(
        scores_by_judge={"mine"}
    )
    assert missing_results(Exam((benchmark,), NoJudge(), generation), [tmp_path / "00"]) == MissingResults()


def test_the_length_report_sees_a_judge_that_pays_for_words(server, tmp_path):
    questions = tuple(Question(str(i), "?", competitor="b " * 5) for i in range(6))
    answers = {str(i): "a " * (i + 1) for i in range(6)}
    judge = OpenAI(model="gpt-4", base_url=server.url, cache=str(tmp_path))  # a point a letter
    benchmark = Benchmark("mine", questions)
    judgements = judge.judge(AnswerSheet(benchmark, answers))
    report = length_report(benchmark, answers, score(judgements).by_question)
    assert (report["model_words"], report["competitor_words"]) == (3.5, 5)
    assert report["rank_correlation"] is not None
    assert report["rank_correlation"] > 0.9


@pytest.mark.slow
def test_evolve_judges_by_an_endpoint_from_the_command_line(server, tmp_path):
    asked = lay(tmp_path / "q.jsonl", [{"id": str(i), "instruction": f"apple: plural {i}"} for i in range(3)])
    theirs = lay(tmp_path / "a.jsonl", [{"id": str(i), "answer": "More apples."} for i in range(3)])
    command = [
        sys.executable, "-m", "diverseevol", "evolve", "folder=run", "model=tiny", "data.size=400",
        "schedule.rounds=1", "tuning.steps=2", "benchmark=questions", f"benchmark.path={asked}",
        f"benchmark.competitor={theirs}", "judge=openai", "generation.max_new_tokens=8",
        f"judge.base_url={server.url}", "logger=none", f"cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for t in ("00", "01"):
        scores = json.loads((tmp_path / "run" / "rounds" / t / "scores.json").read_text())["questions"]
        assert scores["judge"] == "gpt-4"
        assert scores["questions"] == 3
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in file.read_bytes() for file in files)
    assert KEY not in done.stdout + done.stderr


class Generous:
    """A judge of a user's own, which subclasses nothing."""

    name = "generous"
    capabilities = Capabilities(label="likes everything", calls=False)

    def __init__(self):
        self.rounds = []

    def judge(self, sheet):
        self.rounds.append(sheet.round)
        return [Judgement(q.id, 0, 10.0, 10.0, self.name, "1", sheet.answers[q.id]) for q in sheet.benchmark.questions]


def test_a_judge_of_a_users_own_judges_each_round_of_an_evolution(evolution, tmp_path):
    judge, benchmark = Generous(), Benchmark("mine", (Question("0", "Why?"),))
    rounds = evolve(evolution(tmp_path / "run", exam=Exam((benchmark,), judge, Generation(max_new_tokens=4))))
    assert judge.rounds == [done.index for done in rounds]
    scores = [read_scores(tmp_path / "run" / "rounds" / f"{done.index:02d}")["mine"] for done in rounds]
    assert {(record["relative_score"], record["label"]) for record in scores} == {(100, "likes everything")}
