"""The options of commands that belong to no group, checked as they are bound.

Nothing here imports a slow library, so that a wrong value is refused at once.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from typing import Literal

from diverseevol.cli.binding import bind
from diverseevol.cli.configuration import QUOTA_OPTIONS, Configuration
from diverseevol.data.columns import columns_of
from diverseevol.data.dataset import Dataset
from diverseevol.data.hub_names import DATA_ID
from diverseevol.engine.cards import Card, card_named
from diverseevol.errors import InputError, meant, not_installed
from diverseevol.evaluation.endpoints.server import PLACES, Server
from diverseevol.evolution.metrics import Metric
from diverseevol.evolution.metrics.base import description_of, needs_of
from diverseevol.export.targets import FORMATS
from diverseevol.options import LoRA, Plateau, Schedule, Tuning, check_strategy, rows_of
from diverseevol.runs.metrics import COSTS, POOL_SIZE, SCORES
from diverseevol.samplers.base import Needs, Sampler
from diverseevol.samplers.quota import Quota

MAX_THREADS = 1024  # more than any processor has cores for; far more of them end the process


@dataclass(frozen=True)
class EvolveOptions:
    """How an evolution is conducted; conf/evolve.yaml says what each option does."""

    seed: int
    threads: int | None
    keep_models: Literal["all", "last", "none"]
    keep_dtype: Literal["source"] | None
    reference_loss: bool
    projection: Literal["pca", "tsne"]
    verify_cache: bool

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        _check_threads(self.threads)


@dataclass(frozen=True)
class PlanOptions:
    """What `plan` adds to the options of an evolution; conf/plan.yaml says what each does."""

    cards: int
    calibrate: bool

    def __post_init__(self) -> None:
        if self.cards < 1:
            raise InputError(f"cards is {self.cards}; it must be at least 1")


@dataclass(frozen=True)
class SelectOptions:
    """What is chosen from, how many, and where the choice goes; conf/select.yaml says what each option does."""

    n: int | str
    out: str | None
    embeddings: str | None
    lengths: str | None
    taken: str | None
    space: Literal["text", "foundation"] | None
    seed: int
    cache: str | None
    threads: int | None
    replace: bool
    verify_cache: bool

    def __post_init__(self) -> None:
        if self.number(rows=1) < 1:
            raise InputError(f"n is {self.n}; it must be at least 1")
        _check_seed(self.seed)
        _check_threads(self.threads)

    def number(self, rows: int) -> int:
        """How many to choose, where so many can be trained on."""
        return rows_of("n", self.n, rows)


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, how and where to; conf/export.yaml says what each option does."""

    folder: str | None
    round: int | None
    picks: str | None
    format: str
    out: str
    replace: bool
    hub: str | None
    hub_private: bool
    cache: str | None

    def __post_init__(self) -> None:
        if (self.folder is None) == (self.picks is None):
            problem = "neither folder nor picks is" if self.folder is None else "both folder and picks are"
            raise InputError(f"{problem} given; give folder=RUN, a run folder, or picks=P.json, what select wrote")
        if self.round is not None and self.folder is None:
            raise InputError(f"round={self.round}: is of run folders, and picks={self.picks} has none; leave it out")
        if self.format not in FORMATS:
            raise InputError(f"format={self.format}: choose from {', '.join(FORMATS)}{meant(self.format, FORMATS)}")
        if self.hub is not None and not DATA_ID.fullmatch(self.hub):
            raise InputError(f"hub={self.hub}: expected USER/NAME, as on the Hugging Face hub; give both")


@dataclass(frozen=True)
class AnswerOptions:
    """Where answers go, what their sampling comes from, and whether the cache is read to the last byte."""

    out: str
    seed: int
    verify_cache: bool

    def __post_init__(self) -> None:
        _check_seed(self.seed)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")


def _check_threads(threads: int | None) -> None:
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise InputError(
            f"threads is {threads}; it must be at least 1 and at most {MAX_THREADS}, or null for all cores"
        )


# What a round logs beside its metrics.
OTHER_LOGGED_NAMES = {"round", *(description.name for description in (POOL_SIZE, *SCORES, *COSTS))}


def metrics_of(settings: Configuration) -> list[Metric]:
    """What is measured of each round.

    Raises:
        InputError: two metrics would write under one name, one is not what a metric is, or one is switched on and gone.
    """
    metrics: dict[str, Metric] = {}
    for node in settings.value("metric", dict):
        metric: Metric = settings.part(f"metric.{node}")
        name = description_of(metric).name
        if name in metrics or name in OTHER_LOGGED_NAMES:
            raise InputError(f"metric.{node}: there is another metric of the name {name}; give one of them another")
        metrics[name] = metric
    if settings.value("reference_loss", bool) and "reference_loss" not in metrics:
        raise InputError(
            "reference_loss=true: ~metric.reference_loss takes away what would be measured; leave out one of the two"
        )
    needs_of(list(metrics.values()))
    return list(metrics.values())


def schedule_of(settings: Configuration, eligible: int | None = None) -> Schedule:
    """How the pool grows.

    Args:
        settings: the configuration, in which shares of the rows become numbers once it is known of how many.
        eligible: rows that can be trained on; None where that is not known, and shares may stand for any number.

    Raises:
        InputError: a size is none, or all rows are asked for together with sizes, which would make other runs of it.
    """
    numbers: dict[str, int] = {}
    if settings.choices["schedule"] == "full":
        sizes = {f"schedule.{name}": value for name, value in settings.value("schedule", dict).items()}
        unused = [name for name, value in sizes.items() if value != {"schedule.seed_size": None}.get(name, 0)]
        if unused:
            means, pronoun = ("means", "it") if len(unused) == 1 else ("mean", "them")
            raise InputError(
                f"schedule=full trains on all rows at once, so that {' and '.join(unused)} {means} nothing; leave "
                f"{pronoun} out"
            )
    for name in ("seed_size", "step_size"):
        if isinstance(value := settings.value(f"schedule.{name}"), str):
            numbers[name] = rows_of(f"schedule.{name}", value, eligible or 1)
            if eligible is not None:
                settings.settle(f"schedule.{name}", numbers[name])
    return bind(Schedule, {**settings.value("schedule", dict), **numbers}, "schedule")


def sampler_of(settings: Configuration) -> Sampler:
    """What chooses rows, within quotas where `sampler.quota` says of what.

    Raises:
        InputError: an option is none.
    """
    node = settings.value("sampler", dict)
    quota = settings.value("sampler.quota", str | None)
    if quota is None and node.get("shares") is not None:
        raise InputError("sampler.shares is given without sampler.quota; give sampler.quota=source, or a field's name")
    sampler: Sampler = settings.part("sampler", without=QUOTA_OPTIONS)
    if quota is None:
        return sampler
    shares = node.get("shares") or "proportional"
    if isinstance(shares, dict):
        shares = {str(name): float(share) if isinstance(share, int) else share for name, share in shares.items()}
    return bind(Quota, {"sampler": sampler, "by": quota, "shares": shares}, "sampler")


def check_quota(sampler: Sampler, dataset: Dataset) -> None:
    """Check that the groups of a sampler's quotas are there, before anything is trained.

    Raises:
        InputError: the rows have no such field, or shares are given to groups that they have not.
    """
    if isinstance(sampler, Quota):
        try:
            labels = columns_of(dataset.iterate(), {sampler.by}, dataset.sources)[sampler.by]
        except InputError as error:
            sources = "source, or " if len(dataset.sources) > 1 else ""
            raise InputError(f"sampler.quota={sampler.by}: {error} (sampler.quota takes {sources}a field)") from error
        sampler.check(labels)


def tuning_of(settings: Configuration) -> Tuning:
    """How a pool is fine-tuned: by adapters where the choice has a rank.

    Raises:
        InputError: an option is none; or adapters are asked for, and the package that makes them is not installed, or
            the trainer would convert the weights that they share; or rounding is asked for that weights have no use of;
            or several processes cannot train so.
    """
    trainer = settings.value("trainer", dict)
    check_strategy(trainer.get("strategy", "ddp"), trainer.get("precision"))
    tuning = settings.options("tuning", LoRA if "rank" in settings.value("tuning", dict) else Tuning)
    precision = trainer.get("precision")
    if tuning.rounding == "stochastic" and precision != "bf16-true":
        dtype = settings.value("model", dict).get("dtype", "float32")
        if dtype != "bfloat16":
            raise InputError(
                f"tuning.rounding=stochastic is for weights in bfloat16, and this model's are in {dtype}; give "
                f"model.dtype=bfloat16, or leave it out"
            )
    if isinstance(tuning, LoRA):
        check_peft("tuning=lora")
        if isinstance(precision, str) and precision.endswith("-true") and precision != "32-true":
            raise InputError(
                f"trainer.precision={precision} converts the foundation weights, which adapters share and leave as "
                f"they are; give bf16-mixed or 16-mixed (trainer=bf16), or 32-true"
            )
    return tuning


def card_of(settings: Configuration) -> tuple[str, Card] | None:
    """The card that is named, or whose numbers are given; None where neither is.

    Raises:
        InputError: the table has no such card, or a number is none.
    """
    value = settings.value("card")
    if value is None:
        return None
    if isinstance(value, dict):
        if missing := [name for name in ("half", "float32", "memory", "bandwidth") if name not in value]:
            raise InputError(f"card.{missing[0]} is missing: give the number of its data sheet (conf/evolve.yaml)")
        return "your card", settings.options("card", Card)
    name = str(value)
    return name, card_named(name)


def answers_of(settings: Configuration) -> Server | None:
    """The server that answers in the model's place; None where the model itself does.

    Raises:
        InputError: an option cannot be, the key is missing, or there is no such program as the command's.
    """
    if not settings.value("answers", dict):
        return None
    server = settings.options("answers", Server)
    if server.command is not None:
        program = server.words(dict.fromkeys(PLACES, "x"))[0]
        if shutil.which(program) is None:
            raise InputError(f"answers.command: there is no program {program} here; install it, or correct the command")
    return server


def stop_of(settings: Configuration) -> Plateau | None:
    """When an evolution ends before its last round; None: it does not."""
    return None if settings.choices["stop"] == "None" else settings.options("stop", Plateau)


def check_peft(use: str) -> None:
    """Look whether the package that makes adapters is installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("peft") is None:
        raise not_installed(use, "lora")


def has_model(settings: Configuration, needs: Needs, asked: str) -> bool:
    """Whether a model is given.

    Args:
        settings: the configuration.
        needs: what the sampler asks for.
        asked: what the user gave for rows to be compared in the foundation model's space; "" leaves it open.

    Raises:
        InputError: it is not, and what is asked for needs it.
    """
    try:
        settings.value("model")
    except InputError as error:
        if needs.space != "none" and asked:
            instead = asked.replace("foundation", "text")
            raise InputError(f"{asked} is a model's; {error}, or give {instead}") from error
        if not needs.statistics and not needs.lengths:
            return False
        reason = "a model's predictions"
        if not needs.statistics:
            reason = "the lengths of the responses in tokens, so it needs a model's tokeniser"
        raise InputError(f"sampler={settings.choices['sampler']} chooses by {reason}; {error}") from error
    return True
