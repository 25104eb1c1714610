"""Sweeps: a job that fails leaves the others alone, and the sweep ends with what of it has to be run again."""

import itertools
import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import small_evolution
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from run_folders import STEERING_NAME

from diverseevol.cli import VERBS, app
from diverseevol.cli.sweep import Ledger
from diverseevol.errors import InputError
from diverseevol.output.shell import override
from diverseevol.storage.files import temporary

ROOT = Path(__file__).parents[1]
SMALL = (*small_evolution.SMALL, "logger=none", "threads=1")


def evolve(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DIVERSEEVOL_CACHE": str(cwd / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "diverseevol", "evolve", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1200)


def listed(said: str) -> list[str]:
    """The commands that a sweep ends with."""
    return [line.removeprefix("diverseevol:   ") for line in said.splitlines() if "  diverseevol evolve" in line]


def test_a_ledger_lists_what_failed_and_what_never_ended_as_commands(tmp_path):
    ledger = Ledger(tmp_path, "evolve")
    ledger.plan([["seed=0"], ["seed=1", "data.path=a b.jsonl"], ["seed=2"], ["seed=3"]])
    ledger.end(0, ["seed=0"])
    ledger.end(1, ["seed=1", "data.path=a b.jsonl"], 2, "no such file")
    ledger.end(3, ["seed=3"])
    failed, cut = ledger.missing()
    assert (failed.failure, failed.code) == ("no such file", 2)
    assert shlex.split(failed.command) == ["diverseevol", "evolve", "seed=1", "data.path=a b.jsonl"]
    assert (cut.command, cut.failure, cut.code) == ("diverseevol evolve seed=2", None, 1)
    assert (tmp_path / "rerun.sh").read_text() == f"{failed.command}\n{cut.command}\n"


def test_a_complete_sweep_ends_with_commands_that_read_its_own_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ledger = Ledger(tmp_path / "sweep", "evolve")
    ledger.plan([["sampler=random"], ["sampler=kcenter"]])
    for number, name in enumerate(("random", "kcenter")):
        ledger.begin(number, [f"sampler={name}"], tmp_path / "my runs/lab" / name / "seed0")
        ledger.end(number, [f"sampler={name}"])
    assert app._close(ledger) == 0
    said = capsys.readouterr().err
    folder = """'folder="my runs/lab"'"""
    assert f"diverseevol report {folder}; for verdicts: diverseevol compare {folder} (or" in said


@pytest.mark.parametrize("note", ["[1]", '{"code": "0"}', '{"code": 1, "said": [1]}', "null", "{}"])
def test_a_note_that_says_nothing_of_a_job_counts_as_none(tmp_path, note):
    ledger = Ledger(tmp_path, "evolve")
    ledger.plan([["seed=0"], ["seed=1"]])
    ledger.end(1, ["seed=1"])
    for name in ("0", "x", "-1", "9" * 200, "²"):
        (tmp_path / "jobs" / f"{name}.json").write_text(note)
    (job,) = ledger.missing()
    assert (job.command, job.failure, job.code) == ("diverseevol evolve seed=0", None, 1)


@pytest.mark.parametrize("plan", ["{}", "[1]", "[[1]]", '["seed=0"]', "null"])
def test_a_plan_that_was_edited_is_refused(tmp_path, plan):
    (tmp_path / "jobs.json").write_text(plan)
    with pytest.raises(InputError, match=r"jobs\.json: expected a list of lists of overrides"):
        Ledger(tmp_path, "evolve").missing()


def test_what_a_sweep_ends_with_runs_the_job_as_it_was_and_nothing_else(tmp_path):
    folder = f"runs/{STEERING_NAME}"
    job = [override("folder", folder), "seed=1"]
    ledger = Ledger(tmp_path / "sweep", "evolve")
    ledger.plan([job])
    ledger.end(0, job, 2, "refused\n; touch touched")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "diverseevol"
    program.write_text('#!/bin/sh\nfor word in "$@"; do printf \'%s\\0\' "$word"; done\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    (missing,) = ledger.missing()
    for words in (["-c", missing.command], [str(tmp_path / "sweep" / "rerun.sh")]):
        done = subprocess.run(["sh", *words], cwd=tmp_path, env=environment, capture_output=True, check=True)
        assert done.stdout.decode().split("\0") == ["evolve", *job, ""]
    assert {file.name for file in tmp_path.iterdir()} == {"sweep", "bin"}
    read = OverridesParser.create().parse_override(job[0])
    assert OmegaConf.create({"folder": read.value()}).folder == folder


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "new"])
def test_every_command_keeps_a_ledger_of_its_sweeps(verb):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose(verb, return_hydra_config=True)
    assert composed.hydra.callbacks.ledger._target_ == "diverseevol.cli.NoteSweep"


def test_a_sweep_of_select_goes_on_after_a_bad_job_and_lists_it(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("E.npy", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    words = ("embeddings=E.npy", "n=4", "sampler=random")
    code, _, err = command_line("select", "-m", *words, "seed=0,-1,1", "out=P${seed}.json")
    assert code == 2
    assert sorted(file.name for file in tmp_path.glob("P*.json")) == ["P0.json", "P1.json"]
    assert "1 of 3 jobs of the sweep failed, the others are done; rerun them with sh " in err
    (file,) = tmp_path.glob("outputs/sweeps/*/rerun.sh")
    (line,) = file.read_text().splitlines()
    assert shlex.split(line.replace("\\", "")) == ["diverseevol", "select", *words, "seed=-1", "out=P${seed}.json"]
    assert line in err


def test_what_has_to_be_run_again_has_the_users_own_configuration(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("E.npy", np.ones((20, 4), np.float32))
    (tmp_path / "own/sampler").mkdir(parents=True)
    (tmp_path / "own/sampler/mine.yaml").write_text("_target_: diverseevol.samplers.Random\n")
    words = ("--config-dir=own", "hydra.sweep.dir=sweep", "embeddings=E.npy", "n=4", "sampler=mine", "seed=-1")
    code, _, err = command_line("select", "-m", *words, "out=P.json")
    assert (code, shlex.split((tmp_path / "sweep/rerun.sh").read_text())[2:]) == (2, [*words, "out=P.json"]), err


def test_a_sweep_begins_without_the_half_written_notes_of_one_that_was_killed(tmp_path):
    left, fresh = temporary(tmp_path / "a/jobs/3.json"), temporary(tmp_path / "b/jobs/0.json")
    mine = tmp_path / "a/jobs/my.json.partial"
    for file in (left, fresh, mine):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for file in (left, mine):
        os.utime(file, (0, 0))
    Ledger(tmp_path / "c", "evolve").plan([["seed=0"]])
    assert [file.exists() for file in (left, fresh, mine)] == [False, True, True]


@pytest.mark.slow
def test_a_sweep_whose_jobs_are_all_refused_ends_with_2_and_all_of_them(tmp_path):
    done = evolve("-m", "seed=-1,-2", "logger=none", cwd=tmp_path)
    assert done.returncode == 2
    assert listed(done.stderr) == ["diverseevol evolve seed=-1 logger=none", "diverseevol evolve seed=-2 logger=none"]
    assert "2 of 2 jobs of the sweep failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr


def test_a_sweep_that_cannot_be_composed_runs_nothing(tmp_path):
    done = evolve("-m", "sampler=kcenter,nosuch", "logger=none", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("diverseevol: there is no sampler=nosuch")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local"])
def test_one_bad_job_of_three_leaves_the_others_and_is_listed(launcher, tmp_path):
    plugin = f"hydra_plugins.hydra_{launcher.split('_')[0]}_launcher"
    if launcher != "basic" and find_spec(plugin) is None:
        pytest.skip(f"hydra/launcher={launcher} needs the extra `sweep`")
    sweep = ["-m", *SMALL, "schedule.step_size=10,30000,20", f"hydra/launcher={launcher}"]
    done = evolve(*sweep, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (command,) = listed(done.stderr)
    words = shlex.split(command)
    assert "schedule.step_size=30000" in words
    assert {*SMALL} - {"schedule.step_size=10"} <= {*words}
    assert (f"hydra/launcher={launcher}" in words) == (launcher != "basic")
    (kept,) = (tmp_path / "outputs/sweeps").glob("*/rerun.sh")
    assert kept.read_text().splitlines() == [command]
    assert len(list(tmp_path.glob("outputs/lab/tiny/*/seed0/selected.jsonl"))) == 2
    again = evolve(*(word.replace("30000", "30") for word in words[2:]), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(list(tmp_path.glob("outputs/lab/tiny/*/seed0/selected.jsonl"))) == 3


@pytest.mark.slow
def test_jobs_run_side_by_side_choose_what_one_after_another_chooses(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="hydra/launcher=joblib needs the extra `sweep`")
    for launcher in ("basic", "joblib"):
        sweep = ["-m", "seed=0,1", f"hydra/launcher={launcher}", f"outputs={tmp_path / launcher}"]
        done = evolve(*sweep, *SMALL, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    chosen = [sorted((tmp_path / launcher).glob("lab/**/selected.jsonl")) for launcher in ("basic", "joblib")]
    assert len(chosen[0]) == len(chosen[1]) == 2
    assert [file.read_text() for file in chosen[0]] == [file.read_text() for file in chosen[1]]


def agents_commands(sweep: dict) -> list[list[str]]:
    """What W&B's agent runs for each point of a grid, by its own code."""
    from wandb.sdk.launch.sweeps import utils

    names = list(sweep["parameters"])
    values = [sweep["parameters"][name].get("values") or [sweep["parameters"][name]["value"]] for name in names]
    commands = []
    for point in itertools.product(*values):
        given = {"args": {name: {"value": value} for name, value in zip(names, point, strict=True)}}
        parts = {**utils.create_sweep_command_args(given), "env": ["/usr/bin/env"], "interpreter": ["python"]}
        command: list[str] = []
        for word in utils.create_sweep_command(sweep["command"]):
            command += parts[word[2:-1]] if word.startswith("${") else [word]
        commands.append(command)
    return commands


def test_every_point_of_the_wandb_sweep_is_a_command_line_that_composes():
    sweep = yaml.safe_load((ROOT / "experiments/wandb_sweep.yaml").read_text())
    assert sweep["method"] == "grid"
    commands = agents_commands(sweep)
    expected = [
        (s, seed) for s in sweep["parameters"]["sampler"]["values"] for seed in sweep["parameters"]["seed"]["values"]
    ]
    composed = []
    for command in commands:
        assert command[:3] == ["/usr/bin/env", "diverseevol", "evolve"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            config = compose("evolve", command[3:], return_hydra_config=True)
        composed.append((config.hydra.runtime.choices.sampler, config.seed))
        assert config.logger.mode == "online"
    assert sorted(composed) == sorted(expected)


@pytest.mark.slow
def test_all_samplers_over_three_seeds_are_one_sweep_and_one_comparison(tmp_path):
    done = evolve("-m", "sampler=glob(*)", "seed=0,1,2", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    names = {file.stem for file in (ROOT / "conf/sampler").glob("*.yaml")}
    rounds = {
        name: sorted(tmp_path.glob(f"outputs/*/*/{name}-iterative*/seed*/rounds/01/round.json")) for name in names
    }
    assert {name: len(files) for name, files in rounds.items()} == dict.fromkeys(names, 3)
    first = {file.parents[1] / "00" for files in rounds.values() for file in files}
    pools = {tuple(json.loads((folder / "round.json").read_text())["trained_on"]) for folder in first}
    assert len(pools) == 3, "all samplers of a seed share P_0"

    command = [sys.executable, "-m", "diverseevol", "compare", "folder=outputs", "out=verdicts.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    compared = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert compared.returncode == 0, compared.stderr
    assert "Traceback" not in compared.stderr
    text = (tmp_path / "verdicts.json").read_text()
    assert all(f"{name}-iterative" in text for name in names)


@pytest.mark.slow
def test_a_worker_that_is_killed_before_any_job_ended_leaves_a_list_of_all(tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="hydra/launcher=joblib needs the extra `sweep`")
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n\n\ndef sampler(**options):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "DIVERSEEVOL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    sweep = [sys.executable, "-m", "diverseevol", "evolve", "-m", *SMALL, "seed=0,1", "hydra/launcher=joblib"]
    done = subprocess.run(
        [*sweep, "sampler._target_=deadly.sampler"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "2 of 2 jobs of the sweep failed" in done.stderr
    commands = [shlex.split(command) for command in listed(done.stderr)]
    assert [{f"seed={seed}"} & {*words} for seed, words in enumerate(commands)] == [{"seed=0"}, {"seed=1"}]
    (kept,) = (tmp_path / "outputs/sweeps").glob("*/rerun.sh")
    assert len(kept.read_text().splitlines()) == 2
