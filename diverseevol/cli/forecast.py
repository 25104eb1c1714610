"""What an evolution will take, from the parts that a command has built: its work, the rates, the bill, the budget."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diverseevol.cli.checked_options import card_of
from diverseevol.cli.configuration import Configuration
from diverseevol.data.tokens import tokens_of
from diverseevol.engine.arithmetic import Amount, Numbers
from diverseevol.engine.cards import CARDS, Card, card_reported
from diverseevol.engine.learner import Learner
from diverseevol.engine.shapes import shape_without_weights
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.questions.benchmarks import with_references
from diverseevol.evolution.loop import initial_pool
from diverseevol.evolution.metrics.base import Metric, needs_of
from diverseevol.evolution.plan import Asked, Cost, Forecast, Rates, Workload
from diverseevol.evolution.setup import Streams
from diverseevol.options import Budget, Efficiency, Schedule
from diverseevol.samplers.base import Sampler
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import read_json, write_json

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bill:
    """What judging all rounds takes: calls, and US dollars where the price is known."""

    calls: int
    usd: float | None


def numbers_of(settings: Configuration, learner: Learner) -> Numbers:
    """How weights are held, and multiplied."""
    precision = str(settings.value("trainer", dict).get("precision", "32-true"))
    return Numbers.of(learner.foundation.dtype, precision)


def workload_of(
    settings: Configuration,
    learner: Learner,
    exam: Exam,
    sampler: Sampler,
    schedule: Schedule,
    metrics: Sequence[Metric],
    embedded: bool,
    processes: int,
) -> Workload:
    """The work of an evolution.

    Args:
        settings: the configuration.
        learner: with the rows as tokens; no weights are read.
        exam: what is asked.
        sampler: chooses the rows that join.
        schedule: how the pool grows.
        metrics: what is measured.
        embedded: whether the foundation model's embedding is in the cache.
        processes: how many there are, a device each.
    """
    encoded, needs = learner.encoded, needs_of(list(metrics))
    lengths, responses = np.asarray(encoded.lengths), np.asarray(encoded.response_tokens)
    eligible = np.flatnonzero(encoded.eligible)
    held_out = np.zeros(0, np.int64) if encoded.held_out is None else np.asarray(encoded.held_out)
    references, asked = Amount(), []
    for benchmark in exam.benchmarks:
        questions = benchmark.questions
        prompts = learner.prompt.ids([each.instruction for each in questions], [each.input for each in questions])
        sizes = [len(ids) for ids in prompts]
        if exam.server is None:
            asked.append(Asked(benchmark.name, len(questions), sum(sizes) / len(sizes), max(sizes)))
        if "reference_loss" in needs:
            rows = tokens_of(learner.prompt.rows(with_references(benchmark)))
            references += Amount.of(rows.lengths, rows.response_tokens)
    return Workload(
        shape=shape_without_weights(learner.foundation, learner.tuning), numbers=numbers_of(settings, learner),
        tuning=learner.tuning, schedule=schedule, every=Amount.of(lengths),
        eligible=Amount.of(lengths[eligible], responses[eligible]), rows=len(eligible), needs=sampler.needs,
        measured=frozenset(needs), held_out=Amount.of(lengths[held_out], responses[held_out]), references=references,
        asked=tuple(asked), generation=exam.generation, embedded=embedded, processes=processes,
    )  # fmt: skip


def first_pool(learner: Learner, schedule: Schedule, seed: int) -> Amount:
    """What P_0 holds, drawn as the evolution draws it."""
    encoded = learner.encoded
    pool = initial_pool(np.flatnonzero(encoded.eligible), schedule.seed_size, Streams(seed))
    return Amount.of(np.asarray(encoded.lengths)[pool], np.asarray(encoded.response_tokens)[pool])


def card_here(settings: Configuration) -> tuple[str, Card] | None:
    """The card that is asked about, or else the one that torch reports, where the table has it."""
    if (card := card_of(settings)) is not None:
        return card
    name = card_reported(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
    return None if name is None else (name, CARDS[name])


def rates_of(settings: Configuration, learner: Learner, cache: Path, cards: int, planned: bool = False) -> Rates | None:
    """How fast this will be: by the card that is named, by what was measured here, by the card that torch reports.

    Args:
        settings: the configuration.
        learner: whose processes, model and tuning count.
        cache: the project's cache folder.
        cards: how many work.
        planned: whether the card that torch reports is refused like one that is named; otherwise it says nothing.

    Raises:
        InputError: the card does not multiply the numbers that the trainer asks for, or what was measured here was
            measured on another number of processes.
    """
    named = card_of(settings)
    if named is None and (measured := measured_rates(calibration_file(settings, learner, cache))) is not None:
        check_cards(cards, learner.processes.world)
        return measured
    if (card := named or card_here(settings)) is None:
        return None
    precision = str(settings.value("trainer", dict).get("precision"))
    if precision.startswith("bf16") and not card[1].bfloat16:
        if named is None and not planned:  # what runs is not refused for what it was going to take
            return None
        raise InputError(
            f"trainer.precision={precision}: {card[0]} has no units for bfloat16; give trainer.precision=16-mixed"
        )
    numbers = numbers_of(settings, learner)
    return Rates.of_card(card[0], card[1], cards, numbers, settings.options("efficiency", Efficiency))


def calibration_file(settings: Configuration, learner: Learner, cache: Path) -> Path:
    """Where measured rates are kept: of this model, tuning and precision on this device and as many processes."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu {torch.get_num_threads()}"
    parts = [
        learner.foundation.identity(cache), learner.tuning.KEPT, settings.value("trainer", dict), device,
        learner.processes.world, learner.tuning.micro_batch_tokens, learner.tuning.packing, learner.tuning.compile,
        learner.tuning.gradient_checkpointing, learner.embedding.batch_tokens, settings.value("generation.batch_size"),
    ]  # fmt: skip
    return cache / "rates" / f"{hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]}.json"


def measured_rates(file: Path) -> Rates | None:
    """Rates that were measured before; None where there are none, or where the file does not say them."""
    if not file.exists():
        return None
    try:
        rates = Rates(**read_json(file))
        values = asdict(rates)
        speeds = [values[name] for name in ("fit", "read", "bandwidth", "answer") if values[name] is not None]
        if all(0 < speed < math.inf for speed in speeds) and all(
            0 <= wait < math.inf for wait in (rates.layer, rates.startup)
        ):
            return rates
    except (InputError, TypeError):  # of another release, or edited
        pass
    log.warning("%s: not rates that plan calibrate=true measures now; it is left out of account", file)
    return None


def check_cards(cards: int, processes: int) -> None:
    """Look whether what was measured here, by so many processes, says how fast so many cards are.

    Raises:
        InputError: it does not.
    """
    if cards != processes:
        raise InputError(
            f"cards is {cards}, and what is measured here is measured on {processes} process{'es' * (processes > 1)}; "
            f"give card=NAME for as many by its data sheet, or leave cards out"
        )


def save_rates(file: Path, rates: Rates) -> None:
    """Keep measured rates for later plans and evolutions."""
    write_json(file, asdict(rates))


def forecast_of(
    settings: Configuration,
    learner: Learner,
    exam: Exam,
    sampler: Sampler,
    schedule: Schedule,
    metrics: Sequence[Metric],
    embedded: bool,
) -> Forecast | None:
    """What says of each round how long it will take; None of a model that cannot be built without its weights.

    Arguments are those of `workload_of`; the processes are the learner's.

    Raises:
        InputError: the card does not multiply the numbers that the trainer asks for.
    """
    try:
        workload = workload_of(
            settings, learner, exam, sampler, schedule, metrics, embedded, learner.processes.world
        )  # fmt: skip
    except InputError:
        raise
    except Exception as error:  # families of models, and code that a checkpoint brings, are of every kind
        log.info("nothing is predicted: %s: %s", type(error).__name__, error)
        return None
    cache = cache_folder(settings.value("cache", str | None))
    return Forecast(workload, rates_of(settings, learner, cache, learner.processes.world), learner.encoded)


def keep_to_budget(
    budget: Budget, forecast: Forecast | None, learner: Learner, exam: Exam, schedule: Schedule, seed: int,
    missing: Set[int],
) -> None:  # fmt: skip
    """Refuse to begin an evolution of which the missing rounds would take more than the budget.

    Raises:
        InputError: they would, or nobody knows.
    """
    if budget.gpu_hours is None and budget.usd is None:
        return
    seconds = None
    if forecast is not None:
        rounds = forecast.workload.rounds(first_pool(learner, schedule, seed))
        seconds = seconds_of(forecast.rates, [costs for t, costs in enumerate(rounds) if t in missing])
    hours = None if seconds is None else seconds * learner.processes.world / 3600
    check_budget(budget, hours, bill_of(exam, len(missing)))


def seconds_of(rates: Rates | None, rounds: Sequence[dict[str, Cost]]) -> float | None:
    """Seconds of all phases of all rounds; None where some rate is not known."""
    if rates is None:
        return None
    seconds = [rates.seconds(cost) for costs in rounds for cost in costs.values()]
    known = [value for value in seconds if value is not None]
    return sum(known) if len(known) == len(seconds) else None


def bill_of(exam: Exam, rounds: int) -> Bill:
    """What judging so many rounds takes, with answers like the texts that they are compared with."""
    capabilities = exam.judge.capabilities
    if not capabilities.judges or not capabilities.calls:
        return Bill(0, 0.0)
    calls, usd = 0, 0.0
    priced = True
    for benchmark in exam.benchmarks:
        if capabilities.costs is None:  # a model on this machine
            calls += 2 * len(benchmark.questions)
            continue
        answers = {each.id: each.competitor or each.reference or "" for each in benchmark.questions}
        estimate = capabilities.costs.estimate(AnswerSheet(benchmark, answers))
        calls += estimate.judgements
        priced &= estimate.dollars is not None
        usd += (estimate.dollars or 0.0) * estimate.judgements / max(1, estimate.missing)
    return Bill(calls * rounds, usd * rounds if priced else None)


def check_budget(budget: Budget, hours: float | None, bill: Bill) -> None:
    """Refuse to begin what would take more than the budget.

    Args:
        budget: what it may take.
        hours: GPU hours by the plan; None where no rate is known.
        bill: what judging takes.

    Raises:
        InputError: it would take more, or nobody knows how much.
    """
    dollars = budget.usd is not None and budget.usd_per_hour is not None
    if hours is None and (budget.gpu_hours is not None or dollars):
        limit = "gpu_hours" if budget.gpu_hours is not None else "usd"
        raise InputError(
            f"budget.{limit} is set, and nothing says how fast this machine is; give card=NAME, or measure it with "
            f"diverseevol plan calibrate=true and the same options"
        )
    if budget.gpu_hours is not None and hours is not None and hours > budget.gpu_hours:
        raise InputError(
            f"budget.gpu_hours is {budget.gpu_hours:g}, and by its plan the evolution takes {rounded(hours)}; raise "
            f"it, or give fewer schedule.rounds, fewer tuning.epochs, a smaller generation.max_new_tokens, tuning=lora "
            f"(diverseevol plan with the same options shows what takes how long)"
        )
    if budget.usd is None:
        return
    if budget.usd_per_hour is None:
        log.warning("budget.usd counts the judge's calls alone; give budget.usd_per_hour=… to count GPU hours, too")
    if bill.usd is None:
        raise InputError(
            "budget.usd is set, and the price of the judge's calls is not known; give judge.price=[PROMPT,COMPLETION] "
            "in US dollars per million tokens, or leave budget.usd out"
        )
    computing = 0.0 if budget.usd_per_hour is None or hours is None else hours * budget.usd_per_hour
    if bill.usd + computing > budget.usd:
        computed = f" and {rounded(hours or 0.0)} GPU hours ${rounded(computing)}" if computing else ""
        raise InputError(
            f"budget.usd is {budget.usd:g}, and by the plan {bill.calls:,} calls of the judge take about "
            f"${rounded(bill.usd)}{computed}; raise it, or give fewer schedule.rounds, a cheaper judge, or judge=none "
            f"and judge the last round later"
        )


def rounded(amount: float) -> str:
    """Hours or dollars with two decimals, and small ones with the digits that tell them from none."""
    return f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{amount:.2g}"


def plain(value: Any) -> str:
    """A number of seconds in words that fit its size."""
    if value is None:
        return "?"
    for unit, size in (("h", 3600), ("min", 60)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:,.1f} s"
