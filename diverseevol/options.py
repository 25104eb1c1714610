"""The options of an evolution, checked as they are made; nothing here imports what takes seconds, so that is early."""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from diverseevol.errors import InputError, shown

WEIGHTS = ("float32", "bfloat16", "float16")  # how a model's weights are held
RateSchedule = Literal[
    "cosine", "linear", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
]

SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


def rows_of(option: str, value: int | str, rows: int) -> int:
    """How many rows a number says, or a share such as "10%" of all rows that can be trained on.

    Args:
        option: what the user sets, for the message.
        value: a number, or a share; rounded, and at least one row.
        rows: of which it is a share.

    Raises:
        InputError: it is neither.
    """
    if isinstance(value, int):
        return value
    if (share := SHARE.fullmatch(value)) is None:
        raise InputError(
            f"{option} is {shown(value)}, which is not a whole number of rows or a share of them such as 10%"
        )
    percent = Fraction(share[1])
    if not 0 < percent <= 100:
        raise InputError(f"{option} is {value}; a share of the rows is more than 0% and at most 100%")
    return max(1, int(percent * rows / 100 + Fraction(1, 2)))


@dataclass(frozen=True)
class Schedule:
    """How the pool grows: round 0 trains on `seed_size` random rows, and each of `rounds` adds `step_size`.

    Attributes:
        rounds: T, the number of selections; T + 1 models are trained.
        seed_size: rows of P_0; None takes every eligible row (the upper baseline, without selections).
        step_size: rows of each S_t.
    """

    rounds: int = 10
    seed_size: int | None = 100
    step_size: int = 100

    def __post_init__(self) -> None:
        for name, least in (("rounds", 0), ("seed_size", 1), ("step_size", 0 if self.rounds == 0 else 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"schedule.{name} is {value}; it must be at least {least}")
        if self.seed_size is None and self.rounds > 0:
            raise InputError(
                "schedule.seed_size is null (all rows), which leaves none to choose; set schedule.rounds to 0"
            )

    def fits(self, eligible: int, why: str = "") -> None:
        """Check that there are rows enough.

        Args:
            eligible: how many can be trained on.
            why: why others cannot be, with their numbers.

        Raises:
            InputError: the schedule asks for more rows than can be trained on.
        """
        wanted = (self.seed_size or 0) + self.rounds * self.step_size
        if wanted > eligible or eligible == 0:
            reason, change = (f" ({why})", "change that, ") if why else ("", "")
            raise InputError(
                f"the schedule needs {wanted:,} rows ({self.seed_size or 0:,} + {self.rounds} × {self.step_size:,}) "
                f"but {eligible:,} can be trained on{reason}; {change}lower schedule.rounds, schedule.seed_size or "
                f"schedule.step_size, or bring more rows"
            )


@dataclass(frozen=True)
class Plateau:
    """When an evolution ends before its last round: once no further round has brought a gain that counts.

    Attributes:
        metric: the curve that decides, by logged name, such as relative_score/vicuna; None for the relative scores, or,
            where nothing is judged, coverage radius and Vendi-Score: of several the one that paid longest.
        patience: rounds without a gain before the evolution ends.
        least_gain: the share of what the curve gained a row on average that a gain has to be to count.
    """

    metric: str | None = None
    patience: int = 2
    least_gain: float = 0.25

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise InputError(f"stop.patience is {self.patience}; it must be at least 1")
        if not 0 <= self.least_gain <= 1:
            raise InputError(f"stop.least_gain is {self.least_gain}; it is a share, from 0 to 1")


@dataclass(frozen=True)
class PromptOptions:
    """How rows become prompts.

    Attributes:
        template: "alpaca" (the paper's), or "chat": the tokeniser's own chat template.
        max_length: tokens of a row, prompt and response together; what is beyond is cut (the paper: 512).
        system: a system message for the chat template; the Alpaca template has none.
        chat_template: the name of the chat template, for tokenisers that have several.
        date: the day, YYYY-MM-DD, given to chat templates that write the current date.
        control_tokens: what the text of a control token, such as "</s>", is where the data hold it: "as_text", text
            like any other, or "as_tokens", the token itself, for data that are meant to hold control tokens.
        changed_response: what to do with a row of which the chat template leaves part of the response out: "refuse",
            or "keep" what is left.
        conversations: what rows that are not one exchange take where the template is "alpaca": "chat", the tokeniser's
            chat template where it has one, or "alpaca".
        learn: of such rows, "all" turns of the assistant, or the "last".
    """

    template: Literal["alpaca", "chat"] = "alpaca"
    max_length: int = 512
    system: str | None = None
    chat_template: str | None = None
    date: str = "2026-01-01"
    control_tokens: Literal["as_text", "as_tokens"] = "as_text"
    changed_response: Literal["refuse", "keep"] = "refuse"
    conversations: Literal["chat", "alpaca"] = "chat"
    learn: Literal["all", "last"] = "all"

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise InputError(f"prompt.max_length is {self.max_length}; it must be at least 2 tokens")
        if self.template == "alpaca":
            for name, lack in (("system", "no system message"), ("chat_template", "no other versions")):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"prompt.{name} is set but the Alpaca template has {lack}; use prompt.template=chat"
                    )
        elif self.conversations == "alpaca":
            raise InputError(
                "prompt.conversations is alpaca but prompt.template is chat; leave one of the two out: conversations "
                "and rows of one exchange then take the same template"
            )
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise InputError(f"prompt.date is {self.date!r}; give a day as YYYY-MM-DD") from error


@dataclass(frozen=True)
class Embedding:
    """How rows become vectors.

    Attributes:
        region: the tokens whose hidden states are averaged: "all" (template, prompt, response and end token: the
            paper's), "response", or "instruction" (everything before the response).
        batch_tokens: tokens of one forward pass, padding included; None: as many as suit the device.
        dtype: how vectors are stored; means are always taken in float32.
    """

    region: Literal["all", "response", "instruction"] = "all"
    batch_tokens: int | None = None
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise InputError(f"embedding.batch_tokens is {self.batch_tokens}; it must be above 0")

    def tokens_on(self, kind: str) -> int:
        """Tokens of one forward pass: those asked for, or 1,024 on a processor, whose cache it fits, else 2,048."""
        return self.batch_tokens or (1024 if kind == "cpu" else 2048)


@dataclass(frozen=True)
class Tuning:
    """How a pool is fine-tuned.

    Attributes:
        learning_rate: the peak of the schedule.
        epochs: passes over the pool.
        steps: a fixed number of optimizer steps instead of epochs, so that larger pools get no more training.
        batch_size: rows of one optimizer step, over all processes and accumulation.
        micro_batch_tokens: tokens that one forward pass holds, padding included; memory, not results, depends on it.
        packing: rows lie one after another in one sequence, without padding, and see nothing of each other; the same
            results up to rounding.
        schedule: the learning-rate schedule, by transformers' name; those that need no further numbers.
        warmup_ratio: share of the steps in which the rate rises from 0, rounded up to whole steps.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm; 0 turns clipping off.
        gradient_checkpointing: recompute activations in the backward pass: less memory, more time.
        moments: the precision of AdamW's two moments; None for that of the weights.
        rounding: how weights in bfloat16 take up what a step adds: "nearest", which loses most of it, or "stochastic".
        checkpoint_minutes: after so many minutes of a fit its state is written, from which it goes on after it was
            cut; None writes none.
        compile: layers are compiled by torch for the time of a fit; the same results up to rounding.
    """

    learning_rate: float = 2e-5
    epochs: int = 3
    steps: int | None = None
    batch_size: int = 64
    micro_batch_tokens: int = 4096
    packing: bool = False
    schedule: RateSchedule = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    moments: Literal["float32", "bfloat16"] | None = None
    rounding: Literal["nearest", "stochastic"] = "nearest"
    checkpoint_minutes: float | None = None
    compile: bool = False

    KEPT: ClassVar[str] = "model"  # what a round's folder keeps

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs", "batch_size", "micro_batch_tokens", "steps", "checkpoint_minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"tuning.{name} is {getattr(self, name)}; it must be above 0")
        for name in ("weight_decay", "max_grad_norm"):
            if not getattr(self, name) >= 0:
                raise InputError(f"tuning.{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.warmup_ratio <= 1:
            raise InputError(f"tuning.warmup_ratio is {self.warmup_ratio}; it is a share of the steps, from 0 to 1")


@dataclass(frozen=True)
class LoRA(Tuning):
    """How a pool is fine-tuned by low-rank adapters (Hu et al. 2021), while the foundation weights stay.

    Attributes:
        rank: of an adapter's two matrices.
        alpha: what an adapter adds is multiplied by alpha / rank.
        dropout: share of an adapter's inputs that training leaves out.
        target_modules: names of the linear layers that get an adapter; "all-linear" is all but the head.
    """

    learning_rate: float = 2e-4
    rank: int = 32
    alpha: int = 32
    dropout: float = 0.0
    target_modules: Literal["all-linear"] | Sequence[str] = "all-linear"

    KEPT: ClassVar[str] = "adapter"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moments is not None or self.rounding != "nearest":
            name = "moments" if self.moments is not None else "rounding"
            raise InputError(
                f"tuning.{name} is {getattr(self, name)}, which is for tuning=full: adapters are small, and trained in "
                f"float32; leave it out"
            )
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise InputError(f"tuning.{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"tuning.dropout is {self.dropout}; it must be at least 0 and below 1")
        if not self.target_modules:
            raise InputError("tuning.target_modules is empty; give names of layers, or all-linear")
        if isinstance(self.target_modules, str) and self.target_modules != "all-linear":
            raise InputError(
                f"tuning.target_modules is {shown(self.target_modules)}; give a list of names of layers, or all-linear"
            )


def check_strategy(strategy: object, precision: object) -> None:
    """Check how several processes train one model: `trainer.strategy` beside `trainer.precision`.

    Raises:
        InputError: there is no such strategy, or it does not go with the precision.
    """
    if strategy not in ("ddp", "fsdp"):
        raise InputError(f"trainer.strategy is {shown(strategy)}; choose ddp or fsdp")
    if strategy == "fsdp" and precision == "16-mixed":
        raise InputError(
            "trainer.strategy=fsdp does not go with trainer.precision=16-mixed; give bf16-mixed (trainer=bf16) or "
            "32-true, or trainer.strategy=ddp"
        )


@dataclass(frozen=True)
class Generation:
    """How questions are answered.

    Attributes:
        max_new_tokens: an answer's greatest length (the paper: 1,024).
        temperature: of the sampling (the paper: 0.7); 0 is greedy.
        batch_size: questions answered together; speed, not answers, depends on it.
        continuous: transformers' continuous batching on CUDA, in place of batches; greedy answers only.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.7
    batch_size: int = 40
    continuous: bool = False

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"generation.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.temperature >= 0:
            raise InputError(f"generation.temperature is {self.temperature}; it must not be negative (0 is greedy)")
        if self.continuous and self.temperature > 0:
            raise InputError(
                f"generation.continuous=true answers greedily, for it cannot give each question a seed of its own, and "
                f"generation.temperature is {self.temperature}; give generation.temperature=0 or "
                f"generation.continuous=false"
            )


@dataclass(frozen=True)
class Efficiency:
    """The shares of a card's peaks that are assumed to be reached; `plan` states them beside its hours.

    Attributes:
        fit: of the peak of products, while training.
        embed: of the peak of products, while reading.
        answer: of the memory's bandwidth, while answering.
        layer_seconds: what a layer takes at least for the next token of a batch of answers, however small it is: its
            operations are sent to the GPU one by one.
    """

    fit: float = 0.4
    embed: float = 0.5
    answer: float = 0.5
    layer_seconds: float = 0.0005

    def __post_init__(self) -> None:
        for name in ("fit", "embed", "answer"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(
                    f"efficiency.{name} is {getattr(self, name)}; give a share of the card's peak, above 0 and up to 1"
                )
        if self.layer_seconds < 0:
            raise InputError(f"efficiency.layer_seconds is {self.layer_seconds}; it must not be negative")


@dataclass(frozen=True)
class Budget:
    """What an evolution may take; one that would take more by its plan does not start.

    Attributes:
        gpu_hours: hours of all GPUs together; None is no limit.
        usd: US dollars for judging, and for the GPUs where their price is given; None is no limit.
        usd_per_hour: what a GPU costs in an hour; None leaves the GPUs out of the dollars.
    """

    gpu_hours: float | None = None
    usd: float | None = None
    usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        for name in ("gpu_hours", "usd", "usd_per_hour"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"budget.{name} is {value}; it must not be negative, and null is no limit")
