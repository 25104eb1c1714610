"""What an evolution will take: its work is the real one's, its arithmetic is by hand, its command leaves nothing."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_evolution import SMALL

from diverseevol.cli.commands.plan import verdicts
from diverseevol.cli.forecast import Bill, bill_of, check_budget, measured_rates, save_rates
from diverseevol.engine.arithmetic import Amount, Numbers, bytes_of_checkpoint, fit, forward, llama
from diverseevol.engine.cards import CARDS
from diverseevol.engine.shapes import shape_without_weights
from diverseevol.engine.tuning.batches import plan_steps
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam
from diverseevol.evaluation.judges.base import Capabilities
from diverseevol.evaluation.judges.without_model import Gold
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics import DEFAULT
from diverseevol.evolution.metrics.base import needs_of
from diverseevol.evolution.plan import Asked, Cost, Forecast, Rates, Workload
from diverseevol.options import Budget, Efficiency, Generation, LoRA, Schedule, Tuning
from diverseevol.report.predictions import predictions
from diverseevol.runs.round_folder import Prediction, Round
from diverseevol.samplers.base import Needs
from diverseevol.storage.files import read_json


@pytest.fixture
def workload(learner) -> Workload:
    encoded = learner.encoded
    lengths, responses = np.asarray(encoded.lengths), np.asarray(encoded.response_tokens)
    eligible = np.flatnonzero(encoded.eligible)
    return Workload(
        shape=shape_without_weights(learner.foundation, learner.tuning), numbers=Numbers(), tuning=Tuning(batch_size=4),
        schedule=Schedule(2, 6, 4), every=Amount.of(lengths), rows=len(eligible),
        eligible=Amount.of(lengths[eligible], responses[eligible]), needs=Needs("current"),
        measured=frozenset(needs_of(list(DEFAULT))), asked=(Asked("small", 3, 30.0, 31),),
        generation=Generation(max_new_tokens=4),
    )  # fmt: skip


@pytest.mark.parametrize("tuning", [Tuning(batch_size=4), Tuning(batch_size=4, steps=7), Tuning(batch_size=4, steps=2)])
def test_trained_tokens_are_those_of_the_steps_that_a_fit_plans(workload, learner, tuning):
    encoded, pool = learner.encoded, np.flatnonzero(learner.encoded.eligible)[5:19]
    steps = plan_steps(
        encoded, pool, epochs=tuning.epochs, steps=tuning.steps, batch_size=tuning.batch_size,
        micro_batch_tokens=tuning.micro_batch_tokens, rng=np.random.default_rng(0),
    )  # fmt: skip
    rows = [row for step in steps for micro in step.micro_batches for row in micro]
    lengths, responses = np.asarray(encoded.lengths), np.asarray(encoded.response_tokens)
    own = dataclasses.replace(workload, tuning=tuning)
    cost = own.costs(0, Amount.of(lengths[pool], responses[pool]), len(pool))["fit"]
    assert own.passes(len(pool)) * len(pool) == len(rows)
    if tuning.steps is None:
        assert cost.tokens == lengths[rows].sum()
        assert cost.operations == fit(own.shape, Amount.of(lengths[rows], responses[rows]))
    else:  # the rows of an incomplete pass are drawn: on average
        assert cost.tokens == pytest.approx(lengths[rows].sum(), rel=0.2)


def test_later_rounds_train_on_average_rows(workload):
    first = Amount(100, 900, 50)
    rounds = workload.rounds(first)
    row = workload.eligible.tokens / workload.rows
    assert [costs["fit"].tokens for costs in rounds] == pytest.approx([3 * (100 + t * 4 * row) for t in range(3)])
    assert [workload.pool_rows(t) for t in range(3)] == [6, 10, 14]
    everything = dataclasses.replace(workload, schedule=Schedule(0, None, 0))
    assert everything.pool_rows(0) == workload.rows


def test_a_round_does_what_its_sampler_and_its_metrics_need(workload):
    def phases(t: int, **changes: Any) -> dict[str, Cost]:
        return dataclasses.replace(workload, **changes).costs(t, Amount(9, 27, 3), 3)

    measure = forward(workload.shape, Amount(9, 27))
    assert set(phases(0)) == {"fit", "probe", "foundation", "answer small"}, "the pool's embedding is the probe's"
    assert set(phases(1)) == {"fit", "probe", "answer small"}
    assert phases(2)["measure"].operations == measure, "the last round probes nothing"
    assert "foundation" not in phases(0, embedded=True)
    assert set(phases(0, needs=Needs(space="text"))) == {"fit", "measure", "foundation", "answer small"}
    assert set(phases(1, needs=Needs(), asked=())) == {"fit", "measure"}
    unsure = phases(1, needs=Needs(statistics=frozenset({"entropy"})))["probe"].operations
    assert unsure == forward(workload.shape, workload.eligible) > phases(1)["probe"].operations
    committee = phases(1, needs=Needs(statistics=frozenset({"kl"}), committee=2))
    assert committee["disagreement"].tokens == 3 * workload.eligible.tokens
    assert committee["committee 1"] == committee["committee 2"] == committee["fit"]
    assert phases(1, needs=Needs(earlier=3))["disagreement"].tokens == 2 * workload.eligible.tokens
    held_out = phases(0, held_out=Amount(5, 25, 2), measured=frozenset({"held_out_loss"}))
    assert held_out["measure"].operations == forward(workload.shape, Amount(5, 25, 2))


def test_each_process_answers_its_share_in_a_batch_at_least(workload):
    asked = (Asked("some", 8, 30.0, 31),)
    alone = dataclasses.replace(workload, asked=asked, generation=Generation(max_new_tokens=4, batch_size=8))
    few = dataclasses.replace(alone, processes=4)

    def seconds(changed: Workload, count: int) -> float | None:
        rates = Rates.of_card("H100", CARDS["H100"], count, Numbers(), Efficiency())
        return rates.seconds(changed.costs(0, Amount(9, 27, 3), 3)["answer some"])

    assert seconds(alone, 1) == seconds(few, 4) == 4 * workload.shape.layers * Efficiency().layer_seconds
    read = [each.costs(0, Amount(9, 27, 3), 3)["answer some"].read for each in (alone, few)]
    weights = 4 * workload.shape.linear * workload.numbers.arithmetic
    assert read[1] == pytest.approx(read[0] + 3 * weights), "four devices read all weights for every token"
    many = dataclasses.replace(alone, processes=4, generation=Generation(max_new_tokens=4, batch_size=1))
    assert many.costs(0, Amount(9, 27, 3), 3)["answer some"].layers == 2 * 4 * workload.shape.layers


def test_a_committee_is_on_the_device_together(workload):
    def probe(needs: Needs, **changes: Any) -> dict[str, int]:
        return dataclasses.replace(workload, needs=needs, **changes).memory(64)["probe"]

    weights = workload.shape.weights * 4
    assert "committee" not in probe(Needs("current"))
    assert probe(Needs(statistics=frozenset({"committee_kl"}), committee=3))["committee"] == 3 * weights
    assert probe(Needs(earlier=4))["committee"] == weights, "round 1 has one before it, and round 2 is the last"
    adapted = dataclasses.replace(workload.shape, adapters=10)
    assert probe(Needs(committee=3), shape=adapted)["committee"] == 3 * 10 * 4


def test_a_checkpoint_is_the_weights_and_their_moments():
    shape = llama(64, 128, 2, 2, 1000)
    assert bytes_of_checkpoint(shape, Tuning(), Numbers(4, 2)) == 3 * 4 * shape.weights
    assert bytes_of_checkpoint(shape, Tuning(moments="bfloat16"), Numbers()) == 8 * shape.weights
    adapted = llama(64, 128, 2, 2, 1000, rank=4)
    assert bytes_of_checkpoint(adapted, LoRA(rank=4), Numbers(2, 2)) == 12 * adapted.adapters


def test_rates_of_a_card_are_shares_of_its_peaks():
    rates = Rates.of_card("H100", CARDS["H100"], 2, Numbers(4, 2), Efficiency())
    assert rates.seconds(Cost("fit", 1, 2 * 989e12 * 0.4)) == pytest.approx(1)
    assert rates.seconds(Cost("read", 1, 2 * 989e12)) == pytest.approx(2)
    assert rates.seconds(Cost("answer", 1, 1.0, read=2 * 3350e9)) == pytest.approx(2)
    assert rates.seconds(Cost("answer", 1, 2 * 989e12, read=1.0)) == pytest.approx(2), "the slower of both counts"
    assert rates.seconds(Cost("answer", 1, 1.0, read=1.0, layers=4000)) == pytest.approx(2), "each launches all of them"
    in_float32 = Rates.of_card("H100", CARDS["H100"], 1, Numbers(), Efficiency(fit=1))
    assert in_float32.seconds(Cost("fit", 1, 67e12)) == pytest.approx(1)
    assert Rates("nobody").seconds(Cost("fit", 1, 1.0)) is None
    assert Rates("slow to start", fit=2.0, startup=3.0).seconds(Cost("fit", 1, 4.0)) == 5.0


def test_rates_of_a_round_are_what_it_took():
    costs = {"fit": Cost("fit", 1, 10.0), "probe": Cost("read", 1, 6.0), "measure": Cost("read", 1, 2.0)}
    rates = Rates.observed("round 0", costs, {"fit": 5.0, "probe": 3.0, "measure": 1.0, "select": 9.0})
    assert (rates.fit, rates.read, rates.bandwidth) == (2.0, 2.0, None)


def test_an_evolution_records_how_long_its_rounds_were_going_to_take(workload, evolution, learner, tmp_path, cache):
    forecast = Forecast(dataclasses.replace(workload, embedded=True), None, learner.encoded)
    rounds = evolve(evolution(tmp_path / "run", forecast=forecast))
    records = [read_json(tmp_path / f"run/rounds/{t:02d}/round.json") for t in range(3)]
    assert records[0]["predicted"] is None, "nobody knew"
    for t in (1, 2):
        assert records[t]["predicted"]["by"] == f"round {t - 1}"
        assert set(records[t]["predicted"]["seconds"]) <= set(records[t]["seconds"])
        assert {"fit", "answer small"} <= set(records[t]["predicted"]["seconds"])
    known = Forecast(workload, Rates("calibration", 1e9, 1e9, 1e9), learner.encoded)
    pool = np.asarray(rounds[1].trained_on)
    said = known.predict(1, pool)
    assert said is not None
    assert said.by == "calibration"
    lengths, responses = np.asarray(learner.encoded.lengths), np.asarray(learner.encoded.response_tokens)
    operations = fit(workload.shape, Amount.of(lengths[pool], responses[pool]) * 3)
    assert said.seconds["fit"] == pytest.approx(operations / 1e9, abs=1e-3)
    assert rounds[1].predicted == evolve(evolution(tmp_path / "run"))[1].predicted, "it is read back"


def test_what_was_predicted_is_summed_by_phase():
    def done(t: int, by: str, **predicted: float) -> Round:
        return Round(t, (), (), {}, {"fit": 2.0, "probe": 4.0}, {}, Prediction(by, predicted))

    fit_line, probe, together = predictions(
        [done(0, "round 7", fit=1.0), done(1, "H100", fit=1.0, probe=2.0, gone=9.0)]
    )
    assert (fit_line.phase, fit_line.predicted, fit_line.took, fit_line.rounds) == ("fit", 2.0, 4.0, 2)
    assert fit_line.by == "the round before, H100"
    assert probe.cells() == ("probe", "1", "2.0", "4.0", "0.50", "H100")
    assert (together.phase, together.predicted, together.took) == ("together", 4.0, 8.0)
    assert predictions([Round(0, (), (), {}, {"fit": 1.0})]) == []


@pytest.mark.parametrize(
    ("budget", "hours", "bill", "sentence"),
    [
        (Budget(gpu_hours=1), 2.0, Bill(0, 0.0), r"budget\.gpu_hours is 1, and by its plan the evolution takes 2\.00;"),
        (Budget(gpu_hours=1), None, Bill(0, 0.0), r"budget\.gpu_hours is set, and nothing says how fast"),
        (Budget(usd=1), None, Bill(80, 2.0), r"budget\.usd is 1, and by the plan 80 calls of the judge take about \$2"),
        (Budget(usd=1), None, Bill(80, None), r"budget\.usd is set, and the price of the judge's calls is not known"),
        (Budget(usd=3, usd_per_hour=2), 1.0, Bill(80, 2.0), r"\$2\.00 and 1\.00 GPU hours \$2\.00; raise it"),
        (Budget(usd=3, usd_per_hour=2), None, Bill(80, 2.0), r"budget\.usd is set, and nothing says how fast"),
    ],
)  # fmt: skip
def test_a_budget_refuses_what_would_take_more(budget, hours, bill, sentence):
    with pytest.raises(InputError, match=sentence):
        check_budget(budget, hours, bill)


def test_a_budget_lets_begin_what_takes_less():
    check_budget(Budget(gpu_hours=2, usd=3, usd_per_hour=1), 1.0, Bill(80, 2.0))
    check_budget(Budget(), None, Bill(80, None))


def test_a_budget_in_dollars_says_what_it_does_not_count(caplog):
    check_budget(Budget(usd=3, usd_per_hour=0), 100.0, Bill(80, 2.0))
    assert not caplog.messages
    check_budget(Budget(usd=3), 100.0, Bill(80, 2.0))
    assert "counts the judge's calls alone; give budget.usd_per_hour=" in caplog.text


class Unpaid(Gold):
    """Calls a model, and pays for none of it."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("competitor", calls=True)


def test_the_bill_is_that_of_all_rounds(make):
    questions = tuple(Question(str(i), f"What is {i}?", competitor="y" * 40) for i in range(6))
    exam = Exam((Benchmark("mine", questions),), make(price=[10, 20]))
    bill = bill_of(exam, 3)
    assert bill.calls == 3 * 12
    assert bill.usd is not None
    assert 0 < bill.usd < 1
    assert bill_of(dataclasses.replace(exam, judge=make(model="m")), 3) == Bill(36, None)
    assert bill_of(dataclasses.replace(exam, benchmarks=(), judge=Gold()), 3) == Bill(0, 0.0)
    assert bill_of(dataclasses.replace(exam, judge=Unpaid()), 3) == Bill(36, 0.0), "a model on this machine"


def test_the_command_says_what_it_takes_and_leaves_nothing(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, _ = command_line("plan", *SMALL, "card=L4", "threads=1")
    assert code == 0
    for part in ("lab, 200 rows", "trained tokens", "fits L4: 22.5 GB", "judging (gold): no calls", "NVIDIA L4 Tensor"):
        assert part in said
    assert list(tmp_path.iterdir()) == []
    code, said, _ = command_line("plan", *SMALL, "threads=1")
    assert "no times: give card=NAME" in said
    assert "time: not known" in said
    code, said, error = command_line("plan", *SMALL, "card=L4", "threads=1", "budget.gpu_hours=0")
    assert code == 2
    assert "budget.gpu_hours is 0, and by its plan the evolution takes" in error
    code, _, error = command_line("plan", *SMALL, "card=T4", "trainer=bf16", "threads=1")
    assert code == 2
    assert "T4 has no units for bfloat16; give trainer.precision=16-mixed" in error


def test_evolve_does_not_refuse_the_card_that_it_finds(command_line, tmp_path, monkeypatch):
    monkeypatch.setattr("diverseevol.cli.forecast.card_here", lambda settings: ("T4", CARDS["T4"]))
    few = (*SMALL, f"cache={tmp_path / 'cache'}", f"folder={tmp_path / 'run'}", "logger=none", "threads=1")
    code, _, error = command_line("evolve", *few, "trainer.precision=bf16-mixed", "schedule.rounds=0")
    assert code == 0, error
    code, _, error = command_line("plan", *few, "trainer.precision=bf16-mixed")
    assert code == 2
    assert "T4 has no units for bfloat16" in error


def test_a_sweep_over_its_budget_is_planned_to_the_end(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = ("-m", *SMALL, "seed=0,1", "card=L4", "threads=1")
    code, said, error = command_line("plan", *sweep, "budget.gpu_hours=0")
    assert code == 2
    assert "all 2 evolutions of the sweep" in said
    assert "2 of 2 evolutions go over their budget, the first " in error
    assert "budget.gpu_hours is 0, and by its plan" in error
    assert command_line("plan", *sweep)[0] == 0, "nothing is kept of it"


@pytest.mark.parametrize(
    "content",
    ['{"source": "calibration", "flops": 1.0}', '{"source": "calibration", "fit": "fast"}', "[1]", "{",
     '{"source": "calibration", "fit": 0}', '{"source": "calibration", "layer": null}'],
)  # fmt: skip
def test_rates_of_another_release_are_left_out_of_account(content, tmp_path, caplog):
    file = tmp_path / "rates.json"
    assert measured_rates(file) is None
    save_rates(file, rates := Rates("calibration", 1.0, 2.0))
    assert measured_rates(file) == rates
    assert not caplog.text
    file.write_text(content)
    assert measured_rates(file) is None
    assert f"{file}: not rates" in caplog.text


def test_a_sweep_is_summed(command_line, tmp_path, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path)
    cache = f"cache={tmp_path_factory.mktemp('cache')}"  # an embedding that is there already is not counted
    sweep = ("sampler=kcenter,random", "seed=0,1", "card=L4", "threads=1")
    code, said, error = command_line("plan", "-m", *SMALL, cache, *sweep)
    assert code == 0, error
    assert "all 4 evolutions of the sweep" in said
    assert "shared, and counted once: rows as tokens, and 1 foundation embedding" in said
    assert list(tmp_path.iterdir()) == []


def test_what_was_measured_here_predicts_later_evolutions(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = (*SMALL, f"cache={tmp_path / 'cache'}", "logger=none", "threads=1")
    code, said, error = command_line("plan", *few, "calibrate=true")
    assert code == 0, error
    assert "by rates that were measured on this machine" in said
    (file,) = (tmp_path / "cache/rates").glob("*.json")
    assert json.loads(file.read_text())["source"] == "calibration"
    assert all(
        value > 0 for name, value in json.loads(file.read_text()).items() if name in ("fit", "read", "bandwidth")
    )
    for measuring in ("false", "true"):
        code, _, error = command_line("plan", *few, "cards=4", f"calibrate={measuring}")
        assert code == 2
        assert "cards is 4, and what is measured here is measured on 1 process; give card=NAME" in error
    code, _, error = command_line("evolve", *few, "budget.gpu_hours=1e-9")
    assert code == 2
    assert "budget.gpu_hours is 1e-09" in error
    assert not list(Path(tmp_path).glob("outputs/**/round.json"))
    code, _, said = command_line("evolve", *few)
    assert code == 0
    assert "predicted beside actual" in said
    records = [read_json(file) for file in sorted(tmp_path.glob("outputs/**/round.json"))]
    assert [record["predicted"]["by"] for record in records] == ["calibration"] * 2
    assert {"fit", "probe", "foundation", "answer lab_natural"} <= set(records[0]["predicted"]["seconds"])
    assert command_line("report", "outputs")[0] == 0
    (table,) = tmp_path.glob("outputs/**/tables/predictions.csv")
    phases = [line.partition(",")[0] for line in table.read_text().splitlines()]
    assert phases[0] == "phase"
    assert {"fit", "answer lab_natural", "together"} <= {*phases}
    assert "predicted beside actual" in (table.parent.parent / "report.html").read_text()


def test_what_does_not_fit_is_said_with_what_would(workload):
    seven = dataclasses.replace(workload, shape=llama(4096, 11008, 32, 32, 32000), numbers=Numbers(4, 2))

    def memory_of(changed: Workload) -> dict[str, dict[str, int]]:
        return changed.memory(2048)

    said = " ".join(verdicts(seven, memory_of, ("H100", CARDS["H100"])))
    assert "does not fit H100: fit needs " in said
    assert "it fits with tuning.gradient_checkpointing=true tuning.rounding=stochastic model.dtype=bfloat16" in said
    assert verdicts(workload, memory_of, ("L4", CARDS["L4"])) == ["fits L4: 22.5 GB can be used of each"]
    many = dataclasses.replace(seven, numbers=Numbers(2, 2), asked=(Asked("many", 80, 100, 100),))
    many = dataclasses.replace(many, generation=Generation(max_new_tokens=1024, batch_size=40))
    (fit_says, answer_says) = verdicts(many, memory_of, ("RTX-4090", CARDS["RTX-4090"]))
    assert fit_says.endswith("give model.dtype=bfloat16 tuning=lora, or a larger card")
    assert answer_says.endswith("it fits with generation.batch_size=8")


def test_what_a_server_answers_is_not_this_machines_work(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said, error = command_line(
        "plan", *SMALL, "threads=1", "answers=server", "answers.command='true {port}'"
    )  # fmt: skip
    assert code == 0, error
    assert "answers: a server's, whose time and memory are not counted" in said
    assert "cache of keys and values" not in said
