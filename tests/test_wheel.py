"""What users install: the wheel brings its configuration along and runs from an empty folder."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_alone_runs_the_default_from_an_empty_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"diverseevol/conf/{file.relative_to(ROOT / 'conf')}" for file in (ROOT / "conf").rglob("*.yaml")}
    assert shipped <= inside
    assert not [name for name in inside if name.startswith(("tests/", "experiments/"))]

    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / "bin"
    install = [bin_folder / "python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=900)

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
