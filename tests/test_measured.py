"""Samplers compared by what round.json holds."""

import json
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from rich.console import Console
from scipy.stats import ttest_rel

from diverseevol import cli
from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import compare
from diverseevol.evaluation.scores.frame import frame_of
from diverseevol.evaluation.scores.read_metrics import measured_rounds
from diverseevol.evaluation.scores.tables import comparison_tables
from diverseevol.evolution.metrics import KNOWN
from diverseevol.runs.metrics import MetricDescription, write_descriptions
from diverseevol.storage.files import write_json

RADIUS = {"kcenter": [1.0, 1.2, 1.1, 0.9], "random": [2.0, 2.1, 2.3, 1.7]}


def lay(folder: Path, sampler: str, seed: int, t: int, metrics: dict[str, float], rows: int = 10) -> None:
    run = folder / "lab/tiny" / f"{sampler}-iterative" / f"seed{seed}"
    write_json(run / "fingerprint.json", {"seed": seed})
    write_json(run / f"rounds/{t:02d}/round.json", {"trained_on": list(range(rows)), "metrics": metrics})


@pytest.fixture
def folder(tmp_path) -> Path:
    for sampler, values in RADIUS.items():
        for seed, radius in enumerate(values):
            start = {"coverage_radius": 3.0, "skills_covered": 5.0, "judge": "nobody"}
            end = {"coverage_radius": radius, "skills_covered": 9.0 + (sampler == "kcenter"), "all": 4.0}
            lay(tmp_path, sampler, seed, 0, start, rows=4)
            lay(tmp_path, sampler, seed, 1, end)
    return tmp_path


def test_a_metric_is_compared_as_a_score_is_and_called_neither_good_nor_bad(folder):
    (verdict,) = compare(
        frame_of([]), "random-iterative", measured=measured_rounds(folder, ["coverage_radius"], KNOWN)
    ).samplers.itertuples()
    oracle = ttest_rel(RADIUS["kcenter"], RADIUS["random"])
    assert verdict.p == pytest.approx(oracle.pvalue)
    assert (verdict.ci_low, verdict.ci_high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    assert verdict.differences == pytest.approx(np.subtract(*RADIUS.values()))
    assert (verdict.verdict, verdict.benchmark, verdict.rounds) == ("lower", "coverage_radius", (1, 1))


def test_of_a_loss_on_rows_that_were_not_trained_on_the_lower_is_better(tmp_path):
    for sampler, values in RADIUS.items():
        for seed, loss in enumerate(values):
            lay(tmp_path, sampler, seed, 1, {"held_out_loss": loss, "reference_loss/vicuna": loss})
    for name in ("held_out_loss", "reference_loss/vicuna"):
        comparison = compare(frame_of([]), "random-*", measured=measured_rounds(tmp_path, [name], KNOWN))
        assert [verdict.verdict for verdict in comparison.samplers.itertuples()] == ["better"]
        console = Console(width=200)
        with console.capture() as shown:
            console.print(comparison_tables(comparison)[0])
        (note,) = (line for line in shown.get().splitlines() if line.startswith(f"{name}: "))
        assert note.rstrip().endswith("nats per response token, lower is better")


@pytest.mark.parametrize(("higher_is", "said"), [("better", "worse"), ("worse", "better"), ("neither", "lower")])
def test_a_metric_is_good_or_bad_as_its_run_folder_describes_it(folder, higher_is, said):
    for file in folder.rglob("round.json"):
        write_json(file, json.loads(file.read_text().replace("coverage_radius", "own_radius")))
    for file in folder.rglob("seed*"):
        write_descriptions(file, [MetricDescription("own_radius", "radius", "metres", higher_is)])
    (verdict,) = compare(
        frame_of([]), "random-*", measured=measured_rounds(folder, ["own_radius"], KNOWN)
    ).samplers.itertuples()
    assert verdict.verdict == said
    direction = {"better": ", higher is better", "worse": ", lower is better", "neither": ""}[higher_is]
    assert verdict.measured == f"radius, metres{direction}"


def test_no_run_folder_redefines_a_metric_of_the_projects(folder):
    for file in folder.rglob("seed*"):
        write_descriptions(file, [MetricDescription("coverage_radius", "radius", "metres", "better")])
    (verdict,) = compare(
        frame_of([]), "random-*", measured=measured_rounds(folder, ["coverage_radius"], KNOWN)
    ).samplers.itertuples()
    assert verdict.verdict == "lower"
    assert "radius, metres" not in verdict.measured


def test_a_metric_that_differs_by_the_same_in_every_seed_leaves_nothing_to_test(folder):
    (skills,) = compare(
        frame_of([]), "random-*", measured=measured_rounds(folder, ["skills_covered"], KNOWN)
    ).samplers.itertuples()
    assert skills.verdict == "cannot tell: all seeds differ by the same, which leaves no noise to test against"
    assert skills.mean_difference == 1
    (same,) = compare(frame_of([]), "random-*", measured=measured_rounds(folder, ["all"], KNOWN)).samplers.itertuples()
    assert (same.verdict, same.p) == ("cannot tell", 1)


def test_an_endpoint_that_was_asked_for_is_the_one_compared(folder):
    measured = measured_rounds(folder, ["coverage_radius"], KNOWN)
    (verdict,) = compare(frame_of([]), "random-*", 0, measured).samplers.itertuples()
    assert (verdict.rounds, verdict.mean_difference) == ((0, 0), 0)


def test_seeds_from_other_first_pools_and_unfinished_ones_do_not_pair(folder):
    run = folder / "lab/tiny/kcenter-iterative"
    write_json(run / "seed0/rounds/00/round.json", {"trained_on": [7, 8, 9, 10], "metrics": {}})
    (run / "seed1/rounds/01/round.json").unlink()
    (verdict,) = compare(
        frame_of([]), "random-*", measured=measured_rounds(folder, ["coverage_radius"], KNOWN)
    ).samplers.itertuples()
    assert verdict.seeds == (2, 3)
    assert verdict.left_out == (
        "seed 0: not from the same P_0", "seed 1: kcenter-iterative has no scores of a pool of 10 rows",
    )  # fmt: skip
    assert verdict.verdict == "cannot tell: 2 seeds"


@pytest.mark.parametrize(
    ("metric", "said"),
    [("skill_covered", "did you mean skills_covered"), ("judge", "choose from all, coverage_radius, skills_covered")],
)
def test_a_metric_that_no_round_has_is_refused_by_name(folder, metric, said):
    with pytest.raises(InputError, match=f"metric={metric}: no round .*{said}"):
        measured_rounds(folder, [metric], KNOWN)


def test_two_folders_of_one_name_are_refused_rather_than_mixed_up(tmp_path):
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        lay(place, "random", 0, 0, {"coverage_radius": 2.0})
        assert len(measured_rounds(place, ["coverage_radius"], KNOWN)) == 1
    first, second = (place / "lab/tiny/random-iterative/seed0" for place in places)
    with pytest.raises(InputError, match=f"^{second}: is of the same data, model, schedule and seed as {first}"):
        measured_rounds(tmp_path, ["coverage_radius"], KNOWN)


def test_metrics_are_read_from_run_folders_only(tmp_path):
    archive = tmp_path / "runs.tar"
    with pytest.raises(InputError, match="no such folder"):
        measured_rounds(archive, ["skills_covered"], KNOWN)
    archive.touch()
    with pytest.raises(InputError, match="is no folder; metrics are read from run folders, and only judgements from"):
        measured_rounds(archive, ["skills_covered"], KNOWN)
    with pytest.raises(InputError, match=r"holds no rounds/NN/round.json with metrics, which are not read from archi"):
        measured_rounds(tmp_path, ["skills_covered"], KNOWN)


@pytest.fixture
def command(monkeypatch, folder, capsys):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str) -> tuple[int, str, str]:
        words = ["diverseevol", "compare", f"folder={folder}", f"out={folder / 'c.json'}", *arguments]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), *capsys.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    GlobalHydra.instance().clear()


def test_the_command_tells_of_several_metrics_in_one_table_and_corrects_within_each(command, folder):
    code, out, _ = command("metric=[coverage_radius,skills_covered]")
    assert code == 0
    assert "lower" in out
    assert "These two models" not in out  # nobody was asked anything
    record = json.loads((folder / "c.json").read_text())
    assert [v["benchmark"] for v in record["samplers"]] == ["coverage_radius", "skills_covered"]
    assert record["samplers"][0]["p"] == record["samplers"][0]["p_holm"]


@pytest.mark.parametrize("metric", ["[]", "null", "[1]"])
def test_what_is_no_metric_is_a_sentence(command, metric):
    code, out, said = command(f"metric={metric}")
    assert (code, out) == (2, "")
    assert "give the name of a metric" in said
