"""The lab's studies: jobs that are done once, sweeps that can be read, ablations that change one thing."""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "experiments/lab"
sys.path.insert(0, str(STUDIES))

import ablations  # noqa: E402
import figure  # noqa: E402
import sweep  # noqa: E402
from jobs import Job, Work  # noqa: E402


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


def options(out: Path, *words: str) -> argparse.Namespace:
    seeds = {"seeds": 3, "few": 1, "out": out, "set": list(words)}
    return argparse.Namespace(arms=sweep.USUAL, conditions=list(ablations.CONDITIONS), **seeds)


def test_a_sweep_gives_kcenter_and_random_more_seeds_and_every_job_a_folder_of_its_own(tmp_path):
    jobs = sweep.planned(options(tmp_path))
    assert len({each.name for each in jobs}) == len(jobs) == 2 * 3 + len(sweep.USUAL) - 2
    assert {each.name for each in jobs[-2:]} == {f"lab/sweep/{arm}/seed2" for arm in sweep.MANY}
    for each in jobs:
        seed = each.name[-1]
        assert {f"seed={seed}", f"data.seed={seed}", f"folder={tmp_path / each.name}"} <= set(each.command)


def test_an_ablation_changes_one_thing_and_takes_its_base_from_the_sweep(tmp_path):
    models, evolutions = ablations.planned(options(tmp_path))
    swept = {each.name: each for each in sweep.planned(options(tmp_path))}
    assert len(models) == len(ablations.TOKENS)
    assert len({each.name for each in evolutions}) == len(evolutions)
    base = [each for each in evolutions if each.name.startswith(ablations.SWEEP)]
    assert {each.name: each for each in base} == {name: swept[name] for name in (each.name for each in base)}
    usual = {each.name.split("/")[-2:][0] + each.name[-1]: set(each.command) for each in base}
    for each in evolutions:
        differs = set(each.command) - usual.get(each.name.split("/")[-2] + each.name[-1], set(each.command))
        assert len(differs - {f"folder={tmp_path / each.name}", "data.noise=0.05"}) <= 1, each.name


@pytest.mark.parametrize("arms", [sweep.ARMS])
def test_every_arm_is_a_command_line_that_composes(arms, tmp_path):
    from diverseevol.configuration import compose

    for each in sweep.planned(options(tmp_path)):
        config = compose("evolve", each.command[3:])
        assert config.data.seed == config.seed == int(each.name[-1])
    for each in ablations.planned(options(tmp_path))[1]:
        compose("evolve", each.command[3:])


def line(value: str, sampler: str, seed: int, t: int, score: float) -> dict[str, object]:
    return {
        "condition": "noise", "value": value, "sampler": sampler, "seed": seed, "round": t, "relative_score/lab": score,
    }  # fmt: skip


def test_differences_are_within_a_seed_and_of_the_last_round(tmp_path):
    lines = [line("0", "kcenter", s, t, 50 + 10 * t + s) for s in range(3) for t in range(2)]
    lines += [line("0", "random", s, t, 40 + 10 * t - s) for s in (2, 0) for t in range(2)]
    assert figure.differences(lines, "relative_score/lab").tolist() == [10, 14]
    assert figure.differences(lines, "skills_covered").tolist() == []
    figure.draw(lines, tmp_path / "differences.png")
    assert (tmp_path / "differences.png").read_bytes()[:4] == b"\x89PNG"


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
