"""`stop=plateau`: an evolution ends once more rows have stopped paying, and goes on from there where it is asked to."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import small_evolution

from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics import DEFAULT
from diverseevol.evolution.metrics.base import Metric
from diverseevol.evolution.plateau import check_stop, plateau, rounds_needed
from diverseevol.options import Plateau, Schedule
from diverseevol.report.collect import read_run
from diverseevol.storage.files import read_json, read_jsonl

ROWS = [100 * (t + 1) for t in range(11)]
USUAL = Plateau()
KNEE = [float(min(t, 3)) for t in range(11)]  # paid until round 3


def decide(values: list[dict[str, float]], rule: Plateau = USUAL, metrics: Any = DEFAULT) -> dict[str, Any] | None:
    return plateau(rule, ROWS[: len(values)], values, metrics, 10)


def measured(**curves: list[float]) -> list[dict[str, float]]:
    names = [name.replace("__", "/") for name in curves]
    return [dict(zip(names, point, strict=True)) for point in zip(*curves.values(), strict=True)]


def test_it_ends_once_two_rounds_brought_no_gain_and_says_by_what() -> None:
    values = measured(relative_score__vicuna=KNEE)
    ended = [t for t in range(11) if decide(values[: t + 1])]
    assert ended[0] == 5
    assert decide(values[:6]) == {
        "rule": "plateau", "metric": "relative_score/vicuna", "round": 3, "rows": 400, "patience": 2,
        "least_gain": 0.25, "metrics": ["relative_score/vicuna"], "of": 10,
    }  # fmt: skip
    assert decide(values[:7], Plateau(patience=4)) is None
    assert decide(values[:8], Plateau(patience=4)) is not None


def test_scores_decide_before_pools_and_the_one_that_paid_longest_among_them() -> None:
    rising = [float(t) for t in range(11)]
    falling = [-value for value in KNEE]
    assert decide(measured(relative_score__a=KNEE, relative_score__b=rising)) is None
    ended = decide(measured(relative_score__a=KNEE, vendi_score=rising, coverage_radius=falling))
    assert ended is not None
    assert ended["metrics"] == ["relative_score/a"]
    assert decide(measured(vendi_score=rising, coverage_radius=falling)) is None
    ended = decide(measured(vendi_score=KNEE, coverage_radius=falling))
    assert ended is not None
    assert ended["metrics"] == ["coverage_radius", "vendi_score"]
    ended = decide(measured(relative_score__a=rising, vendi_score=KNEE), Plateau(metric="vendi_score"))
    assert ended is not None
    assert ended["metric"] == "vendi_score"


def test_what_says_nothing_or_too_little_ends_nothing() -> None:
    assert decide(measured(train_loss=KNEE)) is None
    assert decide(measured(relative_score__a=KNEE)[:4]) is None


def test_a_smaller_gain_counts_where_it_is_asked_to() -> None:
    slow = [0.0, 10, 20, 30, 30.5, 31, 31.5, 32, 32.5, 33, 33.5]
    assert decide(measured(relative_score__a=slow)) is not None
    assert decide(measured(relative_score__a=slow), Plateau(least_gain=0.05)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "stop.patience is 0; it must be at least 1"),
        ({"least_gain": 1.5}, "stop.least_gain is 1.5; it is a share, from 0 to 1"),
    ],
)
def test_options_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plateau(**options)


def test_a_metric_that_is_not_measured_is_refused_before_the_work() -> None:
    for name in ("train_loss", "relative_score/vicunna", "none"):
        with pytest.raises(InputError, match=rf"^stop.metric is '{name}'"):
            check_stop(Plateau(metric=name), DEFAULT, ["vicuna"])
    check_stop(Plateau(metric="relative_score/vicuna"), DEFAULT, ["vicuna"])
    check_stop(Plateau(), DEFAULT, [])
    for name, judged in (("relative_score/vicuna", False), ("vendi_score/x", True), ("relative_score", True)):
        with pytest.raises(InputError, match=rf"^stop.metric is '{name}'"):
            check_stop(Plateau(metric=name), DEFAULT, ["vicuna"], judged)
    check_stop(Plateau(metric="reached/part"), [Reached()], [])
    with pytest.raises(InputError, match=r"^stop=plateau: no round measures anything that says whether"):
        check_stop(Plateau(), [], ["vicuna"], judged=False)


def test_the_rounds_that_it_takes_are_known_beforehand() -> None:
    assert [rounds_needed(Plateau(patience=patience)) for patience in (1, 4, 7)] == [5, 5, 8]
    values = measured(relative_score__a=[1.0] * 11)
    for patience in (1, 4, 7):
        rule = Plateau(patience=patience)
        assert decide(values[: rounds_needed(rule)], rule) is not None
        assert decide(values[: rounds_needed(rule) - 1], rule) is None


class Reached(Metric):
    """Rises until there are 14 rows."""

    name, pays_while = "reached", "rising"

    def measure(self, measured: Any) -> float:
        return float(min(len(measured.pool), 14))


def test_an_evolution_ends_early_stays_so_and_goes_on_where_it_is_asked_to(evolution, idle, tmp_path: Path) -> None:
    run, rule = tmp_path / "run", Plateau(metric="reached")
    usual = {"metrics": (*DEFAULT, Reached()), "schedule": Schedule(8, 6, 4)}
    rounds = evolve(evolution(run, stop=rule, **usual))
    assert [done.index for done in rounds] == [0, 1, 2, 3, 4]
    record = read_json(run / "rounds/04/round.json")
    assert record["stopped"]["metric"] == "reached"
    assert (record["stopped"]["round"], record["stopped"]["rows"], record["stopped"]["of"]) == (2, 14, 8)
    assert "stopped" not in read_json(run / "rounds/03/round.json")
    assert len(read_jsonl(run / "selected.jsonl")) == len(rounds[-1].trained_on) == 22
    assert record["chosen"], "what it goes on with"

    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    again = evolve(evolution(run, stop=rule, learner=idle, **usual))
    assert [done.index for done in again] == [0, 1, 2, 3, 4]
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before

    more = usual | {"schedule": Schedule(9, 6, 4)}
    assert [done.index for done in evolve(evolution(run, stop=rule, **more))] == [0, 1, 2, 3, 4, 5], (
        "anew at each round"
    )
    assert len(evolve(evolution(run, **usual))) == 9
    assert json.dumps(read_json(run / "rounds/04/round.json")) == json.dumps(record), "never changed"
    whole = tmp_path / "whole"
    evolve(evolution(whole, **usual))
    assert (run / "selected.jsonl").read_bytes() == (whole / "selected.jsonl").read_bytes()
    assert len(evolve(evolution(run, stop=rule, learner=idle, **usual))) == 9, "what was made since stays"


def test_the_command_says_why_it_ended_and_the_report_takes_the_run_as_complete(command_line, tmp_path: Path) -> None:
    usual = [
        f"folder={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}", "logger=none", *small_evolution.SMALL,
        "schedule.rounds=6", "tuning.steps=1", "tuning.learning_rate=1e-30", "benchmark=none", "stop=plateau",
        "stop.metric=pool_of_two", "judge=none",
    ]  # fmt: skip
    usual = [word for word in usual if not word.startswith(("benchmark.", "benchmark=lab"))]
    code, _, said = command_line("evolve", *usual)
    assert code == 2
    assert "stop.metric is 'pool_of_two'" in said
    usual[usual.index("stop.metric=pool_of_two")] = "stop.least_gain=1.0"
    short = [*usual, "schedule.rounds=1", f"folder={tmp_path / 'short'}"]
    code, _, said = command_line("evolve", *short)
    assert code == 0, said
    assert "stop=plateau ends nothing here: it decides after 5 rounds at the earliest" in said
    code, _, said = command_line("evolve", *usual)
    assert code == 0, said
    last = read_run(tmp_path / "run").rounds[-1]
    if last.stopped is None:
        pytest.fail(said)
    assert f"ended after round {last.index} of 6 (stop=plateau): by " in said
    assert "stop=null goes on from here" in said
    assert read_run(tmp_path / "run").complete
    fingerprint = (tmp_path / "run/fingerprint.json").read_text()
    assert "stop" not in fingerprint
    code, _, said = command_line("evolve", *usual)
    assert code == 0
    assert "nothing to do: all rounds are complete" in said
    assert dataclasses.asdict(read_run(tmp_path / "run").rounds[-1]) == dataclasses.asdict(last)
