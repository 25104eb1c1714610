"""Every benchmark runs, at a size that says nothing about speed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perf.__main__ import NAMES

HERE = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_benchmark_runs_and_says_what_it_found(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "perf", "--size", "smoke", "--out", str(out)], cwd=HERE, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    tables = [table for table in json.loads(out.read_text())["found"] if "rows" in table]
    assert {table["benchmark"] for table in tables} == {*NAMES}
    for table in tables:
        clocked = [row[key] for row in table["rows"] for key in ("seconds", "ms", "ms a round") if key in row]
        assert len(clocked) == len(table["rows"])
        assert min(clocked) > 0, table["title"]
