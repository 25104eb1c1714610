"""Sweeps on a cluster: jobs of several tasks, which are queued again when their time is over."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import small_evolution

from diverseevol.cli import cluster

ROOT = Path(__file__).parents[1]
# Features that do not depend on training: picks are the same, whatever the number of processes.
SMALL = (
    *small_evolution.SMALL, "logger=none", "threads=1", "trainer.accelerator=cpu", "sampler.space=foundation",
)  # fmt: skip
TASKS = ("hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2")


@contextmanager
def sweep(*arguments: str, cwd: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A sweep at work; what it says is in the file `said`."""
    environment = {
        **os.environ, "DIVERSEEVOL_CACHE": str(cwd / "cache"), "PYTHONPATH": f"{ROOT}:{cwd}", "OMP_NUM_THREADS": "1",
        **variables,
    }  # fmt: skip
    command = [sys.executable, "-m", "diverseevol", "evolve", "-m", *arguments]
    with (
        (cwd / "said").open("w") as said,
        subprocess.Popen(command, cwd=cwd, env=environment, stdout=said, stderr=said) as process,
    ):
        yield process


def chosen(outputs: Path) -> dict[str, list[int]]:
    """What each round of each evolution chose."""
    files = sorted(outputs.glob("lab/**/rounds/*/round.json"))
    return {str(file.relative_to(outputs)): json.loads(file.read_text())["chosen"] for file in files}


def logs(outputs: Path) -> dict[int, str]:
    """What the tasks of each job said, by the process that started them."""
    logs = {}
    for job in outputs.glob("sweeps/*/.submitit/*"):
        if job.name.isdecimal():
            logs[int(job.name)] = "".join(file.read_text() for file in sorted(job.glob("*_log.*")))
    return logs


def test_a_launcher_that_is_not_here_is_refused_at_once(
    command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    code, _, said = command_line("evolve", "-m", "hydra/launcher=slurm", "seed=0,1")
    assert code == 2
    assert "hydra/launcher=slurm: there is no sbatch or srun here; run the command on a node that submits" in said
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    for launcher in ("slurm", "submitit_local", "joblib"):
        code, _, said = command_line("evolve", "-m", f"hydra/launcher={launcher}", "seed=0,1")
        assert code == 2
        assert (
            f"hydra/launcher={launcher} needs a package that is not installed: pip install 'diverseevol[sweep]'" in said
        )


def test_slurm_is_asked_for_what_the_options_say_and_what_it_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, lines in {
        "srun": "",
        "sbatch": f'cp "$1" {tmp_path}/script; echo "no such partition" >&2; exit 1\n',
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{lines}")
        (tmp_path / "bin" / name).chmod(0o755)
    options = ("partition=gpu", "nodes=2", "gpus_per_node=4", "mem_gb=200", "array_parallelism=1", "timeout_min=60")
    words = ("hydra/launcher=slurm", *(f"hydra.launcher.{option}" for option in options), "seed=0,1")
    with sweep(*words, cwd=tmp_path, PATH=f"{tmp_path}/bin:{os.environ['PATH']}") as process:
        assert process.wait(60) == 1
    said = (tmp_path / "said").read_text()
    assert "no such partition" in said
    assert "2 of 2 jobs of the sweep failed" in said
    asked = (tmp_path / "script").read_text().splitlines()
    for line in (
        "#SBATCH --partition=gpu", "#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --ntasks-per-node=4",
        "#SBATCH --cpus-per-task=8", "#SBATCH --mem=200GB", "#SBATCH --array=0-1%1", "#SBATCH --time=60",
        "#SBATCH --signal=USR2@300", "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK", "export SLURM_KILL_BAD_EXIT=1",
    ):  # fmt: skip
        assert line in asked


@pytest.mark.slow
def test_jobs_of_two_processes_choose_as_one_and_go_on_after_their_time_is_over(tmp_path: Path) -> None:
    with sweep(*SMALL, "seed=0,1", "outputs=alone", cwd=tmp_path) as alone:
        assert alone.wait(600) == 0, (tmp_path / "said").read_text()
    outputs, late = tmp_path / "tasks", time.monotonic() + 600
    with sweep(*SMALL, "seed=0,1", "outputs=tasks", *TASKS, cwd=tmp_path) as tasks:
        while not (first := [*outputs.glob("lab/**/seed0/rounds/00/round.json")]):
            assert tasks.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < late
            time.sleep(0.01)
        (note,) = outputs.glob("sweeps/*/jobs/0.json")
        assert {key: json.loads(note.read_text())[key] for key in ("code", "folder")} == {
            "code": None, "folder": str(first[0].parents[2]),
        }  # fmt: skip
        (job,) = (number for number, said in logs(outputs).items() if "· seed 0" in said)
        for task in psutil.Process(job).children():  # as SLURM does
            with suppress(psutil.NoSuchProcess):
                task.send_signal(signal.SIGUSR2)
        assert tasks.wait(600) == 0, ((tmp_path / "said").read_text(), logs(outputs))
    said = logs(outputs)[job]
    assert "the job's time is over; everything so far is kept, and the job is queued again" in said
    assert "Requeued job" in said
    assert "Traceback" not in said
    assert said.count("round 0/1:") == 2, "found by the second start"
    assert "(there already)" in said
    assert len(chosen(tmp_path / "alone")) == 4
    assert chosen(outputs) == chosen(tmp_path / "alone")


@pytest.mark.slow
def test_a_job_that_fails_in_one_process_leaves_its_sentence_and_the_other_jobs_complete(tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(
        "import os\n"
        "from diverseevol.samplers import Longest\n\n\n"
        "class Fragile(Longest):\n"
        "    def __init__(self, fails):\n"
        "        if fails and os.environ['RANK'] == '1':\n"
        "            raise RuntimeError('it broke')\n"
    )
    words = [word for word in SMALL if not word.startswith("sampler")]
    with sweep(
        *words, "sampler._target_=fragile.Fragile", "sampler.fails=false,true", *TASKS, cwd=tmp_path
    ) as process:  # fmt: skip
        code = process.wait(600)
    said = (tmp_path / "said").read_text()
    assert code == 1, said
    assert "1 of 2 jobs of the sweep failed, the others are done" in said
    assert "# failed in process 1: RuntimeError: it broke" in said
    (kept,) = tmp_path.glob("outputs/sweeps/*/rerun.sh")
    (line,) = kept.read_text().splitlines()
    assert "sampler.fails=True" in line
    assert "hydra.launcher.tasks_per_node=2" in line
    assert len(chosen(tmp_path / "outputs")) == 2
