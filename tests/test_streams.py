"""What standard output and error cannot take never ends the work, and changes no exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_evolution
from run_folders import World, lay_run

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "diverseevol")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    lay_run(tmp_path / "runs", World(rows=12, questions=2, name="größe/tiny"), rounds=1, size=3, scores=(4.0, 6.0))
    return tmp_path


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DIVERSEEVOL_CACHE": str(folder / "cache"), **variables}
    return subprocess.run(
        ["bash", "-c", f'run() {{ "{COMMAND[0]}" -m diverseevol "$@"; }}\n{line}'],
        cwd=folder, env=environment, capture_output=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_a_stream_of_ascii_gets_ascii(tmp_path, variables):
    variables |= {"PYTHONUTF8": "0"}
    helped = shell("run --help && run größe", tmp_path, **variables)
    assert helped.returncode == 2
    assert helped.stdout.startswith(b"diverseevol - which thousand of my instruction rows should I fine-tune on?\n")
    (line,) = helped.stderr.splitlines()
    assert line.startswith(b"diverseevol: there is no command ")
    assert (helped.stdout + helped.stderr).isascii()


def test_tables_and_errors_are_ascii_where_that_is_all_there_is(runs):
    scored = shell("run score folder=runs", runs, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.isascii()
    assert "größe" in (runs / "runs/scores.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("where", [">&- 2>&-", ">/dev/full 2>/dev/full", "2>&1 | true; exit ${PIPESTATUS[0]}"])
def test_nobody_listens_and_the_work_is_done(runs, where):
    assert shell(f"run score folder=runs {where}", runs).returncode == 0
    assert (runs / "runs/scores.csv").read_text().startswith("source,")


def test_nobody_listens_and_the_exit_code_is_the_works(tmp_path):
    assert shell("run evolve sampler=kcentre 2>&1 | true; exit ${PIPESTATUS[0]}", tmp_path).returncode == 2


@pytest.mark.slow
def test_an_evolution_goes_on_when_its_reader_has_gone(tmp_path):
    options = " ".join((*small_evolution.SMALL, "logger=none", "threads=1", "folder=run"))
    done = shell(f"run evolve {options} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "run/selected.jsonl").is_file()
