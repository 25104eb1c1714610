"""Two processes do what one does: the same picks from the same features, the same training to float tolerance."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_evolution

SMALL = (
    *small_evolution.SMALL, "schedule.rounds=2", "tuning.steps=12", "logger=none", "trainer.accelerator=cpu",
    "keep_models=all", "tuning.micro_batch_tokens=300", "embedding.batch_tokens=300",
)  # fmt: skip


def run(arguments: list[str], processes: int, notes: Path | None = None) -> str:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment, module = {**os.environ, "OMP_NUM_THREADS": "1"}, "diverseevol"
    if notes is not None:
        notes.mkdir()
        paths = [str(Path(__file__).parent), *sys.path]
        environment |= {"NOTES": str(notes), "PYTHONPATH": os.pathsep.join(paths)}
        module = "watched_process"
    done = subprocess.run(
        [*launcher, "-m", module, "evolve", *arguments, *SMALL],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def read(folder: Path, t: int, name: str) -> Any:
    return json.loads((folder / f"rounds/{t:02d}/{name}").read_text())


class Notes:
    """What the processes of one run did, as `watched_process` noted it: a list for each of them."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.iterdir())
        self.ranks = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    def made(self, below: tuple[Path, ...]) -> list[set[Path]]:
        """The files and folders that each process made or put in their place."""
        paths = [{Path(value) for kind, value in rank if kind == "made"} for rank in self.ranks]
        return [{path for path in made if {*path.parents} & {*below}} for made in paths]

    def passes(self, what: str) -> list[list[list[Any]]]:
        """By process, for each pass over rows or questions those that it took; a pass begins with batch 0."""
        found: list[list[list[Any]]] = [[] for _ in self.ranks]
        for rank, passes in zip(self.ranks, found, strict=True):
            for batch, items in (value for kind, value in rank if kind == what):
                if batch == 0:
                    passes.append([])
                passes[-1] += items
        return found


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    one, two = tmp_path / "one", tmp_path / "two"
    run([f"folder={one}", f"cache={tmp_path / 'cache-one'}"], 1, tmp_path / "notes-one")
    spoken = run([f"folder={two}", f"cache={tmp_path / 'cache-two'}"], 2, tmp_path / "notes-two")
    assert spoken.count("round 0/2:") == 1, "one process speaks"
    assert not list(two.rglob("*.partial"))

    # The foundation space, where no training comes between: features equal, whoever computed them.
    space = [
        np.load(next((tmp_path / f"cache-{name}" / "foundation").glob("*/embedding.npy"))) for name in ("one", "two")
    ]
    np.testing.assert_allclose(space[0], space[1], rtol=1e-5, atol=1e-6)
    assert (space[1] != 0).any(axis=1).all(), "every row was embedded by one of the two"

    # Round 0: the same pool, trained to float tolerance, answered alike, and the same picks from it.
    first = [read(folder, 0, "round.json") for folder in (one, two)]
    assert first[0]["trained_on"] == first[1]["trained_on"]
    losses = [record["metrics"]["train_loss"] for record in first]
    print(f"training loss, relative difference: {abs(losses[1] - losses[0]) / losses[0]:.2g}")
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    weights = [load_file(folder / "rounds/00/model/model.safetensors") for folder in (one, two)]
    apart = max(float(np.abs(weights[1][name] - expected).max()) for name, expected in weights[0].items())
    print(f"weights, largest difference: {apart:.2g}")
    for name, expected in weights[0].items():
        np.testing.assert_allclose(weights[1][name], expected, rtol=1e-2, atol=1e-4, err_msg=name)
    answers = [(folder / "rounds/00/answers/lab_natural.jsonl").read_text().splitlines() for folder in (one, two)]
    assert len(answers[1]) == len(answers[0])
    assert [json.loads(a)["id"] for a in answers[1]] == [json.loads(a)["id"] for a in answers[0]]
    overlap = len({*first[0]["chosen"]} & {*first[1]["chosen"]}) / len(first[0]["chosen"])
    print(f"picks of round 0 in common: {overlap:.0%}")
    assert overlap >= 0.5, "reported, not promised: but features this close cannot choose at random"

    # The work was shared out: every row and every question is one process's. After a selection the pools may differ.
    watched = [Notes(tmp_path / f"notes-{name}") for name in ("one", "two")]
    for what, alike in {"embedded": 1, "trained": 1, "answered": 3}.items():
        (alone,), shares = (notes.passes(what) for notes in watched)
        assert len(alone) >= alike
        assert len(shares) == 2
        for number, (whole, *parts) in enumerate(zip(alone, *shares, strict=True)):
            assert all(parts), what
            together = [item for part in parts for item in part]
            assert len(together) == len(whole), (what, number)
            assert number >= alike or sorted(together) == sorted(whole), (what, number)
            assert what != "embedded" or len({*together}) == len(together)

    # So were the files: each has one writer.
    made = watched[1].made((two, tmp_path / "cache-two"))
    assert not made[0] & made[1]
    for file in filter(Path.is_file, [*two.rglob("*"), *(tmp_path / "cache-two").rglob("*")]):
        assert {file, *file.parents} & (made[0] | made[1]), f"{file}: nobody was seen to write it"

    # A run of two processes goes on in one: the files are the same.
    spoken = run([f"folder={two}", f"cache={tmp_path / 'cache-two'}"], 1)
    assert spoken.count("(there already)") == 3


@pytest.mark.slow
def test_tasks_of_srun_are_processes_of_one_evolution(tmp_path: Path) -> None:
    slurm = {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2(x1)", "SLURM_NTASKS": "2", "SLURM_NODEID": "0",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": str(os.getpid()), "SLURM_NODELIST": "127.0.0.1",
        "SLURM_JOB_NAME": "evolution", "SLURM_NNODES": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "diverseevol", "evolve", f"folder={tmp_path / 'run'}", f"cache={tmp_path}"]
    tasks = [
        subprocess.Popen(
            [*command, *SMALL, "schedule.rounds=1"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **slurm, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)},
        )
        for task in range(2)
    ]  # fmt: skip
    said = [task.communicate(timeout=600)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert [text.count("round 1/1:") for text in said] == [1, 0], "one process speaks"
    assert read(tmp_path / "run", 1, "round.json")["index"] == 1


@pytest.mark.slow
def test_identical_features_give_identical_picks_and_identical_weights_identical_answers(tmp_path: Path) -> None:
    """The foundation space of one cache, and steps too small to move a weight: only the number of processes differs."""
    from safetensors.numpy import load_file

    picks, models, answers = [], [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        run(
            [
                f"folder={folder}", f"cache={tmp_path / 'cache'}", "sampler=kcenter", "sampler.space=foundation",
                "tuning.learning_rate=1e-30", "generation.temperature=0.7",
            ],
            processes,
        )  # fmt: skip
        models.append(load_file(folder / "rounds/02/model/model.safetensors"))
        answers.append([(folder / f"rounds/{t:02d}/answers/lab_natural.jsonl").read_text() for t in range(3)])
        picks.append([read(folder, t, "round.json")["chosen"] for t in range(3)])
    assert picks[0] == picks[1]
    for name, expected in models[0].items():
        np.testing.assert_allclose(models[1][name], expected, rtol=0, atol=1e-20, err_msg=name)
    texts = [[json.loads(line)["answer"] for file in files for line in file.splitlines()] for files in answers]
    assert texts[0] == texts[1]
    assert len({*texts[0]}) > 10, "each question has noise of its own: without it random weights answer all alike"


@pytest.mark.slow
def test_an_input_error_in_two_processes_is_said_once_and_torchrun_reports_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "diverseevol",
            "evolve", f"folder={tmp_path / 'run'}", f"cache={tmp_path}", "data=json", "data.path=/nowhere.jsonl",
            "model=tiny",
        ],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode != 0  # torchrun's own, whatever a process's was
    _, _, root_cause = done.stderr.partition("Root Cause")
    assert re.findall(r"exitcode *: (-?\d+)", root_cause) == ["2"]
    assert "failed in process" not in done.stderr
    assert "no such file" in done.stderr
    assert done.stderr.count("no such file") == 1
