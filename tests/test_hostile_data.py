"""Rows, questions, answers, judges' words, names and paths that would steer a terminal, a shell or a spreadsheet."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from chat_server import KEY, Answer, ChatServer, fails, says
from run_folders import STEERING_NAME, STEERING_TEXT, World, lay_run

from diverseevol import cli
from diverseevol.output.shell import override
from diverseevol.output.terminal import visible

HALF = f"{STEERING_TEXT} \ud800"  # with half of a surrogate pair, as a JSON document may hold it
Command = Callable[..., tuple[int, str]]
OWN = re.compile(r"\x1b\[(\d{0,3}(;\d{1,3})*m|\?25[lh]|[12]?K|\d*A)|\r(?=\x1b|\n|$| )")  # rich's colours and live bars


@pytest.fixture
def command(monkeypatch, capfd, tmp_path) -> Command:
    """`command(verb, *words)`: the exit code, and both streams as a colour terminal gets them."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "200"), ("OPENAI_API_KEY", KEY), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        harmless(out)
        harmless(err)
        return int(str(stopped.value.code)), out + err

    return run


def harmless(text: str) -> None:
    """Nothing of the data steered the terminal, or was taken for markup."""
    shown = OWN.sub("", text)
    assert visible(shown) == shown, f"steering characters: {[c for c in shown if visible(c) != c]} in {shown!r}"
    assert "😄" not in shown
    assert "\x1b[31" not in text, "[red] was taken for markup"
    assert "\x1b[1;31" not in text


@pytest.fixture(scope="module")
def world() -> World:
    texts = dict.fromkeys(range(60), STEERING_TEXT)
    return World(name=f"{STEERING_NAME}/{STEERING_NAME}", judge=f"judge {STEERING_TEXT}", texts=texts)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory, world) -> Path:
    """Two samplers, two seeds, everything hostile that data or file names may hold."""
    folder = tmp_path_factory.mktemp("hostile") / f"outputs {STEERING_NAME}"
    for seed in range(2):
        lay_run(folder, world, "random", seed, scores=(4.0, 5.0, 6.0, 6.5))
        lay_run(folder, world, f"kc {STEERING_NAME}", seed, scores=(5.0, 6.0, 7.0, 7.5 + seed))
    for file in folder.rglob("scores.json"):
        scores = json.loads(file.read_text())
        for found in scores.values():
            found["label"] = f"label {HALF}"
        file.write_text(json.dumps(scores))
    for kind in ("judgements", "answers"):
        for file in folder.rglob(f"{kind}/*.jsonl"):
            lines = [json.loads(line) for line in file.read_text().split("\n") if line]
            for line in lines:
                line["reply" if kind == "judgements" else "answer"] = f"{HALF} {line.get('reply', '')}"
            file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def no_formulas(folder: Path) -> int:
    """Check every CSV below a folder; how many there are."""
    files = sorted(folder.rglob("*.csv"))
    for file in files:
        with file.open(encoding="utf-8", newline="") as lines:
            for cell in (cell for row in csv.reader(lines) for cell in row):
                if cell[:1] in {*"=+-@\t\r\n"} and cell:
                    float(cell)  # a number, or an error
    return len(files)


def test_a_report_of_hostile_runs_is_a_report(command, outputs, tmp_path):
    code, said = command("report", override("folder", outputs), override("out", tmp_path / STEERING_NAME))
    assert code == 0, said
    assert "[red]" in said
    out = tmp_path / STEERING_NAME
    assert no_formulas(out) >= 6
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 3
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    figures = sorted(out.rglob("*.svg"))
    assert len(figures) >= 3
    for figure in figures:
        assert "Glyph" not in said
        texts = "".join(ElementTree.parse(figure).getroot().itertext())
        assert visible(texts) == texts


def test_scores_and_verdicts_of_hostile_runs_are_shown(command, outputs, tmp_path):
    code, said = command("score", override("folder", outputs), override("out", f"{STEERING_NAME}.csv"))
    assert code == 0, said
    assert "[red]" in said
    assert no_formulas(tmp_path) == 1
    code, said = command("compare", override("folder", outputs), "baseline=random*", "metric=relative_score",
                         override("out", f"{STEERING_NAME}.json"))  # fmt: skip
    assert code == 0, said
    assert "[red]" in said


def test_two_hostile_judges_are_held_against_each_other(command, outputs, world, tmp_path):
    code, said = command("agreement", override("folder", outputs), override("recorded", outputs),
                         override("out", tmp_path / f"{STEERING_NAME}.json"))  # fmt: skip
    assert code == 0, said


def questions(folder: Path, n: int = 3) -> tuple[Path, list[dict[str, str]]]:
    asked = [{"id": str(i), "instruction": f"{i} {STEERING_TEXT}", "reference": STEERING_TEXT} for i in range(n)]
    file = folder / f"q {STEERING_NAME}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in asked))
    return file, asked


def answered(folder: Path) -> tuple[Path, list[str]]:
    """A run folder with hostile answers to hostile questions, and what says which these are."""
    file, asked = questions(folder)
    answers = [{"id": q["id"], "instruction": q["instruction"], "input": "", "answer": STEERING_TEXT} for q in asked]
    text = "".join(json.dumps(line) + "\n" for line in answers)
    run = folder / "runs" / STEERING_NAME / "seed0"
    for t in ("00", "01"):
        (run / "rounds" / t / "answers").mkdir(parents=True)
        (run / "rounds" / t / "answers" / "mine.jsonl").write_text(text)
    theirs = folder / f"theirs {STEERING_NAME}.jsonl"
    theirs.write_text(text)
    words = ["benchmark=questions", "benchmark.name=mine", override("benchmark.path", file),
             override("benchmark.competitor", theirs), override("folder", run), "logger=none",
             override("cache", folder / "cache")]  # fmt: skip
    return run, words


def test_judging_hostile_answers_ends_well(command, tmp_path):
    _, words = answered(tmp_path)
    for judge in ("overlap", "gold"):
        code, said = command("judge", *words, f"judge={judge}", override("out", tmp_path / f"{judge} {STEERING_NAME}"))
        assert code == 0, said
        assert "[red]" in said


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (lambda request: says(f"8 7\n{HALF}", model=HALF), 0),
        (lambda request: fails(401, f"no such key {HALF} " + "x" * 300_000), 2),
        (lambda request: fails(400, HALF), 2),
        (lambda request: Answer(500, HALF), 1),
    ],
)
def test_what_a_judges_server_says_is_only_shown(command, tmp_path, behaviour, code):
    _, words = answered(tmp_path)
    with ChatServer(behaviour).running() as server:
        done, said = command("judge", *words, "judge=openai", f"judge.base_url={server.url}", "judge.backoff=0.01",
                             override("judge.model", "m[red]:smile:[/]$_{"))  # fmt: skip
    assert done == code, said
    assert max(map(len, said.splitlines())) < 3000


def test_selecting_with_hostile_paths(command, tmp_path):
    embeddings = tmp_path / f"E {STEERING_NAME}.npy"
    np.save(embeddings, np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32))
    out = tmp_path / f"P {STEERING_NAME}.json"
    code, said = command("select", override("embeddings", embeddings), "n=3", override("out", out))
    assert code == 0, said
    assert len(json.loads(out.read_text())["chosen"]) == 3


def test_an_evolution_over_hostile_rows_shows_and_hints_and_runs_nothing_else(command, tmp_path):
    rows = tmp_path / f"rows {STEERING_NAME}.json"
    records = [{"instruction": f"{i} {STEERING_TEXT}", "input": "", "output": STEERING_TEXT} for i in range(12)]
    rows.write_text(json.dumps(records))
    file, _ = questions(tmp_path)
    folder = tmp_path / f"run {STEERING_NAME}"
    words = ["evolve", "data=json", override("data.path", rows), "model=tiny", "model.hidden=16", "model.heads=2",
             "model.vocabulary=300", "schedule.rounds=1", "schedule.seed_size=4", "schedule.step_size=2",
             "tuning.steps=2", "benchmark=questions", "benchmark.name=mine", override("benchmark.path", file),
             "generation.max_new_tokens=4", "logger=csv", override("folder", folder), "threads=1",
             override("cache", tmp_path / "cache")]  # fmt: skip
    code, said = command(*words, "judge=none")
    assert code == 0, said
    assert no_formulas(folder) >= 1
    code, said = command(*words, "judge=gold")
    assert code == 0, said
    (hint,) = re.findall(r"diverseevol (judge .*) judge=…", OWN.sub("", said))
    arrived = subprocess.run(["sh", "-c", f"printf '%s\\0' {hint}"], capture_output=True, cwd=tmp_path, check=True)
    verb, word = arrived.stdout.decode().split("\0")[:2]
    assert (verb, word) == ("judge", override("folder", folder))
    assert not (tmp_path / "touched").exists()
    code, said = command(verb, word, "judge=gold", override("cache", tmp_path / "cache"), "logger=none")
    assert code == 0, said


def test_a_refusal_that_quotes_data_is_one_short_line(command, tmp_path):
    rows = tmp_path / f"rows {STEERING_NAME}.jsonl"
    rows.write_text(json.dumps({"instruction": STEERING_TEXT, "output": ["x" * 500_000]}) + "\n")
    for words in (
        ("evolve", "data=json", override("data.path", rows), "model=tiny"),
        ("evolve", "data=json", override("data.path", tmp_path / "missing" / STEERING_NAME), "model=tiny"),
        ("evolve", override("sampler", STEERING_NAME)),
        ("evolve", f"nosuch{STEERING_NAME}=1"),
        (f"evolv{STEERING_NAME}",),
        ("evolve", f"--{STEERING_NAME}"),
        ("report", override("folder", STEERING_NAME)),
        ("score", override("folder", STEERING_NAME + "x" * 100)),
        ("compare", override("folder", STEERING_NAME)),
        ("judge", override("folder", STEERING_NAME)),
        ("select", override("embeddings", STEERING_NAME), "n=1"),
    ):
        code, said = command(*words)
        assert code == 2, (words, said)
        *bars, line = OWN.sub("", said.removesuffix("\n")).split("\n")
        assert line.startswith("diverseevol: ")
        assert all(not bar or bar.startswith("  check the data") for bar in bars), said
        assert len(line) < 3000


@pytest.mark.parametrize("error", [ValueError(HALF), OSError(5, HALF, STEERING_NAME)])
def test_whatever_fails_fails_in_one_harmless_line(command, monkeypatch, error):
    def fail(configuration: object) -> None:
        raise error

    monkeypatch.setattr("diverseevol.cli.commands.score.run", fail)
    code, said = command("score", "folder=x")
    assert code == 1
    assert len(said.splitlines()) == 1
    monkeypatch.setenv("DIVERSEEVOL_TRACEBACK", "1")
    code, said = command("score", "folder=x")
    assert code == 1
    assert "Traceback" in said
