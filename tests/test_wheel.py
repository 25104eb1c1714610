"""What users install: the wheel brings its configuration along and runs from an empty folder."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from small_evolution import SMALL

from diverseevol.cli.skeletons import KINDS
from diverseevol.storage.files import write_jsonl

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_alone_runs_the_default_and_code_of_ones_own_from_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"diverseevol/conf/{file.relative_to(ROOT / 'conf')}" for file in (ROOT / "conf").rglob("*.yaml")}
    assert shipped <= inside
    assert not [name for name in inside if name.startswith(("tests/", "experiments/"))]

    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / "bin"
    install = [bin_folder / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    subprocess.run([*install, wheel, "pytest"], check=True, capture_output=True, timeout=900)

    empty = tmp_path / "empty"
    empty.mkdir()
    env = {**os.environ, "DIVERSEEVOL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": ""}
    done = subprocess.run(
        [bin_folder / "diverseevol", "evolve"], cwd=empty, env=env, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = empty / "outputs" / "lab" / "lab" / "kcenter-iterative" / "seed0"
    assert len(list(run.glob("rounds/*/round.json"))) == 8
    assert (run / "relative_score.png").stat().st_size > 10_000
    assert {path.name for path in empty.iterdir()} == {"outputs"}

    own = tmp_path / "own"
    own.mkdir()

    def run(*words: str) -> str:
        command = [bin_folder / words[0], *words[1:]]
        ran = subprocess.run(command, cwd=own, env=env, capture_output=True, text=True, timeout=600)
        assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
        return ran.stdout

    for kind in KINDS:
        run("diverseevol", "new", kind, f"my_{kind}")
    assert "skipped" not in run("pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
    write_jsonl(own / "rows.jsonl", [{"question": f"What is {i}?", "answer": f"It is {i}."} for i in range(40)])
    write_jsonl(own / "answers.jsonl", [{"id": str(i), "answer": "It is so."} for i in (1, 2, 3)])
    small = [word for word in SMALL if not word.startswith(("data.", "benchmark", "schedule."))]
    sizes = ["schedule.rounds=1", "schedule.seed_size=10", "schedule.step_size=5", "logger=none", "folder=run"]
    judged = ["judge=my_judge", "benchmark=my_benchmark", "benchmark.competitor=answers.jsonl"]
    chosen = ["sampler=my_sampler", "metric=my_metric", "data=my_format", "data.path=rows.jsonl", *judged]
    run("diverseevol", "evolve", *chosen, *sizes, *small)
    judgements = own / "run" / "rounds" / "01" / "judgements" / "my_benchmark.jsonl"
    before = judgements.read_text()
    assert "my_judge-1" in before
    judgements.unlink()
    run("diverseevol", "judge", "folder=run", *judged, "logger=none")
    assert judgements.read_text() == before
    rows = ["data=my_format", "data.path=rows.jsonl", "model=tiny", "out=picks.json"]
    run("diverseevol", "select", "sampler=my_sampler", "n=5", *rows)
    assert len((own / "picks.jsonl").read_text().splitlines()) == 5
