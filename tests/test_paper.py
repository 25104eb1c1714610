"""The paper's tables and figures, built from run folders and judgements."""

import csv
import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paper
import pytest
import sweep
from judgement_files import authors_record, lay
from matplotlib.image import imread
from omegaconf import OmegaConf
from run_folders import World, lay_run
from scipy import stats
from study import Arm

from diverseevol.cli.configuration import compose, configure
from diverseevol.cli.naming import run_path
from diverseevol.evaluation.scores.comparison import t_test
from diverseevol.options import Schedule
from diverseevol.report.collect import collect

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
JUDGEMENTS = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "gpt4_judgments"
LAST = 7


def modules() -> dict[str, Any]:
    return {name: importlib.import_module(name.replace("-", "_")) for name in paper.TARGETS}


def lay_arm(outputs: Path, arm: Any, seeds: range, scores: Any, **options: Any) -> Path:
    """Run folders where an arm's belong; one-time schedules end with as many rows as the others."""
    from reproduction import find

    folder: Path = find(arm, outputs).folder
    sampler, _, schedule = folder.name.partition("-")
    world = World(name=f"{folder.parents[1].name}/{folder.parent.name}", benchmark="toy")
    rounds, size = {"full": (0, 60), "one_time": (1, 28)}.get(schedule.partition("-")[0], (LAST, 7))
    options = {"rounds": rounds, "size": size, **options}
    for seed in seeds:
        lay_run(folder.parents[2], world, sampler, seed, schedule=schedule, scores=scores(seed), **options)
    return folder


def lay_curves(outputs: Path, seeds: int = 3) -> None:
    """Figure 2's arms, where K-Center's final score is 1 above random's and as far below all rows'."""
    rng = np.random.default_rng(0)
    for arm in modules()["figure2"].RUNS:
        if arm.origin == "lab":
            sampler = next(word for word in arm.overrides if word.startswith("sampler="))
            top = {"sampler=kcenter": 6.0, "sampler=random": 5.0}.get(sampler, 4.0)
            if "schedule=full" in arm.overrides:
                lay_arm(outputs, arm, range(seeds), lambda seed: [7.0 + 0.1 * seed])
            else:
                scores = [[*[3.0] * LAST, top + noise] for noise in rng.normal(0, 0.02, seeds)]
                lay_arm(outputs, arm, range(seeds), scores.__getitem__)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def run(tmp_path: Path, *arguments: str) -> int:
    places = ["--outputs", str(tmp_path / "outputs"), "--out", str(tmp_path / "paper")]
    return int(paper.main([*arguments, *places]))


def test_an_estimate_is_the_mean_over_seeds_with_its_t_interval(tmp_path):
    from estimates import estimates, final

    lay_curves(tmp_path / "outputs", seeds=4)
    collection = collect([tmp_path / "outputs"])
    by_seed = {}
    for p in collection.frame.itertuples():
        if (p.metric, p.line.sampler, p.round) == ("relative_score/toy", "kcenter", LAST):
            by_seed[p.seed] = p.value
    values = [by_seed[seed] for seed in range(4)]
    (found,) = (e for e in final(estimates(collection, "relative_score")) if e.line.sampler == "kcenter")
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert (found.seeds, found.rows, found.over) == (4, 7 * (LAST + 1), "seeds")


def test_one_seeds_interval_is_over_questions_and_two_seeds_have_none(tmp_path):
    from estimates import estimates

    lay_run(tmp_path / "one", World(), "kcenter", 0, scores=[4.0, 5.0, 6.0, 6.5])
    collection = collect([tmp_path / "one"])
    scores = {each.round: each.scores for each in collection.board.frame.itertuples()}
    for each in estimates(collection, "relative_score"):
        assert (each.low, each.high) == (scores[each.round].ci_low, scores[each.round].ci_high)
        assert each.over == "questions"
    lay_run(tmp_path / "one", World(), "kcenter", 1, scores=[4.5, 5.0, 6.5, 6.5])
    assert {(e.low, e.over) for e in estimates(collect([tmp_path / "one"]), "relative_score")} == {(None, "")}


def test_schedules_side_by_side_are_of_the_same_seeds_and_others_name_theirs(tmp_path):
    import one_time
    from estimates import estimates, named

    lay_curves(tmp_path, seeds=4)
    once = next(arm for arm in one_time.RUNS if "schedule=one_time" in arm.overrides)
    lay_arm(tmp_path, once, range(1, 3), lambda seed: [3.0, 5.5])
    collection = collect([tmp_path])
    rows = [row for row in one_time.frame(collection) if row["metric"] == "relative_score"]
    assert [(row["schedule"], row["seeds"]) for row in rows] == [("iterative", 2), ("one_time", 2)]
    names = set(named(estimates(collection, "relative_score")).values())
    assert {"K-Center, one-time, 2 seeds", "K-Center, iterative, 4 seeds", "random, 4 seeds"} <= names


def test_rank_correlation_is_spearmans():
    from figure4 import rank_correlation

    rng = np.random.default_rng(1)
    for n in (3, 5, 20):
        x, y = rng.integers(0, 8, n) + 0.0, rng.normal(size=n)
        x[0], x[1] = 0.0, 9.0
        assert rank_correlation(list(zip(x, y, strict=True))) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert rank_correlation([(1, 2), (2, 3)]) is None
    assert rank_correlation([(1, 2), (1, 3), (1, 4)]) is None


def test_figure_4_compares_pools_within_a_seed(tmp_path):
    """Within each seed more diverse pools are better; over all seeds mixed together they would look worse."""
    import figure4

    outputs = tmp_path / "outputs"
    arms = [arm for arm in figure4.RUNS if arm.origin == "lab"]
    for place, arm in enumerate(arms):
        for seed in range(3):
            # The seed that is most diverse has the worst first pool.
            diversity, quality = 10.0 * seed - place, 6.0 - 2 * seed - 0.1 * place - (0.05 * (place == seed))
            scores = [quality] * (LAST + 1)
            lay_arm(
                outputs, arm, range(seed, seed + 1), lambda _, scores=scores: scores, extra={"vendi_score": diversity}
            )
    collection = collect([outputs])
    pools = figure4.pools(collection)
    assert {pool.rows for pool in pools} == {7 * (t + 1) for t in (1, 4, 7)}
    assert len(pools) == 3 * 3 * len(arms)
    mixed = [(pool.vendi["vendi_score"], pool.relative_score) for pool in pools]
    assert figure4.rank_correlation(mixed) < 0
    (held,) = (each for each in figure4.compared(collection) if each.on.endswith("vendi_score"))
    assert held.says.count("(mean ρ +1.00)") == 3
    assert {record["rank"] for record in figure4.frame(collection)} == {None}  # these folders have no sampler's options
    assert figure4.draw(collection) is not None


def test_pools_are_compared_seed_by_seed(tmp_path):
    import claims
    from claims import paired

    lay_curves(tmp_path)
    collection = collect([tmp_path])
    at = {
        (p.line.sampler, p.seed): p.value
        for p in collection.frame.itertuples()
        if p.metric == "vendi_score_centred" and p.round == LAST and p.line.kind != "full"
    }
    d = np.array([at["kcenter", seed] - at["random", seed] for seed in range(3)])
    (held,) = paired(collection, "vendi_score_centred", "more_diverse")
    assert f": {d.mean():+.2f}" in held.says
    assert held.says.endswith("at 56 rows")
    assert held.on == "lab, vendi_score_centred"
    # Seed 1 began with other rows, then seed 2 with other data, then no seed is left.
    runs = list(collection.runs)
    for seed, changes in ((1, {"rounds": True}), (2, {"data": "another"}), (0, {"data": "another"})):
        place = next(i for i, run in enumerate(runs) if claims.is_random(run.line) and run.seed == seed)
        if "rounds" in changes:
            first, *later = runs[place].rounds
            changes = {"rounds": (replace(first, trained_on=(*first.trained_on[1:], 59)), *later)}
        runs[place] = replace(runs[place], **changes)
        (held,) = paired(replace(collection, runs=tuple(runs)), "vendi_score_centred", "more_diverse")
        others = {1: "1", 2: "1, 2", 0: "0, 1, 2"}[seed]
        assert held.says.endswith(f"; left out, not begun with the same rows of the same data: seeds {others}")
        assert held.says.startswith("cannot tell: ")
    assert held.says.startswith("cannot tell: no pair of runs;")


def test_every_target_builds_from_what_is_on_disk(tmp_path, capsys):
    lay_curves(tmp_path / "outputs")
    once = next(arm for arm in modules()["one-time"].RUNS if "schedule=one_time" in arm.overrides)
    lay_arm(tmp_path / "outputs", once, range(3), lambda seed: [3.0, 5.5 + 0.01 * seed])
    assert run(tmp_path, "paper") == 0
    said = capsys.readouterr().out
    made = {file.name for file in (tmp_path / "paper").glob("*.png")}
    assert made == {f"{name}-lab.png" for name in paper.TARGETS if name != "figure4"}
    for name in made:
        assert imread(tmp_path / "paper" / name).std() > 0.01
    claims = {name: rows_of(tmp_path / "paper" / f"{name}-claims.csv") for name in paper.TARGETS[:-1]}
    assert claims["figure2"][0]["lab"].startswith("reproduced: +")
    assert claims["main-results"][0]["lab"].startswith("not reproduced: -")
    assert claims["one-time"][0]["lab"].startswith("reproduced: +")
    assert claims["figure3"][0]["released"] == "not available"
    assert claims["figure4"][0]["lab"] == claims["figure2"][0]["full_scale"] == "not run"
    (full,) = (row for row in rows_of(tmp_path / "paper" / "main-results-lab.csv") if row["schedule"] == "full")
    assert (full["rows"], full["seeds"], full["best_picked_after_the_fact"]) == ("60", "3", "")
    assert "judge calls" in said
    missing = (tmp_path / "paper" / "missing-lab.sh").read_text()
    for seed in range(5):  # the runs that are there are not asked for again
        assert (f"kcenter-iterative/seed{seed}\n" in missing) == (seed > 2)
        assert (f"vendi_50-iterative/seed{seed}\n" in missing) == (seed < 3)


def test_origins_are_files_and_columns_of_their_own(tmp_path):
    lay_curves(tmp_path / "outputs")
    for t, score in enumerate((4.0, 5.0, 6.0)):
        for schedule, gain in (("kc_dolly_initRAND100", 1.0), ("rand_dolly_initRAND100", 0.0)):
            model = f"{schedule}/rd_{t}"
            records = [
                authors_record(i, model=model, assistant1_QUERY0=model, assistant2_QUERY1=model, response_QUERY0="?",
                               response_QUERY1="?", eval_QUERY0=[score + gain, 8.0], eval_QUERY1=[score + gain, 8.0])
                for i in range(3)
            ]  # fmt: skip
            lay(tmp_path / "in" / "vicuna_test" / schedule / f"rd_{t}_vs_chat.jsonl", records)
    assert run(tmp_path, "figure2", "--judgements", str(tmp_path / "in")) == 0
    released, ours = (rows_of(tmp_path / "paper" / f"figure2-{origin}.csv") for origin in ("released", "lab"))
    assert {row["data"] for row in released} == {"dolly"}
    assert {row["data"] for row in ours} == {"lab/sweep"}
    assert [row["value"] for row in released if row["sampler"] == "kcenter"] == ["62.5", "75", "87.5"]
    claims = {row["on"]: row for row in rows_of(tmp_path / "paper" / "figure2-claims.csv")}
    assert claims["dolly, vicuna"]["released"] == (
        "one seed, of these two models better: +12.5 [+12.5, +12.5] over questions"
    )
    assert claims["dolly, vicuna"]["lab"] == claims["lab, toy"]["released"] == ""


def test_a_run_that_was_cut_is_missing_and_one_without_scores_is_to_be_judged(tmp_path):
    from reproduction import find, lab, wanted

    outputs, arm = tmp_path / "outputs", lab("kcenter", seeds=3)
    assert find(arm, outputs).missing == (0, 1, 2)
    folder = lay_arm(outputs, arm, range(1), lambda seed: None)
    lay_arm(outputs, arm, range(1, 2), lambda seed: None, done=3)
    found = find(arm, outputs)
    assert found.missing == (1, 2)
    assert found.unjudged == (folder / "seed0",)
    *evolve, judge = (command for _, command in wanted([found], outputs))
    assert [words[-1] for words in evolve] == [f"folder={folder}/seed{seed}" for seed in (1, 2)]
    assert judge[:3] == ("diverseevol", "judge", f"folder={folder}/seed0")


def test_every_run_composes_to_what_it_is_called():
    from reproduction import DATA_SETS, FULL_SCALE

    arms = list(dict.fromkeys(arm for module in modules().values() for arm in module.RUNS))
    full = [arm for arm in arms if arm.origin == FULL_SCALE]
    assert {arm.folder for arm in full} == {*DATA_SETS}
    tested = [arm for arm in arms if arm.origin == "lab" or arm.folder == "dolly"]  # others differ by data alone
    tested += [next(arm for arm in full if arm.folder == data) for data in ("davinci", "gpt4")]
    sizes = {"lab": {"iterative": (40, 40), "one_time": (40, 280)},
             FULL_SCALE: {"iterative": (100, 100), "one_time": (100, 1000)}}  # fmt: skip
    for arm in tested:
        program, *words = arm.command(3, Path("outputs"))
        settings = configure("evolve", words[words.index("evolve") + 1 :])
        settings.complete()
        schedule, choice = settings.options("schedule", Schedule), settings.choices["schedule"]
        expected = {"full": (None, 0), **sizes[arm.origin]}[choice]
        assert (schedule.rounds, schedule.seed_size, schedule.step_size) == (arm.rounds, *expected), arm
        path = run_path(settings)
        assert path.name == "seed3"
        assert path.is_relative_to(Path("outputs") / arm.folder)
        if arm.origin == "lab":
            assert program == "diverseevol"
            assert path.parent.name.endswith(f"-{choice}")
            assert settings.value("data.seed") == 3
        else:
            assert program == "torchrun"


def test_the_labs_runs_are_those_of_the_sweep(tmp_path):
    arms = [arm for name in ("figure2", "one-time") for arm in modules()[name].RUNS if arm.origin == "lab"]
    arms.append(next(arm for arm in modules()["figure4"].RUNS if arm.origin == "lab"))
    for arm in arms:
        name = Path(arm.folder).name
        swept = Arm(f"{sweep.GROUP}/{name}", sweep.ARMS[name][0], seeds=5, seconds=1)
        file = tmp_path / "experiment" / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(swept.experiment(tmp_path / Path(arm.folder).parts[0]))
        _, _, *words = arm.command(4, tmp_path)
        expected = compose("evolve", [f"hydra.searchpath=[file://{tmp_path}]", f"experiment={name}", "seed=4"])
        assert OmegaConf.to_container(compose("evolve", words), resolve=True) == OmegaConf.to_container(
            expected, resolve=True
        )


def test_what_a_run_costs_is_reckoned_as_it_says():
    from cost import cost

    assumed = paper.paper()["cost"]
    found = cost(assumed, "dolly", "iterative")
    assert found.calls == 10_516
    assert found.dollars == pytest.approx(10_516 * (1130 * 30 + 150 * 60) / 1e6)
    speed = 0.4 * 3.12e14 * 3600  # operations an hour
    assert found.train == pytest.approx(6 * 6.74e9 * 3 * 6_600 * 210 / speed)
    assert found.embed == pytest.approx(2 * 6.74e9 * 11 * 15_015 * 210 / speed)
    assert found.answer == pytest.approx(11 * 478 * 300 / 500 / 3600)
    assert cost(assumed, "dolly", "iterative", "random").embed == pytest.approx(found.embed / 11)
    ledger = (EXPERIMENTS / "README.md").read_text()
    columns = (("iterative", "kcenter"), ("iterative", "random"), ("one_time", "kcenter"), ("full", "random"))
    for data, name in (("dolly", "Dolly"), ("davinci", "SelfInstruct-Davinci"), ("gpt4", "SelfInstruct-GPT4")):
        (line,) = (line for line in ledger.splitlines() if line.startswith(f"| {name} | "))
        hours = [cost(assumed, data, schedule, sampler).gpu_hours for schedule, sampler in columns]
        assert [cell.split()[0] for cell in line.split(" | ")[1:]] == [f"{hour:.1f}" for hour in hours]
    full = cost(assumed, "gpt4", "full")
    assert (full.calls, full.train) == (956, pytest.approx(6 * 6.74e9 * 3 * 52_002 * 220 / speed))


def test_what_is_wrong_is_a_sentence_and_exit_code_2(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path, "figure2", "--judgements", str(tmp_path / "empty")) == 2
    assert capsys.readouterr().err.startswith("paper: ")
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, "figure9")
    assert caught.value.code == 2


def test_a_launch_that_fails_leaves_the_others_and_is_named(tmp_path, capsys, monkeypatch):
    tried = []

    def pretend(words: list[str], check: bool) -> Any:
        tried.append(words)
        return SimpleNamespace(returncode="sampler=margin" in words)

    monkeypatch.setattr("reproduction.subprocess.run", pretend)
    assert run(tmp_path, "figure2", "--launch", "1", "--jobs", "2") == 1
    assert len(tried) == 5 * 5
    assert all(words[:4] == [sys.executable, "-m", "diverseevol", "evolve"] for words in tried)
    failed = capsys.readouterr().err.splitlines()
    assert len(failed) == 5
    assert all(line.startswith("paper: failed: diverseevol evolve") and "sampler=margin" in line for line in failed)


@pytest.mark.parametrize(("origin", "side_by_side"), [("lab", 3), ("full", 1)])
def test_runs_at_full_scale_are_launched_one_after_another(tmp_path, monkeypatch, origin, side_by_side):
    called = []
    monkeypatch.setattr(paper, "launch", lambda commands, jobs: called.append((len(commands), jobs)) or [])
    assert run(tmp_path, "one-time", "--launch", origin, "--jobs", "3") == 0
    ((commands, jobs),) = called
    assert commands > 1
    assert jobs == side_by_side


def test_differences_without_noise_are_said_to_be_alike():
    from claims import difference

    assert difference(np.array([0.5, 0.5, 0.5])) == "cannot tell: +0.50, 3 seeds, all alike"
    assert difference(np.array([0.5])) == "cannot tell: +0.50, 1 seed"
    low, high, _ = t_test(np.array([1.0, 1.1, 1.3]))
    assert difference(np.array([1.0, 1.1, 1.3])) == f"reproduced: +1.13 [{low:+.2f}, {high:+.2f}] over 3 seeds"
    assert difference(np.array([-1.0, -1.1, -1.3])).startswith("not reproduced: -1.13")


@pytest.mark.slow
def test_launch_runs_what_is_missing_and_no_more(tmp_path, capsys, monkeypatch):
    import one_time
    import reproduction

    tiny = ("data=lab", "data.size=120", "model=tiny", "benchmark=lab", "tuning.steps=1", "logger=none")
    monkeypatch.setattr(reproduction, "LAB_SETTING", tiny)
    sizes = {"iterative": (2, 6, 4), "one_time": (1, 6, 8)}
    keys = "schedule.rounds", "schedule.seed_size", "schedule.step_size"
    schedules = {name: {"schedule": name, **dict(zip(keys, of, strict=True))} for name, of in sizes.items()}
    monkeypatch.setattr(reproduction, "LAB_SCHEDULES", schedules)
    monkeypatch.setattr(
        one_time, "RUNS", tuple(reproduction.lab("kcenter", name, seeds=1) for name in ("iterative", "one_time"))
    )
    assert run(tmp_path, "one-time", "--launch", "1") == 0
    assert "missing, ours in the lab" not in capsys.readouterr().out
    assert len(list((tmp_path / "outputs").glob("lab-study/lab/sweep/kcenter-*/seed0/selected.jsonl"))) == 2
    rows = rows_of(tmp_path / "paper" / "one-time-lab.csv")
    assert {(row["schedule"], row["rows"]) for row in rows} == {("iterative", "14"), ("one_time", "14")}
    assert (tmp_path / "paper" / "missing-lab.sh").read_text() == ""


@pytest.mark.slow
@pytest.mark.skipif(not JUDGEMENTS.is_dir(), reason="DIVERSEEVOL_TEST_DATA has no gpt4_judgments")
def test_every_number_in_paper_yaml_is_recomputed_from_the_released_judgements(tmp_path):
    names = "main-results", "win-tie-lose", "figure2"
    assert run(tmp_path, *names, "--judgements", str(JUDGEMENTS)) == 0
    final, outcomes, curve = (rows_of(tmp_path / "paper" / f"{name}-released.csv") for name in names)
    listed = paper.paper()["released"]
    assert len(listed) == 15
    for said in listed:
        key = [said["data"], said["benchmark"], said["sampler"], str(said["round"])]

        def mine(row: dict[str, str], key: list[str] = key) -> bool:
            return [row[name] for name in ("data", "benchmark", "sampler", "round")] == key

        (score,) = filter(mine, final)
        assert round(float(score["value"]), 2) == said["relative_score"]
        assert {row["metric"]: float(row["value"]) for row in filter(mine, outcomes)} == {
            name: said[name] for name in ("win", "tie", "lose")
        }
    (peak,) = (r for r in curve if (r["data"], r["sampler"], r["round"]) == ("dolly", "kcenter", "6"))
    assert float(peak["value"]) == pytest.approx(79.69, abs=0.005)
    ledger = (EXPERIMENTS / "README.md").read_text()
    names = {"dolly": "Dolly", "davinci": "Davinci", "gpt4": "GPT4"}
    for target in ("figure2", "main-results"):
        for row in rows_of(tmp_path / "paper" / f"{target}-claims.csv"):
            number = row["released"].partition(": ")[2].partition(" over")[0]
            number = number.replace("[+", "[").replace(", +", ", ").replace("[-", "[−")
            assert f"{number} on {names[row['on'].partition(',')[0]]}" in ledger
