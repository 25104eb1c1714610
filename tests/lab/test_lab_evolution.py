"""The lab as it is: what held in every seed of its sweep holds in a small one, too."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SAMPLERS = ("kcenter", "random")


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Each sampler's rounds: 40, 80 and 320 of the lab's 4,000 rows, by the model that ships."""
    out = tmp_path_factory.mktemp("lab")
    return {sampler: evolved(sampler, out) for sampler in SAMPLERS}


def evolved(sampler: str, out: Path) -> list[dict[str, Any]]:
    """P_0, and after one selection of 40 rows and one of 280, each by an evolution of its own."""
    found = []
    for rounds, step in ((1, 40), (1, 280)):
        folder = out / f"{sampler}-{step}"
        options = (
            f"sampler={sampler}", f"schedule.rounds={rounds}", "schedule.seed_size=40", f"schedule.step_size={step}",
            "seed=3", "data.seed=3", "threads=1", "logger=none", "keep_models=none", f"folder={folder}",
        )  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "DIVERSEEVOL_CACHE": str(out / "cache")}
        done = subprocess.run(
            [sys.executable, "-m", "diverseevol", "evolve", *options],
            env=environment, capture_output=True, text=True, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append([json.loads((folder / f"rounds/{t:02d}/round.json").read_text()) for t in range(rounds + 1)])
        for t, each in enumerate(found[-1]):
            each["scores"] = json.loads((folder / f"rounds/{t:02d}/scores.json").read_text())
    return [*found[0], found[1][-1]]


@pytest.mark.slow
def test_both_samplers_start_from_the_same_rows(rounds):
    first = [rounds[sampler][0]["trained_on"] for sampler in SAMPLERS]
    assert first[0] == first[1]
    assert len(first[0]) == 40


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("benchmark", ["lab", "lab_natural"])
def test_more_rows_help(rounds, sampler, benchmark):
    few, many = (relative_score(rounds[sampler][t], benchmark) for t in (0, 2))
    assert many > few + 5, f"{few} with 40 rows, {many} with 320"


@pytest.mark.slow
def test_kcenter_covers_the_skills_faster(rounds):
    covered = {sampler: rounds[sampler][1]["metrics"]["skills_covered"] for sampler in SAMPLERS}
    assert covered["kcenter"] > covered["random"]


@pytest.mark.slow
@pytest.mark.parametrize("t", [1, 2])
def test_kcenters_pools_are_more_diverse_by_the_papers_vendi_score(rounds, t):
    kcenter, random = (rounds[sampler][t]["metrics"]["vendi_score"] for sampler in SAMPLERS)
    assert kcenter > random


def relative_score(one: dict[str, Any], benchmark: str) -> float:
    return float(one["scores"][benchmark]["relative_score"])
