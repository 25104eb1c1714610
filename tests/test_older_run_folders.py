"""Run folders made with 0.1 are read by the commands that read run folders, and are not resumed."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from diverseevol import cli

FOLDERS = Path(__file__).parent / "fixtures" / "run_folders_0_1"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, which commands may write into, as the current folder."""
    copy = tmp_path / "made-with-0.1"
    shutil.copytree(FOLDERS, copy)
    monkeypatch.chdir(copy)
    return copy


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["diverseevol", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_scores_of_older_run_folders_are_the_ones_that_they_hold(folders, monkeypatch):
    assert run(monkeypatch, "score", "folder=rows", "out=scores.csv") == 0
    lines = (folders / "scores.csv").read_text().splitlines()
    kept = [json.loads(file.read_text()) for file in folders.glob("rows/**/scores.json")]
    assert len(lines) == 1 + len(kept)


def test_older_run_folders_are_compared(folders, monkeypatch):
    assert run(monkeypatch, "compare", "folder=rows", "baseline=*random*", "out=comparison.json") == 0
    assert json.loads((folders / "comparison.json").read_text())["samplers"]


def test_older_run_folders_are_reported(folders, monkeypatch):
    assert run(monkeypatch, "report", "folder=[rows,lab]", "out=report") == 0
    page = (folders / "report" / "report.html").read_text()
    assert "kcenter" in page
    assert "random" in page


def test_answers_of_older_run_folders_are_judged_again(folders, monkeypatch):
    for name in ("rows", "lab"):
        assert run(monkeypatch, "judge", f"folder={name}", "judge=gold", "logger=none", f"out=judged-{name}") == 0
        judged, answered = (
            {str(file.relative_to(top)) for file in top.rglob("judgements/*.jsonl")}
            for top in (folders / f"judged-{name}" / name, folders / name)
        )
        assert judged == answered


def test_an_older_run_folder_is_not_resumed(folders, monkeypatch, capsys):
    arm = folders / "rows" / "tiny" / "kcenter-iterative-61348c43" / "seed0"
    before = {file: file.read_bytes() for file in arm.rglob("*") if file.is_file()}
    code = run(
        monkeypatch, "evolve", "data=json", "data.path=rows.jsonl", "model=tiny", "model.hidden=16",
        "schedule.rounds=2", "sizes.seed=6", "sizes.step=4", "tuning.epochs=1", "keep_models=none", "logger=none",
        "benchmark=questions",
        "benchmark.path=questions.jsonl", "generation.max_new_tokens=4", f"folder={arm}",
    )  # fmt: skip
    assert code == 2
    assert "made by diverseevol 0.1" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in arm.rglob("*") if file.is_file() and file.name != ".lock"} == before
