"""judge, score, compare and agreement from the command line, on run folders as `evolve` leaves them."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from chat_server import KEY, Answer, Request, by_length, fails, says
from judgement_files import lay

from diverseevol.cli import main
from diverseevol.evaluation.exam import save_questions
from diverseevol.evaluation.questions.benchmarks import load_benchmark, read_questions
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.saved_config import ALWAYS
from diverseevol.storage.files import read_jsonl

QUESTIONS = ["Why?", "Who?", "When?"]
NEEDED = 2 * len(QUESTIONS)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch, capfd, tmp_path) -> Command:
    """`command(verb, *arguments)`: exit code, stdout and stderr of the command line, in this process."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capfd.readouterr()
        assert KEY not in said.out + said.err
        return int(str(stopped.value.code)), said.out, said.err

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def judge(command, server, tmp_path) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        usual = (f"judge.base_url={server.url}", f"cache={tmp_path / 'cache'}", "logger=none", "judge.backoff=0.01")
        return command("judge", *usual, *arguments)

    return run


def lines(answers: list[str]) -> list[dict[str, object]]:
    return [
        {"id": str(i), "instruction": q, "input": "", "answer": a, "generation": {"temperature": 0.7}}
        for i, (q, a) in enumerate(zip(QUESTIONS, answers, strict=True))
    ]


def lay_run(
    outputs: Path, schedule: str = "kcenter-iterative", seed: int = 0, lead: int = 0, folder: str | None = None
):
    """A run folder with two rounds of answers, and no judgements."""
    path = outputs / "lab" / "tiny" / schedule / f"seed{seed}"
    asked = lay(outputs.parent / "asked.jsonl", [{"id": str(i), "instruction": q} for i, q in enumerate(QUESTIONS)])
    theirs = lay(outputs.parent / "theirs.jsonl", [{"id": str(i), "answer": "y" * 6} for i in range(len(QUESTIONS))])
    benchmark = {"choice": "questions", "name": "mine", "path": str(asked), "competitor": str(theirs)}
    save_questions(path, load_benchmark("mine", asked, theirs, cache=outputs))
    for t in (0, 1):
        answers = ["x" * (1 + t + lead), "x" * (2 + t + lead + seed), "x" * (3 + t + lead)]
        lay(path / "rounds" / f"{t:02d}" / "answers" / "mine.jsonl", lines(answers))
    (path / "rounds" / "00" / "round.json").write_text(json.dumps({"trained_on": [1, 2, 3]}))
    config = {"seed": seed, "folder": folder, **{key: {} for key in ALWAYS[1:]}, "benchmark": benchmark}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "fingerprint.json").write_text(json.dumps({"seed": seed}))
    return path


def relative_score(round_folder: Path) -> float:
    return json.loads((round_folder / "scores.json").read_text())["mine"]["relative_score"]


def test_a_run_is_judged_with_the_questions_of_its_own_configuration(judge, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    code, out, err = judge(f"folder={run}")
    assert code == 0, err
    assert relative_score(run / "rounds" / "00") == pytest.approx(100 * 6 / 18)
    assert relative_score(run / "rounds" / "01") == pytest.approx(100 * 9 / 18)
    scores = json.loads((run / "rounds" / "01" / "scores.json").read_text())["mine"]
    assert scores["length"] == {"model_words": 1, "competitor_words": 1, "rank_correlation": None}
    assert scores["judge"] == "gpt-4"
    judgements = read_jsonl(run / "rounds" / "01" / "judgements" / "mine.jsonl")
    assert [(j["question_id"], j["order"]) for j in judgements] == [(str(i), k) for i in range(3) for k in (0, 1)]
    assert "33.33" in out
    assert "50.00" in out
    assert "12 of 12 judgements remain" in err
    assert "12 calls, 0 replies known before, 1,200 + 120 tokens" in err
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in file.read_bytes() for file in files)
    code, again, err = judge(f"folder={tmp_path / 'outputs'}", "judge.max_calls=0")
    assert (code, again, len(server.requests)) == (0, out, 2 * NEEDED)
    assert "0 of 12 judgements remain" in err


def test_a_limit_stops_with_what_remains_and_the_same_command_goes_on(judge, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    code, out, err = judge(f"folder={run}", "judge.max_calls=8")
    assert code == 2
    assert "33.33" in out
    assert not (run / "rounds" / "01" / "scores.json").exists()
    last = err.strip().splitlines()[-1]
    assert "judge.max_calls=8 stops the judging before it is passed" in last
    assert "of 6 judgements of benchmark mine 4 remain" in last
    assert last.endswith("(in all 4 of 12 judgements remain)")
    assert judge(f"folder={run}", "judge.max_calls=4")[0] == 0
    assert len(server.requests) == 2 * NEEDED


def test_a_judge_that_is_given_up_leaves_what_it_said_beside_what_is_scored(judge, command, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    server.behaviour = lambda request: says("[red]The first\x1b[31m[/red]")
    code, out, err = judge(f"folder={run}")
    last = err.strip().splitlines()[-1]
    file = run / "rounds" / "00" / "judgements" / "given_up" / "mine.jsonl"
    assert (code, out) == (2, "")
    assert "6 of 6 judgements by gpt-4 hold no two scores" in last
    assert r"which said '[red]The first\x1b[31m[/red]" in last
    assert last.endswith(f"the judgements so far are in {file}")
    judgements = read_jsonl(file)
    assert [(j["question_id"], j["order"]) for j in judgements] == [(str(i), k) for i in range(3) for k in (0, 1)]
    assert {(j["model_score"], j["competitor_score"]) for j in judgements} == {(None, None)}
    assert not (run / "rounds" / "00" / "scores.json").exists()
    code, _, err = command("score", f"folder={run}")
    assert (code, "holds no judgements" in err) == (2, True)
    server.behaviour = by_length
    assert judge(f"folder={run}", "judge.model=another")[0] == 0
    assert not file.exists()
    assert len(read_jsonl(file.parents[1] / "mine.jsonl")) == NEEDED


def test_a_round_whose_prompts_are_all_refused_stops_no_other_and_is_named_at_the_end(judge, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    filtered = fails(400, "filtered", code="content_filter")
    server.behaviour = lambda request: filtered if len(server.requests) <= NEEDED else by_length(request)
    code, out, err = judge(f"folder={run}", "judge.concurrency=1")
    assert (code, "50.00" in out) == (2, True)
    last = err.strip().splitlines()[-1]
    given_up = run / "rounds" / "00" / "judgements" / "given_up" / "mine.jsonl"
    assert "benchmark mine: none of 6 prompts is answered by gpt-4" in last
    assert last.endswith(f"the judgements so far are in {given_up}")
    assert not (run / "rounds" / "00" / "scores.json").exists()
    assert relative_score(run / "rounds" / "01") == pytest.approx(100 * 9 / 18)


def test_what_it_would_take_is_said_without_a_key_or_a_call(judge, server, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    lay_run(tmp_path / "outputs")
    code, _, err = judge(f"folder={tmp_path / 'outputs'}", "judge.max_calls=0", "judge.price=[30,60]")
    assert code == 0
    assert "12 of 12 judgements remain, about $0." in err
    assert "nothing was asked" in err
    assert server.requests == []
    code, _, err = judge(f"folder={tmp_path / 'outputs'}")
    assert code == 2
    assert "OPENAI_API_KEY is not set" in err


def test_another_judges_judgements_are_kept_unless_told_otherwise(judge, command, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    assert judge(f"folder={run}")[0] == 0
    before = {file: file.read_bytes() for file in run.rglob("*.json*")}
    code, _, err = judge(f"folder={run}", "judge.model=cheap")
    assert code == 2
    assert "holds judgements by gpt-4; give out=FOLDER" in err
    server.behaviour = lambda request: Answer(body=by_length(request).body | {"model": "cheap"})
    assert judge(f"folder={run}", "judge.model=cheap", f"out={tmp_path / 'cheap'}")[0] == 0
    assert {file: file.read_bytes() for file in run.rglob("*.json*")} == before
    (there,) = tmp_path.glob("cheap/**/rounds/01")
    assert there == tmp_path / "cheap" / "lab" / "tiny" / "kcenter-iterative" / "seed0" / "rounds" / "01"
    code, out, err = command("agreement", f"folder={tmp_path / 'cheap'}", f"recorded={tmp_path / 'outputs'}")
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "cheap" / "agreement.json").read_text())["mine"]
    assert (found["judge"], found["recorded_judge"], found["models"]) == ("cheap", "gpt-4", 2)
    assert found["question_scores"] == pytest.approx(1)
    assert "+1.00" in out
    assert judge(f"folder={run}", "judge.model=cheap", "replace=true")[0] == 0


def test_released_answers_are_judged_into_a_folder_of_their_own(judge, command, server, tmp_path):
    lay_run(tmp_path / "outputs")  # for its questions and competitor
    for t in (0, 1):
        answers = [{"question_id": i, "text": q, "answer": "x" * (i + t + 1)} for i, q in enumerate(QUESTIONS)]
        lay(tmp_path / "released" / "mine_test" / "kc_dolly_x" / f"rd_{t}.jsonl", answers)
    which = ("benchmark=questions", "benchmark.name=mine", f"benchmark.path={tmp_path / 'asked.jsonl'}",
             f"benchmark.competitor={tmp_path / 'theirs.jsonl'}")  # fmt: skip
    code, _, err = judge(f"folder={tmp_path / 'released'}", *which)
    assert code == 2
    assert "is a released file, beside which nothing is written; give out=FOLDER" in err
    code, _, err = judge(f"folder={tmp_path / 'released'}", *which, f"out={tmp_path / 'mine'}")
    assert code == 0, err
    assert command("score", f"folder={tmp_path / 'mine'}", f"out={tmp_path / 's.csv'}")[0] == 0
    with (tmp_path / "s.csv").open() as file:
        rows = [(row["schedule"], row["round"], float(row["relative_score"])) for row in csv.DictReader(file)]
    assert rows == [("kc_dolly_x", "0", pytest.approx(100 * 6 / 18, abs=1e-4)), ("kc_dolly_x", "1", 50)]


def forget_what_was_asked(run: Path) -> None:
    (run / "config.yaml").unlink()
    (run / "questions" / "mine.jsonl").unlink()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (forget_what_was_asked, "says what was asked; give benchmark=…"),
        (lambda run: (run / "config.yaml").write_text("a: [1"), "config.yaml: cannot be read"),
        (
            lambda run: (run / "config.yaml").write_text(
                json.dumps({**{key: {} for key in ALWAYS}, "benchmark": {"_target_": "os.system", "command": "id"}})
            ),
            "config.yaml, benchmark: expected a choice that diverseevol ships, got 'os.system'; give benchmark=…",
        ),
        (
            lambda run: lay(run / "rounds" / "01" / "answers" / "mine.jsonl", lines(["a", "b", "c"])[:2]),
            "no answer to question '2'",
        ),
        (
            lambda run: lay(run / "rounds" / "01" / "answers" / "mine.jsonl", [{"id": "0", "instruction": "Eh?"}]),
            "not the question that mine asks",
        ),
    ],
)
def test_what_is_wrong_is_found_before_the_first_call(judge, server, tmp_path, spoil, complaint):
    run = lay_run(tmp_path / "outputs")
    spoil(run)
    code, _, err = judge(f"folder={run}")
    assert code == 2
    assert complaint in err.replace("\n", " ")
    assert server.requests == []


def test_a_folder_without_answers_and_a_missing_option_are_sentences(judge, tmp_path):
    assert "holds no answers to judge" in judge(f"folder={tmp_path}")[2]
    assert "folder is missing: give folder=…" in judge()[2]


def test_no_judge_judges_nothing(command, tmp_path):
    run = lay_run(tmp_path / "outputs")
    assert "judge=none judges nothing" in command("judge", f"folder={run}", "judge=none", "logger=none")[2]


def test_an_outage_is_a_failure_that_keeps_what_came(judge, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    server.behaviour = lambda request: fails(500) if len(server.requests) > 4 else by_length(request)
    code, _, err = judge(f"folder={run}", "judge.retries=1", "judge.concurrency=1")
    assert code == 1
    assert "HTTP 500" in err
    server.behaviour = by_length
    sent = len(server.requests)
    assert judge(f"folder={run}")[0] == 0
    assert len(server.requests) - sent == 2 * NEEDED - 4


def test_scores_are_logged_under_the_rounds_own_run_however_the_folder_is_named(command, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    code, _, err = command(
        "judge", "folder=outputs/lab/tiny", f"judge.base_url={server.url}", f"cache={tmp_path / 'cache'}"
    )
    assert code == 0, err
    relative = Path("outputs/lab/tiny/kcenter-iterative/seed0")  # as `evolve` names it
    ids = {RunFolder(relative, {"seed": 0}).round_id(t) for t in (0, 1)}
    assert {path.name.rsplit("-", 1)[1] for path in (run / "wandb").glob("offline-run-*")} == ids


def test_samplers_are_compared_over_seeds(judge, command, tmp_path):
    for seed in range(3):
        lay_run(tmp_path / "outputs", "kcenter-iterative", seed, lead=2 + (seed == 1))
        lay_run(tmp_path / "outputs", "random-iterative", seed)
    assert judge(f"folder={tmp_path / 'outputs'}")[0] == 0
    code, out, err = command("compare", "folder=outputs", "out=c.json")
    assert (code, err) == (0, "")
    found = json.loads((tmp_path / "c.json").read_text())
    (verdict,) = found["samplers"]
    assert (verdict["schedule"], verdict["verdict"], verdict["seeds"]) == ("kcenter-iterative", "better", [0, 1, 2])
    assert len(found["models"]) == 3
    assert "These two samplers (final round)" in out
    code, _, err = command("compare", "folder=outputs", "baseline=rand")
    assert code == 2
    assert "choose one of kcenter-iterative, random-iterative" in err


def test_judgements_are_replayed_without_a_key(judge, command, monkeypatch, tmp_path):
    run = lay_run(tmp_path / "outputs")
    assert judge(f"folder={run}")[0] == 0
    monkeypatch.delenv("OPENAI_API_KEY")
    again = ("judge=replay", f"judge.judgements={tmp_path / 'outputs'}", "logger=none", f"folder={run}")
    code, _, err = command("judge", *again, f"out={tmp_path / 'again'}")
    assert code == 0, err
    one, other = (next(place.rglob("rounds/01/judgements/mine.jsonl")) for place in (run, tmp_path / "again"))
    assert one.read_bytes() == other.read_bytes()


def test_commands_that_need_no_model_do_not_wait_for_torch(tmp_path):
    modules = ", ".join(f"diverseevol.cli.commands.{verb}" for verb in ("score", "compare", "agreement", "judge"))
    script = f"import sys, diverseevol.cli, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


@pytest.mark.slow
def test_an_interrupted_command_says_so_and_loses_at_most_what_was_under_way(server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    sent = threading.Event()

    def behaviour(request: Request) -> Answer:
        if len(server.requests) > 4:  # so that the work cannot be over before the signal
            sent.wait(60)
        return Answer(body=by_length(request).body, delay=0.3)

    server.behaviour = behaviour
    options = (f"folder={run}", f"judge.base_url={server.url}", f"cache={tmp_path / 'cache'}", "logger=none")
    command = [sys.executable, "-m", "diverseevol", "judge", *options, "judge.concurrency=2"]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while len(server.requests) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    sent.set()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted; everything so far is kept" in err
    assert 5 <= len(server.requests) < 2 * NEEDED
    subprocess.run(command, env=environment, check=True, capture_output=True, cwd=tmp_path)
    assert 2 * NEEDED <= len(server.requests) <= 2 * NEEDED + 2


def test_a_model_answers_and_becomes_the_competitor_of_another(judge, command, foundation, tmp_path):
    run = lay_run(tmp_path / "outputs")
    asked = ("benchmark=questions", "benchmark.name=mine", f"benchmark.path={tmp_path / 'asked.jsonl'}")
    options = (f"model.path={foundation.path}", "generation.max_new_tokens=4", f"cache={tmp_path / 'cache'}")
    code, _, err = command("answer", *options, *asked, "out=theirs")
    assert code == 0, err
    answers = read_jsonl(tmp_path / "theirs" / "answers" / "mine.jsonl")
    assert [line["instruction"] for line in answers] == QUESTIONS
    before = (tmp_path / "theirs" / "answers" / "mine.jsonl").stat().st_mtime_ns
    assert command("answer", *options, *asked, "out=theirs")[0] == 0
    assert (tmp_path / "theirs" / "answers" / "mine.jsonl").stat().st_mtime_ns == before
    code, _, err = judge("folder=theirs", *asked, "benchmark.competitor=theirs.jsonl")
    assert code == 0, err
    assert [
        question.instruction for question in read_questions(tmp_path / "theirs/questions/mine.jsonl").questions
    ] == QUESTIONS
    code, _, err = judge(f"folder={run}", *asked, "benchmark.competitor=theirs")
    assert code == 0, err
    assert len(read_jsonl(run / "rounds" / "01" / "judgements" / "mine.jsonl")) == NEEDED
    assert "give model=hf" in command("answer", "model=tiny", *asked, "out=theirs")[2]


def lay_answers(folder: Path, answers: list[str]) -> Path:
    """What `diverseevol answer` leaves."""
    lay(folder / "answers" / "mine.jsonl", lines(answers))
    (folder / "fingerprint.json").write_text(json.dumps({"model": "m", "prompt": "p", "seed": 0, "generation": {}}))
    asked = lay(folder.parent / "asked.jsonl", [{"id": str(i), "instruction": q} for i, q in enumerate(QUESTIONS)])
    theirs = lay(folder.parent / "theirs.jsonl", [{"id": str(i), "answer": "y" * 6} for i in range(len(QUESTIONS))])
    save_questions(folder, load_benchmark("mine", asked, theirs, cache=folder))
    return folder


def test_what_answer_wrote_is_judged_where_it_lies_and_elsewhere(judge, command, server, tmp_path):
    folder = lay_answers(tmp_path / "answers of" / "some-model", ["x", "xx", "xxx"])
    code, _, err = judge(f"folder='{folder}'")
    assert code == 0, err
    assert relative_score(folder) == pytest.approx(100 * 6 / 18)
    assert len(read_jsonl(folder / "judgements" / "mine.jsonl")) == NEEDED
    assert not (folder / "rounds").exists()
    code, _, err = judge(f"folder='{tmp_path / 'answers of'}'", "out=elsewhere")
    assert code == 0, err
    (scores,) = (tmp_path / "elsewhere").rglob("scores.json")
    assert relative_score(scores.parent) == pytest.approx(100 * 6 / 18)
    assert len(server.requests) == NEEDED
    for place in (folder, folder.parent, folder / "judgements" / "mine.jsonl", tmp_path / "elsewhere"):
        code, _, err = command("score", f"folder='{place}'", f"out={tmp_path / 'scores.csv'}")
        assert code == 0, err
        (row,) = csv.DictReader((tmp_path / "scores.csv").read_text().splitlines())
        assert (row["schedule"], row["benchmark"], row["seed"]) == ("some-model", "mine", "0")
        assert float(row["relative_score"]) == pytest.approx(100 * 6 / 18, abs=1e-3)


def test_answers_in_a_folder_that_answer_did_not_write_are_not_judged(judge, tmp_path):
    folder = lay_answers(tmp_path / "some-model", ["x", "xx", "xxx"])
    (folder / "fingerprint.json").unlink()
    code, _, err = judge(f"folder={folder}")
    assert code == 2
    assert "holds no answers to judge" in err


def test_what_a_model_answered_is_asked_for_where_nothing_says_it(judge, tmp_path):
    folder = lay_answers(tmp_path / "some-model", ["x", "xx", "xxx"])
    (folder / "questions" / "mine.jsonl").unlink()
    code, _, err = judge(f"folder={folder}")
    assert code == 2
    assert "neither questions/mine.jsonl nor config.yaml" in err
    assert "give benchmark=…" in err
    asked = (
        "benchmark=questions",
        "benchmark.name=mine",
        "benchmark.path=asked.jsonl",
        "benchmark.competitor=theirs.jsonl",
    )
    code, _, err = judge(f"folder={folder}", *asked)
    assert code == 0, err


def lay_lab_run(outputs: Path) -> Path:
    """A run folder whose questions have references and no competitor, as the lab's have."""
    run = lay_run(outputs)
    asked = lay(
        outputs.parent / "referenced.jsonl",
        [{"id": str(i), "instruction": q, "reference": "x"} for i, q in enumerate(QUESTIONS)],
    )
    (run / "questions" / "mine.jsonl").unlink()
    save_questions(run, load_benchmark("mine", asked, cache=outputs))
    return run


def test_what_judging_a_lab_would_take_is_said(judge, command, server, tmp_path):
    lay_lab_run(tmp_path / "outputs")
    code, _, err = judge("folder=outputs", "judge.max_calls=0")
    assert code == 0, err
    assert (
        "skipped: benchmark mine: 3 of 3 questions have no competitor (the first is '0'), which the judge gpt-4" in err
    )
    assert "benchmark.competitor=FILE" in err
    assert "another judge (one that compares with a reference, which all questions have)" in err
    assert "0 of 0 judgements remain" in err
    assert "nothing was asked" in err
    assert not list((tmp_path / "outputs").rglob("judgements"))
    code, _, err = judge("folder=outputs")
    assert code == 2
    assert "3 of 3 questions have no competitor" in err
    assert command("judge", "folder=outputs", "judge=gold", "logger=none")[0] == 0
    asked = (
        "benchmark=questions",
        "benchmark.name=mine",
        "benchmark.path=asked.jsonl",
        "benchmark.competitor=theirs.jsonl",
    )
    code, _, err = judge("folder=outputs", "judge.max_calls=0", *asked)
    assert code == 0, err
    assert "12 of 12 judgements remain" in err
    assert "before judging: " in err
    assert "holds judgements by gold; give out=FOLDER" in err
    assert "holds judgements by gold; give out=FOLDER" in judge("folder=outputs", *asked)[2]
    assert server.requests == []


def test_what_a_judge_can_judge_is_judged_and_the_rest_is_named(judge, server, tmp_path):
    lay_lab_run(tmp_path / "outputs")
    other = tmp_path / "outputs" / "lab" / "tiny" / "random-iterative" / "seed0"
    lay_run(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere" / "lab" / "tiny" / "kcenter-iterative" / "seed0", other)
    for file in (*other.rglob("mine.jsonl"),):
        file.rename(file.with_name("theirs.jsonl"))
    code, _, err = judge("folder=outputs")
    assert code == 0, err
    assert "skipped: benchmark mine: 3 of 3 questions have no competitor" in err
    assert len(server.requests) == 2 * NEEDED
    assert {file.name for file in (tmp_path / "outputs").rglob("judgements/*")} == {"theirs.jsonl"}


@pytest.mark.parametrize("content", ["[1]", "null", "3", '{"seed": ', ""])
def test_a_damaged_identity_is_found_before_the_first_call(judge, server, tmp_path, content):
    run = lay_run(tmp_path / "outputs")
    (run / "fingerprint.json").write_text(content)
    code, _, err = judge(f"folder={run}")
    assert code == 2, err
    assert "fingerprint.json" in err
    assert server.requests == []


def test_answers_of_two_models_seeds_or_prompts_never_share_a_folder(command, foundation, tmp_path):
    lay_run(tmp_path / "outputs")
    asked = ("benchmark=questions", "benchmark.name=mine", f"benchmark.path={tmp_path / 'asked.jsonl'}")
    options = ("generation.max_new_tokens=4", f"cache={tmp_path / 'cache'}", "out=theirs")
    other = foundation.load()
    other.model.embed_tokens.weight.data[0] += 1
    other.save_pretrained(tmp_path / "other")
    foundation.tokenizer().save_pretrained(tmp_path / "other")
    assert command("answer", *options, *asked, f"model.path={foundation.path}")[0] == 0
    file = tmp_path / "theirs" / "answers" / "mine.jsonl"
    whole = file.read_bytes()
    changes = {
        "model": (f"model.path={tmp_path / 'other'}",),
        "seed": (f"model.path={foundation.path}", "seed=1"),
        "prompt": (f"model.path={foundation.path}", "prompt.max_length=77"),
        "generation": (f"model.path={foundation.path}", "generation.temperature=0"),
    }
    for kept in (whole, whole.splitlines(keepends=True)[0]):  # all answers, or what an interrupted run left
        if kept != whole:
            file.unlink()
            file = file.with_suffix(".unfinished")
        file.write_bytes(kept)
        for what, change in changes.items():
            code, _, err = command("answer", *options, *asked, *change)
            assert code == 2, what
            assert f"holds answers that differ in {what} from those asked for" in err
            assert file.read_bytes() == kept
    assert command("answer", *options, *asked, f"model.path={foundation.path}", "generation.batch_size=2")[0] == 0
    assert file.with_suffix(".jsonl").read_bytes() == whole
    (tmp_path / "theirs" / "fingerprint.json").unlink()
    code, _, err = command("answer", *options, *asked, f"model.path={foundation.path}")
    assert code == 2
    assert "fingerprint.json: missing, so nobody knows which model" in err


def test_judgements_under_another_prompt_are_kept_unless_told_otherwise(judge, server, tmp_path):
    run = lay_run(tmp_path / "outputs")
    wording = tmp_path / "pair.txt"
    wording.write_text("{question}\n<answer-1>\n{first}\n</answer-1>\n<answer-2>\n{second}\n</answer-2>")
    assert judge(f"folder={run}")[0] == 0
    (version,) = {line["prompt_version"] for line in read_jsonl(run / "rounds/01/judgements/mine.jsonl")}
    before = {file: file.read_bytes() for file in run.rglob("*.json*")}
    code, _, err = judge(f"folder={run}", f"judge.prompt={wording}")
    assert code == 2
    assert f"holds judgements by gpt-4 ({version}); give out=FOLDER" in err
    assert {file: file.read_bytes() for file in run.rglob("*.json*")} == before
    assert len(server.requests) == 2 * NEEDED
    assert judge(f"folder={run}", f"judge.prompt={wording}", "replace=true")[0] == 0
    assert judge(f"folder={run}", f"judge.prompt={wording}")[0] == 0


def test_a_folder_named_from_inside_is_judged(judge, tmp_path, monkeypatch):
    run = lay_run(tmp_path / "outputs")
    for inside, folder in (("rounds", "."), ("rounds/00", "."), ("rounds/00", ".."), ("rounds/00/answers", ".")):
        monkeypatch.chdir(run / inside)
        code, out, err = judge(f"folder={folder}", "replace=true")
        assert code == 0, err
        assert "33.33" in out
    assert relative_score(run / "rounds" / "01") == pytest.approx(100 * 9 / 18)


def test_what_names_a_run_is_copied_whole_beside_its_judgements_which_one_process_writes(judge, tmp_path):
    run = lay_run(tmp_path / "outputs")
    (run / "rounds" / "01" / "round.json").write_text(json.dumps({"trained_on": [1, 2, 3, 4]}))
    target = tmp_path / "out" / Path(*run.parts[-4:])
    (target / "rounds").mkdir(parents=True)
    with RunFolder(target, {}).locked():
        code, _, err = judge(f"folder={run}", f"out={tmp_path / 'out'}")
    assert code == 2
    assert "another process is at work in this folder" in err
    assert judge(f"folder={run}", f"out={tmp_path / 'out'}")[0] == 0
    for name in ("fingerprint.json", "rounds/00/round.json", "rounds/01/round.json"):
        assert (target / name).read_bytes() == (run / name).read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_judge_of_a_users_own_is_one_class_and_one_yaml(command, monkeypatch, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "judging.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page.partition("## Your own judge")[2], re.DOTALL)
    (tmp_path / "short.py").write_text(code)
    choice = tmp_path / "own" / "judge" / "short.yaml"
    choice.parent.mkdir(parents=True)
    choice.write_text("_target_: short.Short\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = lay_run(tmp_path / "outputs", lead=3)
    status, _, err = command("judge", "folder=outputs", "judge=short", "logger=none", "--config-dir", "own")
    assert status == 0, err
    assert "short judges the answers of 2 models" in err
    assert relative_score(run / "rounds" / "00") == pytest.approx(100 * (9 + 9 + 1) / 15)
    assert "by hand" not in command("score", "folder=outputs")[1]
    (tmp_path / "short.py").write_text(code.replace("calls=False", 'calls=False, label="by hand"'))
    monkeypatch.delitem(sys.modules, "short")
    assert command("judge", "folder=outputs", "judge=short", "logger=none", "--config-dir", "own")[0] == 0
    assert "short: by hand" in command("score", "folder=outputs")[1]  # which knows the judge from its scores alone
    status, _, err = command("judge", "folder=outputs", "judge=overlap", "logger=none")
    assert (status, "holds judgements by short; give out=FOLDER" in err) == (2, True)
    choice.write_text(
        "_target_: short.Judgement\nquestion_id: a\norder: 0\nmodel_score: 1.0\ncompetitor_score: 1.0\n"
        "judge: x\nprompt_version: x\nreason: x\n"
    )
    status, _, err = command("judge", "folder=outputs", "judge=short", "logger=none", "--config-dir", "own")
    assert (status, "Judgement is not a judge; give it a name, capabilities and a" in err) == (2, True), err
    choice.write_text("_target_: short.Short\n")
    lay_lab_run(tmp_path / "referenced")
    status, _, err = command("judge", "folder=referenced", "judge=short", "logger=none", "--config-dir", "own")
    assert (status, "have no competitor (the first is '0'), which the judge short" in err) == (2, True)
