"""The comparison with a real model runs, with one that is not, and both sides give the same results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "perf.real_model"]


def test_every_part_runs_and_both_sides_agree(foundation, cache, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    wanted = ["--model", foundation.path, "--data", str(cache / "animals.jsonl"), "--size", "smoke", "--out", str(out)]
    done = subprocess.run([*COMMAND, *wanted], cwd=HERE, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(out.read_text())["found"]
    tables = {table["benchmark"]: table["rows"] for table in found if "rows" in table}
    assert set(tables) == {"embedding", "answers", "fit", "memory"}
    for row in tables["embedding"]:
        assert row["mean error / spread"] < (1e-5 if "float32" in row[""] else 0.1)
    for row in tables["fit"]:
        assert row["largest difference to plain"] < (1e-5 if "ours, float32" in row[""] else 1e-2)
    assert [row["answers as plain"] for row in tables["answers"] if "float32" in row[""]] == ["3 of 3"] * 2
    assert all(row["peak MB"] > row["of it for the work"] for row in tables["memory"])
    goals = [entry["found"] for entry in found if "goal" in entry]
    assert goals
    assert min(goals) > 0
    trl = any("TRL" in row[""] for row in tables["fit"])
    assert trl != any("TRL" in entry.get("note", "") for entry in found)  # measured, or said to be absent


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--model", str(tmp_path / "missing"), "--data", __file__],
        cwd=HERE, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 2
    assert "missing: there is no such path" in done.stderr
