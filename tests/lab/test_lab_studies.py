"""The lab's studies: jobs that are done once and in good order, sweeps that can be read."""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import ablations
import jobs as lab_jobs
import numpy as np
import pytest
import sweep
from jobs import Job, Work
from run_folders import World, lay_run
from study import conducted

import diverseevol
from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import holm
from diverseevol.storage.files import write_json

STUDIES = Path(__file__).parents[2] / "experiments/lab"


def job(name: str, code: str, seconds: float = 1.0) -> Job:
    return Job(name, ("-c", code), seconds)


def test_what_is_done_is_not_done_again_and_what_fails_leaves_the_others(tmp_path, capsys):
    note = "from pathlib import Path; p = Path({!r}); p.write_text(p.read_text() + 'x' if p.exists() else 'x')"
    good = [job(f"good{i}", note.format(str(tmp_path / f"{i}.txt"))) for i in range(3)]
    bad = job("bad", "raise SystemExit('no such thing')")
    assert Work(tmp_path, 2).run([good[0], bad, *good[1:]]) == [bad]
    said = capsys.readouterr().out
    assert "bad FAILED (1): no such thing" in said
    assert "minutes to go" in said
    mended = job("bad", "pass")
    changed = job("good0", note.format(str(tmp_path / "0.txt")) + "  # other choices are another job")
    assert Work(tmp_path, 2).run([changed, mended, *good[1:]]) == []
    assert [(tmp_path / f"{i}.txt").read_text() for i in range(3)] == ["xx", "x", "x"]


def test_what_was_done_and_then_removed_is_done_again(tmp_path):
    made = tmp_path / "selected.jsonl"
    one = Job("one", ("-c", f"open({str(made)!r}, 'a').write('x')"), 1.0, made)
    for times in (1, 1):  # the second call finds it
        assert Work(tmp_path, 1).run([one]) == []
        assert made.read_text() == "x" * times
    made.unlink()
    assert not Work(tmp_path, 1).done(one)
    assert Work(tmp_path, 1).run([one]) == []
    assert made.exists()


def evolving(name: str, *words: str) -> Job:
    return Job(name, ("-c", "pass", "evolve", *words), 1.0)


def test_what_another_version_or_foundation_model_made_is_not_done_and_stops_the_study(tmp_path, monkeypatch):
    model = tmp_path / "model"
    write_json(model / "config.json", {"layers": 2})
    job = evolving("one", f"model.path={model}")
    work = Work(tmp_path, 1)
    assert work.run([job]) == []
    assert work.done(job)
    made = diverseevol.__version__.split(".")
    monkeypatch.setattr(diverseevol, "__version__", ".".join([*made[:2], "77"]))  # picks alike
    assert work.run([job]) == []
    assert work.done(job)
    monkeypatch.setattr(diverseevol, "__version__", "77.0")
    assert not work.done(job)
    with pytest.raises(InputError, match=r"1 of its jobs, one among them, were done with diverseevol 0\..*give --out"):
        work.run([job])
    monkeypatch.undo()
    assert work.done(job)
    write_json(model / "config.json", {"layers": 3})
    lab_jobs.weights.cache_clear()  # another process
    assert not work.done(job)
    with pytest.raises(InputError, match=r"another foundation model.*give --out"):
        work.run([job])


def test_notes_that_do_not_say_what_made_them_count_as_done_with_a_warning(tmp_path, capsys):
    job = evolving("one")
    write_json(tmp_path / "done/one.json", {"command": list(job.command), "seconds": 1.0})
    assert Work(tmp_path, 1).run([job]) == []
    assert capsys.readouterr().out.startswith("warning: 1 jobs count as done")


def test_a_study_with_runs_of_another_version_ends_with_a_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys):
    job = sweep.planned(options(tmp_path))[0]
    write_json(job.leaves, {})
    write_json(tmp_path / f"done/{job.name}.json", {"command": list(job.command), "version": "0.0.1"})
    words = ["--out", str(tmp_path), "--results", str(tmp_path / "results")]
    for dry in ([], ["--dry"]):
        monkeypatch.setattr(sys, "argv", ["sweep.py", *words, *dry])
        with pytest.raises(SystemExit) as caught:
            conducted(sweep.main)
        assert caught.value.code == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"sweep: {tmp_path}: 1 of its jobs, {job.name} among them, were done with diverseevol 0")


def finished(jobs: list[Job], workers: int) -> dict[str, float]:
    """When each job ends, if it takes as long as expected."""
    free, ends = [0.0] * workers, {}
    for each in jobs:
        ends[each.name] = free[0] + each.seconds
        free = sorted([*free[1:], ends[each.name]])
    return ends


@pytest.mark.parametrize("workers", [2, 4, 8, 16])
def test_the_longest_jobs_do_not_come_last_and_a_cut_study_has_whole_seeds(workers, tmp_path):
    opts = options(tmp_path)
    opts.seeds, opts.few = 10, 5
    for planned in (sweep.planned(opts), ablations.planned(opts)[1]):
        jobs = lab_jobs.packed(planned, workers)
        assert sorted(jobs, key=planned.index) == planned
        best = max(finished(sorted(planned, key=lambda each: -each.seconds), workers).values())
        assert max(finished(jobs, workers).values()) <= 1.05 * best
        certain = jobs[: -lab_jobs.PACKED * workers]
        assert certain == planned[: len(certain)]
        seeds = [each.name.rpartition("seed")[2] for each in certain]
        assert list(map(int, seeds)) == sorted(map(int, seeds))


def test_every_job_of_a_study_says_what_it_leaves(tmp_path):
    models, evolutions = ablations.planned(options(tmp_path))
    assert {each.leaves for each in models} == {
        tmp_path / "foundations" / str(n) / "pretraining.json" for n in ablations.TOKENS
    }
    for each in (*evolutions, *sweep.planned(options(tmp_path))):
        assert each.leaves == tmp_path / each.name / "selected.jsonl"


def test_when_time_is_up_what_runs_is_interrupted_and_left_for_the_next_call(tmp_path, capsys):
    long = [job(f"long{i}", "import time; time.sleep(60)") for i in range(3)]
    began = time.monotonic()
    assert Work(tmp_path, 2, minutes=0.02).run(long) == long
    assert time.monotonic() - began < 20
    said = capsys.readouterr().out
    assert "time is up: 3 jobs are left" in said
    assert "FAILED" not in said


def options(out: Path, arms: Collection[str] = sweep.USUAL) -> argparse.Namespace:
    conditions = list(ablations.CONDITIONS)
    return argparse.Namespace(seeds=3, few=1, out=out, set=[], arms=arms, conditions=conditions)


def test_a_sweep_gives_kcenter_and_random_more_seeds_and_every_job_a_folder_of_its_own(tmp_path):
    jobs = sweep.planned(options(tmp_path))
    assert len({each.name for each in jobs}) == len(jobs) == 2 * 3 + len(sweep.USUAL) - 2
    assert {each.name for each in jobs[-2:]} == {f"lab/sweep/{arm}/seed2" for arm in sweep.MANY}
    for each in jobs:
        seed = each.name[-1]
        assert {f"seed={seed}", f"data.seed={seed}", f"folder={tmp_path / each.name}"} <= set(each.command)


def test_verdicts_are_corrected_over_the_arms_of_the_sweep_alone(tmp_path, capsys):
    folder, world = tmp_path / "lab/sweep", World(name="lab/sweep")
    rng = np.random.default_rng(0)
    for sampler, gain in (("random", 0.0), ("kcenter", 0.4), ("margin", 0.3), ("vendi_50", 0.2), ("vendi", 0.5)):
        for seed in range(4):
            scores = [4.0, 5.0, 5.5, 6.0 + gain + rng.normal(0, 0.1)]
            lay_run(tmp_path, world, sampler, seed, scores=scores, extra={"skills_covered": rng.normal(9)})
    arms = ["kcenter-iterative", "margin-iterative"]
    held = sweep.compared(folder, sweep.own_runs(folder, arms)).samplers
    verdicts = [v for v in held if v.benchmark == world.benchmark]
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
    monkeypatch.setattr(Work, "done", lambda *_: True)
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as caught:
        conducted(sweep.main)
    assert ("no verdicts or no report: " in capsys.readouterr().out) == bool(spoil)
    assert caught.value.code == (1 if spoil else 0)
    assert (tmp_path / "out/results/sweep/differences.png").exists() == (spoil is None)


@pytest.mark.parametrize("study", [sweep, ablations])
def test_a_study_writes_to_its_own_folder_unless_told_otherwise(study, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(study, "carried_out", lambda jobs, options, work: told.append(options.results))
    monkeypatch.setattr(Work, "run", lambda *_: [])
    name = study.__name__
    for words in ([], ["--results", str(tmp_path / "kept")]):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", str(tmp_path), *words])
        with pytest.raises(SystemExit):
            study.main()
    assert told == [tmp_path / "results" / name, tmp_path / "kept"]


def test_every_arm_is_a_command_line_that_composes(tmp_path):
    from diverseevol.cli.configuration import compose

    swept = sweep.planned(options(tmp_path, sweep.ARMS))
    assert {each.name.split("/")[2] for each in swept} == sweep.ARMS.keys()
    for each in swept:
        config = compose("evolve", each.command[3:])
        assert config.data.seed == config.seed == int(each.name[-1])
    for each in ablations.planned(options(tmp_path))[1]:
        compose("evolve", each.command[3:])


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

    def run() -> str:
        whole = [*command, "--set", *small]
        done = subprocess.run(whole, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

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
    again = run()
    assert "jobs" not in again
    assert "These two samplers" in again
