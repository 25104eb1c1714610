"""The last words of an evolution say what was seen, what one run cannot tell, and a command that answers it."""

import itertools
import json
import shlex
from pathlib import Path

import pytest

from diverseevol.cli.conclusion import conclusion
from diverseevol.cli.configuration import configure
from diverseevol.runs.round_folder import Round


def lay(outputs: Path, arm: str, seed: int = 0, scores: tuple[float, ...] = ()) -> tuple[Path, list[Round]]:
    """A run of three rounds; `scores` are those of the rounds, each with an interval of 2 to both sides."""
    folder = outputs / "rows/tiny" / arm / f"seed{seed}"
    rounds = []
    for t in range(3):
        path = folder / f"rounds/{t:02d}"
        path.mkdir(parents=True)
        (path / "round.json").write_text("{}")
        if scores:
            score = {"relative_score": scores[t], "ci_low": scores[t] - 2, "ci_high": scores[t] + 2}
            (path / "scores.json").write_text(json.dumps({"mine": score}))
        metrics = {"vendi_score_centred": 3.0 + t, "coverage_radius": 2.0 - t / 2}
        rounds.append(Round(t, tuple(range(10 * (t + 1))), (), metrics, {}))
    return folder, rounds


def said(run: tuple[Path, list[Round]], *overrides: str, sampler: str = "kcenter", schedule: str = "iterative") -> dict:
    return dict(conclusion(*run, sampler, schedule, "outputs", overrides))


@pytest.mark.parametrize(("last", "intervals"), [(13.9, "overlap"), (14.1, "do not overlap")])
def test_a_judged_run_says_how_far_its_models_came_and_that_it_is_one_seed_of_one_sampler(last, intervals, tmp_path):
    words = said(lay(tmp_path, "kcenter-iterative", scores=(10, 11, last)), "data=lab", "seed=4")
    assert words["what this run shows"] == [
        f"mine: relative score 10.0 with 10 rows, {last} with 30; their 95 % intervals over questions {intervals}"
    ]
    assert words["what it cannot show"] == [
        "whether kcenter chooses better than random: there is no run with sampler=random beside it",
        "whether other seeds agree: there is one",
    ]
    assert words["next"] == [
        "diverseevol evolve -m data=lab sampler=kcenter,random seed=0,1,2", "diverseevol compare folder=outputs",
    ]  # fmt: skip


def test_a_run_that_nobody_judged_says_so_and_is_compared_by_a_metric(tmp_path):
    words = said(lay(tmp_path, "kcenter-iterative"), "folder=mine")
    assert words["what this run shows"] == [
        "vendi score centred: 3 with 10 rows, 5 with 30 rows", "coverage radius: 2 with 10 rows, 1 with 30 rows",
    ]  # fmt: skip
    assert words["what it cannot show"][0] == "whether the models answer better: nothing was judged"
    assert words["next"] == [
        "diverseevol evolve -m sampler=kcenter,random seed=0,1,2",
        "diverseevol compare folder=outputs metric=vendi_score_centred",
    ]


def test_options_of_a_sampler_are_not_given_to_the_other_one(tmp_path):
    words = said(lay(tmp_path, "kcenter-iterative-1234abcd"), "sampler=kcenter", "sampler.metric=cosine", "data=lab")
    *evolving, _ = words["next"]
    assert evolving == [
        "diverseevol evolve -m data=lab sampler=kcenter sampler.metric=cosine seed=0,1,2",
        "diverseevol evolve -m data=lab sampler=random seed=0,1,2",
    ]


def test_with_three_seeds_beside_random_only_the_comparison_is_left(tmp_path):
    runs = [lay(tmp_path, f"{sampler}-iterative", seed) for sampler in ("random", "kcenter") for seed in range(3)]
    words = said(runs[-1])
    assert not any("seed" in line and "one" in line for line in words["what it cannot show"])
    assert words["next"] == ["diverseevol compare folder=outputs metric=vendi_score_centred"]


def test_a_run_over_all_rows_leads_to_one_that_chooses(tmp_path):
    folder, rounds = lay(tmp_path, "kcenter-full")
    words = said((folder, rounds[:1]), "data=lab", "schedule=full", schedule="full")
    assert words["what it cannot show"] == ["whether fewer rows reach as much: it trains on all of them"]
    assert words["next"] == ["diverseevol evolve data=lab"]


def test_the_commands_compose(tmp_path):
    words = said(lay(tmp_path, "kcenter-iterative", scores=(1, 2, 3)), "data=lab", "tuning.epochs=2")
    evolving, comparing = (shlex.split(line)[2:] for line in words["next"])
    assert evolving[0] == "-m"
    for sampler, seed in itertools.product(("kcenter", "random"), ("0", "2")):
        one = configure("evolve", [*evolving[1:-2], f"sampler={sampler}", f"seed={seed}"])
        assert (one.choices["sampler"], one.value("seed"), one.value("tuning.epochs")) == (sampler, int(seed), 2)
    assert configure("compare", comparing).value("folder") == "outputs"
