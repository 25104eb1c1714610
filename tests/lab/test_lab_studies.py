"""The lab's studies: evolutions in good order, each made once, and sweeps that can be read."""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import ablations
import numpy as np
import pytest
import study
import sweep
from omegaconf import OmegaConf
from run_folders import World, lay_run
from study import Arm

import diverseevol
from diverseevol.evaluation.scores.comparison import holm
from diverseevol.runs.round_folder import release
from diverseevol.storage.files import write_json

STUDIES = Path(__file__).parents[2] / "experiments/lab"


def options(out: Path, arms: Collection[str] = sweep.USUAL, **more: object) -> argparse.Namespace:
    settings = {"seeds": 3, "few": 1, "jobs": 2, "minutes": None, "set": [], "dry": False, **more}
    return argparse.Namespace(out=out, arms=arms, conditions=list(ablations.CONDITIONS), **settings)


def names(out: Path, arms: list[Arm]) -> list[str]:
    """The evolutions in the order in which a sweep takes them."""
    return [f"{arm.name}/seed{seed}" for seeds, part in study.batches(arms) for seed in seeds for arm in part]


@pytest.mark.parametrize("planned", [sweep.planned, ablations.planned])
def test_a_study_goes_seed_by_seed_and_takes_the_longest_first(planned, tmp_path):
    arms = planned(options(tmp_path, seeds=10, few=5))
    order = names(tmp_path, arms)
    assert sorted(order) == sorted(f"{arm.name}/seed{seed}" for arm in arms for seed in range(arm.seeds))
    assert [int(name[-1]) for name in order] == sorted(int(name[-1]) for name in order)
    first = [next(arm.seconds for arm in arms if name == f"{arm.name}/seed0") for name in order if name[-1] == "0"]
    assert first == sorted(first, reverse=True)


def test_a_sweep_gives_kcenter_and_random_more_seeds(tmp_path):
    order = names(tmp_path, sweep.planned(options(tmp_path)))
    assert len({*order}) == len(order) == 2 * 3 + len(sweep.USUAL) - 2
    assert {*order[-2:]} == {f"lab/sweep/{arm}/seed2" for arm in sweep.MANY}


def lay_fingerprint(arm: Arm, out: Path, seed: int, **changes: str) -> Path:
    file = arm.folders(out)[seed] / "fingerprint.json"
    write_json(file, {"release": release(diverseevol.__version__), "model": "m", **changes})
    return file


@pytest.mark.parametrize("key", ["release", "model"])
def test_runs_of_another_release_or_foundation_model_stop_a_study_with_exit_code_2(key, tmp_path, monkeypatch, capsys):
    first, second, *_ = sweep.planned(options(tmp_path))
    lay_fingerprint(first, tmp_path, 0)
    file = lay_fingerprint(second, tmp_path, 0, **{key: "0.0"})
    for dry in ([], ["--dry"]):
        monkeypatch.setattr(sys, "argv", ["sweep.py", "--out", str(tmp_path), *dry])
        with pytest.raises(SystemExit) as caught:
            study.conducted(sweep.main)
        assert caught.value.code == 2
        (printed,) = capsys.readouterr().err.splitlines()
        assert printed.startswith(f"sweep: {file}: its {key} is 0.0, expected ")
        assert "give --out another folder" in printed


def test_an_arm_that_names_a_foundation_model_may_have_another(tmp_path):
    arms = ablations.planned(options(tmp_path))
    for arm in arms:
        lay_fingerprint(arm, tmp_path, 0, model=str(arm.options.get("model.path")))
    study.refuse_mixtures(arms, tmp_path)
    assert len({arm.options.get("model.path") for arm in arms}) == 1 + len(ablations.TOKENS)


def test_what_ends_is_told_with_the_time_that_is_left(tmp_path, capsys):
    arms = [Arm("lab/a", {}, 1, 60.0), Arm("lab/b", {}, 2, 120.0)]
    write_json(tmp_path / "lab/b/seed1/selected.jsonl", {})
    progress = study.Progress(arms, tmp_path, 2)
    progress.tell({"code": 0, "said": None, "overrides": ["seed=0", "experiment=lab/b", "a.b=c=d"]}, tmp_path)
    failed = {"code": 2, "said": "no such thing", "overrides": ["seed=0", "experiment=lab/a"]}
    progress.tell(failed, tmp_path / "log.txt")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 evolutions, 1 of them complete; the others take about 2 minutes on quiet cores, 2 at")
    assert lines[1] == "[1/3] lab/b/seed0; about 0 min to go"
    assert lines[2] == "[2/3] lab/a/seed0 FAILED (2): no such thing"
    assert lines[3].endswith("log.txt")


def test_a_dry_study_shows_the_commands_and_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--out", str(tmp_path), "--seeds", "7", "--jobs", "3", "--dry"])
    study.conducted(sweep.main)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("diverseevol evolve -m hydra/launcher=joblib hydra.launcher.n_jobs=3 ")
    assert " seed=0,1,2,3,4 " in first
    assert " seed=5,6 experiment=lab/sweep/kcenter-iterative,lab/sweep/random-iterative " in second
    assert {file.name for file in tmp_path.iterdir()} == {"conf"}


def test_verdicts_are_corrected_over_the_arms_of_the_sweep_alone(tmp_path, capsys):
    folder, world = tmp_path / "lab/sweep", World(name="lab/sweep")
    rng = np.random.default_rng(0)
    for sampler, gain in (("random", 0.0), ("kcenter", 0.4), ("margin", 0.3), ("vendi_50", 0.2), ("vendi", 0.5)):
        for seed in range(4):
            scores = [4.0, 5.0, 5.5, 6.0 + gain + rng.normal(0, 0.1)]
            lay_run(tmp_path, world, sampler, seed, scores=scores, extra={"skills_covered": rng.normal(9)})
    arms = ["kcenter-iterative", "margin-iterative"]
    held = sweep.compared(folder, sweep.own_runs(folder, arms)).samplers
    verdicts = [v for v in held.itertuples() if v.benchmark == world.benchmark]
    assert [v.schedule for v in verdicts] == arms
    assert [v.p_holm for v in verdicts] == pytest.approx(holm(np.array([v.p for v in verdicts])))
    (said,) = capsys.readouterr().out.splitlines()
    assert said.endswith("none of --arms: vendi-iterative, vendi_50-iterative")
    assert len(sweep.own_runs(folder, [*arms, "vendi-iterative", "vendi_50-iterative"])) == 5 * 4
    assert capsys.readouterr().out == ""


def lay_sweep(out: Path, seeds: int = 3) -> Path:
    """Some arms' runs, of which every score and metric differs; the study's folder."""
    rng = np.random.default_rng(0)
    for sampler, schedule in (("random", "iterative"), ("kcenter", "iterative"), ("vendi", "iterative")):
        for seed in range(seeds):
            scores = [4.0, 5.0, 5.5, rng.uniform(6, 8)]
            extra = {"skills_covered": rng.normal(9)}
            lay_run(out, World(name="lab/sweep"), sampler, seed, schedule=schedule, scores=scores, extra=extra)
    return out / "lab/sweep"


def test_an_evolution_that_was_cut_and_an_arm_of_another_study_are_in_no_verdict_table_or_figure(tmp_path, capsys):
    folder, results = lay_sweep(tmp_path), tmp_path / "results"
    shutil.rmtree(folder / "kcenter-iterative/seed2")
    score = [5.0, 5.5]
    lay_run(tmp_path, World(name="lab/sweep"), "kcenter", 2, done=2, scores=score, extra={"skills_covered": 1.0})
    assert sweep.conclude(folder, ["kcenter-iterative"], results)
    said = capsys.readouterr().out
    assert "left out, being unfinished: kcenter-iterative/seed2\n" in said
    assert "left out, being none of --arms: vendi-iterative\n" in said
    with (results / "verdicts.csv").open() as file:
        assert {each["seeds"] for each in csv.DictReader(file)} == {"0 1"}
    with (results / "rounds.csv").open() as file:
        rounds = {(each["sampler"], each["seed"]) for each in csv.DictReader(file)}
    assert rounds == {("kcenter-iterative", s) for s in "01"} | {("random-iterative", s) for s in "012"}
    assert {file.stem for file in results.glob("*.png")} == {
        "differences", "relative_score", "vendi_score", "score_against_vendi", "coverage_and_loss", "other_metrics",
    }  # fmt: skip
    shown = (folder / "report/tables/runs.csv").read_text()
    assert "vendi" not in shown
    assert "K-Center" in shown


@pytest.mark.parametrize("spoil", ["random-iterative", "config", None])
def test_a_sweep_without_verdicts_or_report_ends_with_exit_code_1(tmp_path, monkeypatch, capsys, spoil):
    folder = lay_sweep(tmp_path / "out", 1)
    if spoil == "config":  # which only the report reads
        (folder / "kcenter-iterative/seed0/config.yaml").write_text("- a")
    elif spoil:
        shutil.rmtree(folder / spoil)
    monkeypatch.setattr(sweep, "carried_out", lambda *_: True)
    monkeypatch.setattr(sweep, "complete", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        study.conducted(sweep.main)
    assert ("no verdicts or no report: " in capsys.readouterr().out) == bool(spoil)
    assert caught.value.code == (1 if spoil else 0)
    assert (tmp_path / "out/results/sweep/differences.png").exists() == (spoil is None)


@pytest.mark.parametrize("module", [sweep, ablations])
def test_a_study_writes_to_its_own_folder_unless_told_otherwise(module, tmp_path, monkeypatch):
    results = []
    monkeypatch.setattr(module, "carried_out", lambda arms, options: results.append(options.results))
    monkeypatch.setattr(module, "conclude", lambda *_: False)
    monkeypatch.setattr(ablations, "pretrain", lambda *_: None)
    name = module.__name__
    for words in ([], ["--results", str(tmp_path / "kept")]):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", str(tmp_path), *words])
        with pytest.raises(SystemExit):
            module.main()
    assert results == [tmp_path / "results" / name, tmp_path / "kept"]


def test_every_arm_composes_to_what_it_says(tmp_path, monkeypatch):
    from diverseevol.cli.configuration import compose

    arms = [*sweep.planned(options(tmp_path, sweep.ARMS)), *ablations.planned(options(tmp_path))]
    assert {arm.name.split("/")[2] for arm in arms if arm.name.startswith("lab/sweep/")} == sweep.ARMS.keys()
    monkeypatch.setattr(sys, "argv", ["study", "--out", str(tmp_path), "--dry"])
    for module in (sweep, ablations):
        study.conducted(module.main)
    for arm in arms:
        file = tmp_path / "conf" / "experiment" / f"{arm.name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(arm.experiment(tmp_path))
        config = compose("evolve", [f"hydra.searchpath=[file://{tmp_path}/conf]", f"experiment={arm.name}", "seed=4"])
        assert config.data.seed == config.seed == 4
        assert config.folder == f"{tmp_path}/{arm.name}/seed4"
        for key, value in {**arm.options, **study.CONDUCT}.items():
            if key not in study.GROUPS:
                assert OmegaConf.select(config, key) == (str(value) if isinstance(value, Path) else value), key


@pytest.mark.slow
def test_a_small_sweep_ends_with_verdicts_and_figures_and_resumes(tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"instruction": "What is the opposite of hot?", "reference": "It is cold."}\n')
    small = [
        "benchmark=questions", f"benchmark.path={questions}", "data.size=300", "tuning.steps=2",
        "schedule.step_size=10", "generation.max_new_tokens=3",
    ]  # fmt: skip
    arms = ["kcenter-iterative", "random-iterative", "oracle-iterative"]
    words = ["--seeds", "1", "--few", "1", "--arms", *arms, "--out", str(tmp_path / "out")]
    command = [sys.executable, str(STUDIES / "sweep.py"), *words, "--results", str(tmp_path / "results")]
    environment = {**os.environ, "PYTHONPATH": str(STUDIES.parents[1])}

    def run(*more: str, code: int = 0) -> str:
        done = subprocess.run(
            [*command, *more, "--set", *small], cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=900,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    assert "time is up" in run("--minutes", "0.01", code=1)
    assert "[3/3]" in run()
    with (tmp_path / "results/verdicts.csv").open() as file:
        verdicts = list(csv.DictReader(file))
    assert {v["schedule"] for v in verdicts} == {"kcenter-iterative", "oracle-iterative"}
    assert {"skills_covered", "vendi_score_centred"} < {v["benchmark"] for v in verdicts}
    with (tmp_path / "results/rounds.csv").open() as file:
        rounds = list(csv.DictReader(file))
    assert len(rounds) == 3 * 8
    assert all(float(each["skills_covered"]) > 0 for each in rounds)
    assert (tmp_path / "results/relative_score.png").exists()
    made = (tmp_path / "out/lab/sweep/kcenter-iterative/seed0/rounds/07/round.json").stat().st_mtime_ns
    again = run()
    assert "3 evolutions, 3 of them complete" in again
    assert "These two samplers" in again
    assert (tmp_path / "out/lab/sweep/kcenter-iterative/seed0/rounds/07/round.json").stat().st_mtime_ns == made
