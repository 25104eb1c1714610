"""What an evolution will take, before it runs and beside what it took: the work of each phase, in seconds at some rate.

The work is exact as far as it is known: the rows of P_0 are drawn as the evolution draws them, and the rows that join
later are taken to be like the average one that may join. Padding adds a few per cent. An answer is taken to reach its
greatest length, so that answers take at most what is said.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Int

from diverseevol.data.tokens import Tokens
from diverseevol.engine import arithmetic
from diverseevol.engine.arithmetic import Amount, Numbers, Shape
from diverseevol.engine.cards import Card
from diverseevol.options import Efficiency, Generation, Schedule, Tuning
from diverseevol.runs.round_folder import Prediction, Round
from diverseevol.samplers.base import Needs

Kind = Literal["fit", "read", "answer"]


@dataclass(frozen=True)
class Cost:
    """The work of one phase.

    Attributes:
        kind: whether a model is trained, reads text, or answers.
        tokens: that pass through the model.
        operations: of matrix products.
        read: bytes that are read from memory, where these count: in answers.
        layers: how often a layer of each device makes the next token of a batch of answers.
    """

    kind: Kind
    tokens: float
    operations: float
    read: float = 0.0
    layers: float = 0.0


@dataclass(frozen=True)
class Rates:
    """How fast work is done, by all devices together; None where that is not known.

    Attributes:
        source: where it is known from.
        fit: operations a second while training.
        read: operations a second while reading.
        bandwidth: bytes a second while answering.
        answer: operations a second while answering; None where memory is the limit.
        layer: seconds that a layer takes at least for the next token of a batch of answers.
        startup: seconds that a fit takes before its first step and after its last.
    """

    source: str
    fit: float | None = None
    read: float | None = None
    bandwidth: float | None = None
    answer: float | None = None
    layer: float = 0.0
    startup: float = 0.0

    def seconds(self, cost: Cost) -> float | None:
        """How long some work takes; None where nobody knows."""
        if cost.kind == "answer":
            if self.bandwidth is None:
                return None
            computing = 0.0 if self.answer is None else cost.operations / self.answer
            return max(cost.read / self.bandwidth, computing, cost.layers * self.layer)
        rate = self.fit if cost.kind == "fit" else self.read
        startup = self.startup if cost.kind == "fit" else 0.0
        return None if rate is None else startup + cost.operations / rate

    @classmethod
    def of_card(cls, name: str, card: Card, count: int, numbers: Numbers, efficiency: Efficiency) -> "Rates":
        """What cards reach, if they reach these shares of their peaks."""
        peak = count * card.peak(numbers.arithmetic)
        return cls(
            f"{count} × {name}", fit=peak * efficiency.fit, read=peak * efficiency.embed,
            bandwidth=count * 1e9 * card.bandwidth * efficiency.answer, answer=peak * efficiency.embed,
            layer=efficiency.layer_seconds,
        )  # fmt: skip

    @classmethod
    def observed(cls, source: str, costs: Mapping[str, Cost], seconds: Mapping[str, float]) -> "Rates":
        """What a round reached, phase by phase; None for what it did not do."""

        def rate(kind: Kind, unit: str) -> float | None:
            phases = [name for name, cost in costs.items() if cost.kind == kind and seconds.get(name)]
            took = sum(seconds[name] for name in phases)
            return sum(getattr(costs[name], unit) for name in phases) / took if took else None

        return cls(source, rate("fit", "operations"), rate("read", "operations"), rate("answer", "read"))


@dataclass(frozen=True)
class Asked:
    """A benchmark: how many questions, and the tokens of their prompts on average and at most."""

    name: str
    questions: int
    prompt_tokens: float
    longest: int


@dataclass(frozen=True)
class Workload:
    """Everything that the work of an evolution depends on.

    Attributes:
        shape: the model's, with adapters where these are trained.
        numbers: how weights are held, and multiplied.
        tuning: how a pool is fine-tuned.
        schedule: how the pool grows.
        every: all rows, without logits.
        eligible: those that can be trained on.
        rows: how many these are.
        needs: what the sampler needs.
        measured: what metrics need.
        held_out: rows that are never trained on.
        references: the benchmarks' references, where a loss is measured on them.
        asked: the benchmarks.
        generation: how they are answered.
        embedded: whether the foundation model's embedding is in the cache.
        processes: how many there are, a device each; each answers its share of the questions.
    """

    shape: Shape
    numbers: Numbers
    tuning: Tuning
    schedule: Schedule
    every: Amount
    eligible: Amount
    rows: int
    needs: Needs = field(default_factory=Needs)
    measured: frozenset[str] = frozenset()
    held_out: Amount = field(default_factory=Amount)
    references: Amount = field(default_factory=Amount)
    asked: Sequence[Asked] = ()
    generation: Generation = field(default_factory=Generation)
    embedded: bool = False
    processes: int = 1

    def pool_rows(self, t: int) -> int:
        """Rows of P_t."""
        size = self.schedule.seed_size
        return self.rows if size is None else size + t * self.schedule.step_size

    def costs(self, t: int, pool: Amount, rows: int) -> dict[str, Cost]:
        """The work of round t, by the phases' names in `round.json`.

        Args:
            t: the round.
            pool: the rows that it trains on.
            rows: how many these are.
        """
        trained = pool * self.passes(rows)
        costs = {"fit": self._fit(trained)}
        last = t == self.schedule.rounds
        members = self._members(t)
        for m in range(1, (0 if last else self.needs.committee) + 1):
            costs[f"committee {m}"] = self._fit(trained)
        embeds, statistics = self.needs.space == "current", bool(self.needs.statistics)
        if members:
            costs["disagreement"] = self._read(self.eligible * (1 + members))
        if not last and (embeds or (statistics and not members)):
            logits = self.eligible.logits if statistics else 0
            costs["probe"] = self._read(dataclasses.replace(self.eligible, logits=logits))
        if t == 0 and not self.embedded:
            costs["foundation"] = self._read(self.every)
        measured = Amount()
        if "current_embedding" in self.measured and (last or not embeds):
            measured += dataclasses.replace(pool, logits=0)
        if "held_out_loss" in self.measured:
            measured += self.held_out
        if "reference_loss" in self.measured:
            measured += self.references
        if measured.tokens:
            costs["measure"] = self._read(measured)
        return {**costs, **{f"answer {asked.name}": self._answer(asked) for asked in self.asked}}

    def passes(self, rows: int) -> float:
        """How often a fit sees each of so many rows; with a fixed number of steps, on average."""
        tuning = self.tuning
        if tuning.steps is None or not rows:
            return tuning.epochs
        batches = math.ceil(rows / tuning.batch_size)
        epochs, rest = divmod(tuning.steps, batches)
        return epochs + min(rows, rest * tuning.batch_size) / rows

    def rounds(self, first: Amount) -> list[dict[str, Cost]]:
        """The work of all rounds.

        Args:
            first: the rows of P_0.
        """
        row = self.eligible * (1 / self.rows)
        steps = [row * (t * self.schedule.step_size) for t in range(self.schedule.rounds + 1)]
        return [self.costs(t, first + joined, self.pool_rows(t)) for t, joined in enumerate(steps)]

    def memory(self, batch_tokens: int, sharded: bool = False) -> dict[str, dict[str, int]]:
        """Bytes on each device by phase and part.

        Args:
            batch_tokens: tokens of one forward pass of a probe.
            sharded: whether each process holds a part of the weights in a fit.
        """
        shape, numbers = self.shape, self.numbers
        loss = bool(self.needs.statistics) or bool(self.measured & {"held_out_loss", "reference_loss"})
        memory = {
            "fit": arithmetic.memory_of_fit(shape, self.tuning, numbers, self.processes, sharded),
            "probe": arithmetic.memory_of_probe(
                shape, batch_tokens, numbers, loss, self._members(self.schedule.rounds - 1)
            ),
        }
        if self.asked:
            longest = max(asked.longest for asked in self.asked)
            share = math.ceil(max(asked.questions for asked in self.asked) / self.processes)
            memory["answer"] = arithmetic.memory_of_answers(shape, self.generation, numbers, longest, share)
        return memory

    def _members(self, t: int) -> int:
        """Members of round t's committee beside its own model."""
        if not 0 <= t < self.schedule.rounds:
            return 0
        return self.needs.committee + min(t, self.needs.earlier)

    def _fit(self, trained: Amount) -> Cost:
        operations = arithmetic.fit(self.shape, trained, self.tuning.gradient_checkpointing)
        return Cost("fit", trained.tokens, operations)

    def _read(self, amount: Amount) -> Cost:
        return Cost("read", amount.tokens, arithmetic.forward(self.shape, amount))

    def _answer(self, asked: Asked) -> Cost:
        amount = arithmetic.amount_of_answers(self.generation, asked.prompt_tokens, asked.questions)
        share = math.ceil(asked.questions / self.processes)  # the others wait for who has most
        read = self.processes * arithmetic.bytes_of_answers(
            self.shape, self.generation, self.numbers, asked.prompt_tokens, share
        )
        batches = math.ceil(share / self.generation.batch_size)
        layers = batches * self.generation.max_new_tokens * self.shape.layers
        return Cost("answer", amount.tokens, arithmetic.forward(self.shape, amount), read, layers)


class Forecast:
    """Says of each round how long its phases will take, at rates that are known, or at those of the round before it."""

    def __init__(self, workload: Workload, rates: Rates | None, encoded: Tokens) -> None:
        self.workload = workload
        self.rates = rates
        self._lengths = np.asarray(encoded.lengths)
        self._response_tokens = np.asarray(encoded.response_tokens)
        self._last: Rates | None = None

    def amount(self, pool: Int[np.ndarray, " pool"]) -> Amount:
        """What a pool holds."""
        return Amount.of(self._lengths[pool], self._response_tokens[pool])

    def predict(self, t: int, pool: Int[np.ndarray, " pool"]) -> Prediction | None:
        """How long each phase of round t will take; None where no rate is known."""
        rates = self.rates or self._last
        if rates is None:
            return None
        costs = self.workload.costs(t, self.amount(pool), len(pool))
        seconds = {phase: rates.seconds(cost) for phase, cost in costs.items()}
        known = {phase: round(value, 3) for phase, value in seconds.items() if value is not None}
        return Prediction(rates.source, known) if known else None

    def observe(self, done: Round) -> None:
        """Learn from a round how fast its phases were, for the next one."""
        costs = self.workload.costs(done.index, self.amount(np.asarray(done.trained_on)), len(done.trained_on))
        self._last = Rates.observed(f"round {done.index}", costs, done.seconds)
