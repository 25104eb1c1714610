"""Databricks' Dolly itself, all of its rows, through an evolution with a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOLLY = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "databricks-dolly-15k.jsonl"
TINY = (
    "model=tiny", "model.hidden=16", "model.heads=2", "model.layers=1", "model.vocabulary=400", "prompt.max_length=48",
    "schedule.rounds=1", "schedule.seed_size=20", "schedule.step_size=10", "tuning.steps=3", "benchmark=questions",
    "generation.max_new_tokens=4", "logger=none", "threads=1",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not DOLLY.is_file(), reason="DIVERSEEVOL_TEST_DATA has no databricks-dolly-15k.jsonl")
def test_an_evolution_on_dolly_chooses_among_its_rows_with_both_samplers(tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"instruction": "Name a colour.", "reference": "Red."}\n')
    sweep = ["-m", "data=dolly", f"data.path={DOLLY}", "sampler=kcenter,random", f"benchmark.path={questions}", *TINY]
    command = [sys.executable, "-m", "diverseevol", "evolve", *sweep]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]

    lines = [json.loads(line) for line in DOLLY.read_text(encoding="utf-8").split("\n") if line.strip()]
    first = set()
    for sampler in ("kcenter", "random"):
        (run,) = tmp_path.glob(f"outputs/dolly/tiny/{sampler}-iterative*/seed0")
        ineligible = run / "ineligible.jsonl"
        left_out = {json.loads(line)["row"] for line in ineligible.read_text().splitlines()}
        selected, receipts = (
            [json.loads(line) for line in (run / name).read_text(encoding="utf-8").splitlines()]
            for name in ("selected.jsonl", "receipts.jsonl")
        )
        rows = [receipt["row"] for receipt in receipts]
        assert len(set(rows)) == len(rows) == 30
        assert selected == [lines[row] for row in rows]
        assert not left_out & {*rows}
        assert len(list(run.glob("rounds/*/answers/questions.jsonl"))) == 2
        first.add(tuple(rows[:20]))
    assert len(first) == 1, "both samplers share P_0"
