"""`diverseevol plan`: what an evolution will take, before it runs: text, operations, hours, memory, disk and money."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diverseevol.cli.checked_options import (
    EvolveOptions,
    PlanOptions,
    answers_of,
    check_quota,
    metrics_of,
    sampler_of,
    schedule_of,
    tuning_of,
)
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.fingerprint import space_identity, space_key
from diverseevol.cli.forecast import (
    Bill,
    bill_of,
    calibration_file,
    card_here,
    check_budget,
    check_cards,
    first_pool,
    plain,
    rates_of,
    rounded,
    save_rates,
    seconds_of,
    workload_of,
)
from diverseevol.cli.naming import run_path
from diverseevol.cli.rows import bad_rows_file
from diverseevol.cli.workbench import workbench
from diverseevol.data.text_space import DIMENSIONS
from diverseevol.engine.arithmetic import HALF, Numbers, bytes_kept, bytes_of_checkpoint, total
from diverseevol.engine.cards import Card
from diverseevol.engine.learner import Learner
from diverseevol.engine.trainers import device_of
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam
from diverseevol.evaluation.judges.base import checked_judge
from diverseevol.evolution.calibration import calibrate
from diverseevol.evolution.plan import Cost, Rates, Workload
from diverseevol.options import Budget, Generation, LoRA
from diverseevol.output.console import Console, results_console
from diverseevol.output.tables import Table, as_text

FORMULA = (
    "operations: 6 a weight and token in fits (LoRA 4, and 6 of its own), 2 in reading, and those of attention and of "
    "the head where logits are needed; padding, which adds a few per cent, is not counted"
)
SHARED: dict[str, float] = {}  # foundation embeddings that jobs of a sweep have in common, and the seconds of each


@dataclass(frozen=True)
class Planned:
    """What one evolution takes in all: GPU hours where a rate is known, disk in bytes, and the judge's bill."""

    hours: float | None
    disk: float
    bill: Bill


PLANNED: list[Planned] = []
REFUSED: dict[str, InputError] = {}  # by run folder, those that would take more than the budget


def run(settings: Configuration) -> None:
    """Print the plan of the evolution that the configuration describes."""
    options, own = settings.options("", EvolveOptions), settings.options("", PlanOptions)
    with workbench(settings, options.verify_cache) as bench:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        schedule, tuning = schedule_of(settings), tuning_of(settings)
        sampler, judge = sampler_of(settings), checked_judge(settings.part("judge"))
        benchmarks, generation = (
            settings.part("benchmark", cache=bench.cache),
            settings.options("generation", Generation),
        )
        exam = Exam(benchmarks, judge, generation, answers_of(settings))
        dataset = bench.dataset(bad_rows_file(run_path(settings), bench.cache))
        check_quota(sampler, dataset)
        learner = bench.learner(dataset, tuning)
        schedule = schedule_of(settings, eligible := int(learner.encoded.eligible.sum()))
        schedule.fits(eligible)
        space = space_key(space_identity(settings, dataset, learner, bench.cache))
        embedded = space in SHARED or (bench.cache / "foundation" / space).exists()
        cards = max(own.cards, bench.processes.world)
        workload = workload_of(settings, learner, exam, sampler, schedule, metrics_of(settings), embedded, cards)
        if own.calibrate:
            check_cards(cards, bench.processes.world)
            rates: Rates | None = calibrate(learner, workload, exam, bench.cache / "rates" / "probe")
            if bench.processes.first and rates is not None:
                save_rates(calibration_file(settings, learner, bench.cache), rates)
        else:
            rates = rates_of(settings, learner, bench.cache, cards, planned=True)
        rounds = workload.rounds(first_pool(learner, schedule, options.seed))
        if not bench.processes.first:
            return
        disk = _disk(settings, workload, len(dataset))
        seconds = seconds_of(rates, rounds)
        hours = None if seconds is None else seconds * cards / 3600
        planned = Planned(hours, sum(disk.values()), bill_of(exam, len(rounds)))
        console = results_console()
        console.print(f"plan of {run_path(settings)}/: {dataset.name}, {len(dataset):,} rows", style="bold")
        console.print(_model(workload, learner))
        console.print(as_text(_rounds(workload, rounds, rates)))
        _print_memory(console, settings, workload, learner, cards, card_here(settings))
        console.print(f"disk: {', '.join(f'{name} {_size(size)}' for name, size in disk.items() if size)}")
        console.print(_judging(exam, planned.bill))
        if exam.server is not None:
            console.print("answers: a server's, whose time and memory are not counted")
        console.print(_time(rates, hours, cards, settings))
        console.print(FORMULA, style="dim")
        PLANNED.append(planned)
        try:
            check_budget(settings.options("budget", Budget), hours, planned.bill)
        except InputError as refusal:  # the plans of a sweep's other jobs are worth as much
            REFUSED[str(run_path(settings))] = refusal
        if "foundation" in rounds[0]:
            SHARED[space] = (rates and rates.seconds(rounds[0]["foundation"])) or 0.0


def conclude() -> None:
    """Print what all jobs of a sweep take together, and forget them.

    Raises:
        InputError: the plan, or some of the sweep's, is refused by its budget.
    """
    planned, refused = len(PLANNED), list(REFUSED.items())
    if planned > 1:
        _print_sum()
    PLANNED.clear()
    REFUSED.clear()
    SHARED.clear()
    if refused and planned == 1:
        raise refused[0][1]
    if refused:
        folder, reason = refused[0]
        raise InputError(f"{len(refused)} of {planned} evolutions go over their budget, the first {folder}/: {reason}")


def _print_sum() -> None:
    console = results_console()
    hours = [planned.hours for planned in PLANNED if planned.hours is not None]
    known = f"{rounded(sum(hours))} GPU hours" if len(hours) == len(PLANNED) else "GPU hours unknown"
    bills = [planned.bill for planned in PLANNED]
    dollars = [bill.usd for bill in bills if bill.usd is not None]
    price = f", about ${rounded(sum(dollars))}" if len(dollars) == len(bills) and any(dollars) else ""
    console.print(f"all {len(PLANNED)} evolutions of the sweep", style="bold")
    console.print(
        f"{known}, {_size(sum(planned.disk for planned in PLANNED))} of disk, "
        f"{sum(bill.calls for bill in bills):,} calls of the judge{price}"
    )
    if SHARED:
        spared = f", {plain(sum(SHARED.values()))} in all" if any(SHARED.values()) else ""
        console.print(
            f"shared, and counted once: rows as tokens, and {len(SHARED)} foundation "
            f"embedding{'s' if len(SHARED) > 1 else ''}{spared}; all samplers of a seed share P_0, and so the time and "
            f"result of round 0's fit are the same, though each run makes it itself"
        )


def _model(workload: Workload, learner: Learner) -> str:
    shape = workload.shape
    trained = f"{shape.adapters:,} weights of adapters" if shape.adapters else "all"
    return (
        f"model {learner.foundation.path}: {shape.weights:,} weights, of which are trained: {trained}; weights of "
        f"{workload.numbers.weight} bytes, products of {workload.numbers.arithmetic}"
    )


def _rounds(workload: Workload, rounds: Sequence[Mapping[str, Cost]], rates: Rates | None) -> Table:
    """A line a round, and one of all."""
    groups = {"fit": "fit", "committee": "fit", "probe": "probe", "disagreement": "probe", "foundation": "foundation"}
    heads = ("fit", "probe", "foundation", "measure", "answer")

    def group(phase: str) -> str:
        return groups.get(phase.partition(" ")[0], phase.partition(" ")[0])

    def cells(name: str, rows: str, costs: Sequence[tuple[str, Cost]]) -> list[str]:
        by = {head: [cost for phase, cost in costs if group(phase) == head] for head in heads}
        tokens = [sum((cost.tokens for cost in by[head]), 0.0) for head in ("fit", "probe", "foundation", "measure")]
        seconds: dict[str, list[float | None]] = {
            head: [rates.seconds(cost) if rates else None for cost in by[head]] for head in heads
        }
        times = [plain(_sum(values)) if values and rates else "" for values in seconds.values()]
        every = [value for values in seconds.values() for value in values]
        return [
            name, rows, f"{tokens[0]:,.0f}", f"{sum(tokens[1:]):,.0f}",
            f"{sum(cost.operations for _, cost in costs) / 1e15:,.4g}", *times, plain(_sum(every)) if rates else "",
        ]  # fmt: skip

    lines = [cells(str(t), f"{workload.pool_rows(t):,}", list(costs.items())) for t, costs in enumerate(rounds)]
    lines.append(cells("all", "", [item for costs in rounds for item in costs.items()]))
    head = ("round", "rows", "trained tokens", "read tokens", "PFLOP", *heads, "together")
    notes = [] if rates else ["no times: give card=NAME for hours by a data sheet, or calibrate=true to measure here"]
    return Table("rounds", head, lines, notes)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _print_memory(
    console: Console, settings: Configuration, workload: Workload, learner: Learner, cards: int,
    card: tuple[str, Card] | None,
) -> None:  # fmt: skip
    sharded = cards > 1 and settings.value("trainer", dict).get("strategy") == "fsdp"
    batch_tokens = learner.embedding.tokens_on("cuda" if card else device_of(learner.start()).type)
    memory = workload.memory(batch_tokens, sharded)
    parts = list(dict.fromkeys(part for phase in memory.values() for part in phase))
    rows = [
        [part, *(f"{phase[part] / 1e9:,.2f}" if phase.get(part) else "" for phase in memory.values())] for part in parts
    ]
    rows = [row for row in rows if any(row[1:])]
    rows.append(["all", *(f"{total(phase) / 1e9:,.2f}" for phase in memory.values())])
    notes = ["at the highest moment of each phase; a micro-batch of which all tokens are learned"]
    if card is not None:
        notes += verdicts(workload, lambda changed: changed.memory(batch_tokens, sharded), card)
    title = "memory of each process, GB" + f", trainer.strategy={'fsdp' if sharded else 'ddp'}" * (cards > 1)
    console.print(as_text(Table(title, ("", *memory), rows, notes)))


def verdicts(
    workload: Workload, memory_of: Callable[[Workload], Mapping[str, Mapping[str, int]]], card: tuple[str, Card]
) -> list[str]:
    """Whether each phase fits the card, and what would make it fit."""
    name, usable, memory = card[0], card[1].usable, memory_of(workload)
    lacking = {phase: total(parts) - usable for phase, parts in memory.items() if total(parts) > usable}
    if not lacking:
        return [f"fits {name}: {usable / 1e9:,.1f} GB can be used of each"]
    sentences = []
    tuning, generation = workload.tuning, workload.generation
    cheaper: dict[str, dict[str, Any]] = {
        "tuning.gradient_checkpointing=true": {"tuning": dataclasses.replace(tuning, gradient_checkpointing=True)},
        "tuning.gradient_checkpointing=true tuning.micro_batch_tokens=512": {
            "tuning": dataclasses.replace(tuning, gradient_checkpointing=True, micro_batch_tokens=512)
        },
        **({} if isinstance(tuning, LoRA) else {
            "tuning.gradient_checkpointing=true tuning.moments=bfloat16": {
                "tuning": dataclasses.replace(tuning, gradient_checkpointing=True, moments="bfloat16")
            },
            "tuning.gradient_checkpointing=true tuning.rounding=stochastic model.dtype=bfloat16": {
                "tuning": dataclasses.replace(tuning, gradient_checkpointing=True, rounding="stochastic"),
                "numbers": Numbers(HALF, HALF),
            },
        }),
        **{
            f"generation.batch_size={size}": {"generation": dataclasses.replace(generation, batch_size=size)}
            for size in (20, 8, 4, 1) if size < generation.batch_size
        },
    }  # fmt: skip
    for phase, lack in lacking.items():
        remedy = next(
            (
                words for words, change in cheaper.items()
                if total(memory_of(dataclasses.replace(workload, **change))[phase]) <= usable
            ),
            None,
        )  # fmt: skip
        wider = "model.dtype=bfloat16 tuning=lora" if not isinstance(tuning, LoRA) else "model.dtype=bfloat16"
        say = f"it fits with {remedy}" if remedy else f"give {wider}, or a larger card"
        sentences.append(f"does not fit {name}: {phase} needs {lack / 1e9:,.1f} GB more than it has; {say}")
    return sentences


def _disk(settings: Configuration, workload: Workload, rows: int) -> dict[str, float]:
    """Bytes of what stays, and of what a round needs on its way."""
    kept = {"all": workload.schedule.rounds + 1, "last": 1, "none": 0}[settings.value("keep_models", str)]
    kept = max(kept, workload.needs.earlier)
    source = settings.value("keep_dtype") is not None
    model = bytes_kept(workload.shape, workload.tuning, 2 if source else workload.numbers.weight)
    embedding = rows * workload.shape.hidden * (2 if settings.value("embedding.dtype") == "float16" else 4)
    words = embedding // workload.shape.hidden * min(DIMENSIONS, rows) * (workload.needs.space == "text")
    current = embedding * (workload.needs.space == "current") + 4 * rows * len(workload.needs.statistics)
    return {
        f"{kept} models kept": kept * model,
        "one more while a round runs": model * (1 + workload.needs.committee),
        "two checkpoints of a fit, while it runs": 0
        if workload.tuning.checkpoint_minutes is None
        else (2 * bytes_of_checkpoint(workload.shape, workload.tuning, workload.numbers)),
        "what a probe says, while a round runs": current,
        "foundation embedding in the cache": 0 if workload.embedded else embedding,
        "space of the words in the cache": words,
        "tokens in the cache": 4 * workload.every.tokens,
    }


def _judging(exam: Exam, bill: Bill) -> str:
    if not bill.calls:
        return f"judging ({exam.judge.name}): no calls"
    price = f"about ${rounded(bill.usd)}" if bill.usd is not None else "of a price that is not known (judge.price=…)"
    if exam.judge.capabilities.costs is None:
        price = "of a model on this machine, whose time is not counted here"
    return f"judging ({exam.judge.name}): {bill.calls:,} calls at most, {price}"


def _time(rates: Rates | None, hours: float | None, cards: int, settings: Configuration) -> str:
    if rates is None or hours is None:
        return "time: not known"
    if rates.source == "calibration":
        return f"time: {plain(hours * 3600 / cards)}, by rates that were measured on this machine"
    shares = settings.value("efficiency", dict)
    card = card_here(settings)
    source = "" if card is None else f" ({card[1].source})"
    return (
        f"time: {plain(hours * 3600 / cards)}, {rounded(hours)} GPU hours, if {rates.source}{source} reach these "
        f"assumed shares of their peaks: {shares['fit']:.0%} in fits, {shares['embed']:.0%} in reading, "
        f"{shares['answer']:.0%} "
        f"of the memory's bandwidth in answers, where a layer takes {shares['layer_seconds'] * 1e3:g} ms at least "
        f"(efficiency.…); loading and writing models and judging are not counted"
    )


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
