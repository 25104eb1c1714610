"""`diverseevol evolve`: from a configuration to an evolution, and what a reader wants to see at its end."""

import functools
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import transformers
from platformdirs import user_cache_dir
from rich.console import Console
from rich.logging import RichHandler

from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam
from diverseevol.evolution import Evolution, Schedule, evolve
from diverseevol.files import atomic_write, write_jsonl
from diverseevol.foundation import Pretrained
from diverseevol.generation import Generation
from diverseevol.learner import Learner
from diverseevol.measures import pca_map
from diverseevol.modules.probe import Embedding
from diverseevol.modules.sft import Tuning
from diverseevol.processes import Processes, join, leave
from diverseevol.progress import Progress, Shown, Silent
from diverseevol.prompt import Encoded, Prompt, PromptOptions, encode
from diverseevol.report.summary import show
from diverseevol.runs import Round, RunFolder, provenance
from diverseevol.source import Source

T = TypeVar("T")

# What decides the picks, and so names the folder; `rounds` may grow, and paths only say where the content lies.
PICKS = ("data", "model", "prompt", "tuning", "embedding", "sampler", "schedule", "trainer")
GROUPS = ("data", "model", "sampler", "schedule")
NOT_PICKS = (
    "data.path",
    "data.name",
    "data.on_bad_rows",
    "model.path",
    "schedule.rounds",
    "trainer.accelerator",
)
MEMORY_ONLY = ("tuning.micro_batch_tokens", "tuning.gradient_checkpointing", "embedding.batch_tokens")


class Settings(Protocol):
    """What a command needs of the configuration (see `diverseevol.cli.Configuration`)."""

    choices: Mapping[str, str]

    def value(self, key: str) -> Any: ...
    def options(self, key: str, kind: type[T]) -> T: ...
    def part(self, key: str, **further: Any) -> Any: ...
    def text(self) -> str: ...
    def differs_from_default(self, keys: Any, groups: Any) -> dict[str, Any]: ...


def run(settings: Settings) -> None:
    """Run the evolution that the configuration describes, or what is missing of it."""
    processes = join()
    try:
        console = Console(stderr=True, quiet=not processes.first)
        quieten(console)
        if settings.value("threads") is not None:
            torch.set_num_threads(settings.value("threads"))
        with _locked(settings, processes) as folder:
            _run(settings, folder, processes, console)
    finally:
        leave(processes)


def _run(settings: Settings, path: Path, processes: Processes, console: Console) -> None:
    progress: Progress = Shown(console) if processes.first else Silent()
    cache = cache_folder(settings.value("cache"))
    schedule, tuning = settings.options("schedule", Schedule), settings.options("tuning", Tuning)
    embedding, generation = (
        settings.options("embedding", Embedding),
        settings.options("generation", Generation),
    )
    prompt_options = settings.options("prompt", PromptOptions)
    sampler, tracker, judge = settings.part("sampler"), settings.part("logger"), settings.part("judge")
    benchmarks = settings.part("benchmark", cache=cache)
    trainer = settings.part("trainer")
    keep_models = settings.value("keep_models")
    if keep_models not in ("all", "last", "none"):
        raise InputError(f"keep_models is {keep_models!r}; choose all, last or none")
    source, foundation, prompt, encoded = load(settings, prompt_options, cache, path, progress)
    learner = Learner(foundation, prompt, encoded, tuning, embedding, trainer, processes, progress)
    schedule.fits(int(np.asarray(encoded.eligible).sum()))
    fingerprint = _fingerprint(settings, source, learner)
    folder = RunFolder(path, fingerprint)
    if processes.first:
        folder.claim(settings.text())
        _list_ineligible(path, source, encoded)
    space_key = hashlib.sha256(
        json.dumps([fingerprint[key] for key in ("data", "model", "prompt", "embedding", "precision")]).encode()
    )

    @functools.cache
    def space() -> np.ndarray:
        return learner.foundation_embedding(cache / "foundation" / space_key.hexdigest()[:32])

    evolution = Evolution(
        source=source, learner=learner, sampler=sampler, schedule=schedule, run=folder, space=space,
        seed=settings.value("seed"), exam=Exam(benchmarks, judge, generation), tracker=tracker,
        config={"config": json.loads(json.dumps(_plain(settings), default=str)), **provenance(), "threads": torch.get_num_threads()},
        keep_models=keep_models, on_round=functools.partial(_announce, console, schedule),
    )  # fmt: skip
    _greet(console, settings, path, source, encoded, schedule)
    if isinstance(progress, Shown):
        progress.heading = ""
    rounds = evolve(evolution)
    if processes.first:
        if not (path / "map.npy").exists():
            with atomic_write(path / "map.npy", "wb") as file:
                np.save(file, pca_map(space()))
        show(path, rounds, console, judge.label)


def load(
    settings: Settings, options: PromptOptions, cache: Path, path: Path, progress: Progress
) -> tuple[Source, Pretrained, Prompt, Encoded]:
    """The rows, the foundation model, the prompt that joins them, and the rows as tokens."""
    source: Source = settings.part("data", cache=cache, bad_rows_file=path / "bad_rows.jsonl")
    foundation: Pretrained = settings.part("model").prepare(source, cache)
    prompt = Prompt(foundation.tokenizer(), options)
    with progress.track("tokenise", len(source)) as advance:
        encoded = encode(source, prompt, cache, advance)
    return source, foundation, prompt, encoded


def cache_folder(configured: str | None) -> Path:
    """Where parsed data, tokens and foundation embeddings are kept between runs."""
    return Path(configured or os.environ.get("DIVERSEEVOL_CACHE") or user_cache_dir("diverseevol")).expanduser()


def quieten(console: Console) -> None:
    """Leave the console to the project: libraries speak only when something is wrong."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False)],
        force=True,
    )
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).propagate = False
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*csr_matrix.*", category=DeprecationWarning)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@contextmanager
def _locked(settings: Settings, processes: Processes) -> Iterator[Path]:
    """The run folder, held by the first process for all of them."""
    path = run_path(settings)
    if processes.first:
        with RunFolder(path, {}).locked():
            yield path
    else:
        yield path


def run_path(settings: Settings) -> Path:
    """`folder`, or a path that names the choices: `<data>/<model>/<sampler>-<schedule>[-<hash>]/seed<k>`.

    The hash stands for all other settings that change the picks, where they differ from the choices' own.
    """
    if settings.value("folder") is not None:
        return Path(settings.value("folder"))
    data, model = (_name(settings, group) for group in ("data", "model"))
    name = f"{settings.choices['sampler']}-{settings.choices['schedule']}"
    others = settings.differs_from_default(PICKS, GROUPS)
    others = {key: value for key, value in others.items() if key not in (*NOT_PICKS, *MEMORY_ONLY)}
    if others:
        name += "-" + hashlib.sha256(json.dumps(others, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return Path(settings.value("outputs")) / data / model / name / f"seed{settings.value('seed')}"


def _name(settings: Settings, group: str) -> str:
    node, choice = settings.value(group), settings.choices[group]
    if node.get("name") and node["name"] != choice:
        return str(node["name"])
    if choice in ("json", "hf", "parquet", "hub") and node.get("path"):
        return Path(str(node["path"])).stem
    return choice


def _fingerprint(settings: Settings, source: Source, learner: Learner) -> dict[str, Any]:
    """What a resume must match: all that changes picks, key by key."""
    fingerprint: dict[str, Any] = {
        "data": source.fingerprint,
        "eligible": hashlib.sha256(np.packbits(learner.encoded.eligible).tobytes()).hexdigest(),
        "model": learner.foundation.identity(),
        "prompt": learner.prompt.identity,
        "seed": settings.value("seed"),
        "precision": str(settings.value("trainer").get("precision")),
        "embedding": {
            key: value for key, value in settings.value("embedding").items() if f"embedding.{key}" not in MEMORY_ONLY
        },
    }
    for key in ("sampler", "tuning", "schedule"):
        for name, value in settings.value(key).items():
            if f"{key}.{name}" not in (*NOT_PICKS, *MEMORY_ONLY):
                fingerprint[f"{key}.{name.strip('_')}"] = value
    return fingerprint


def _plain(settings: Settings) -> dict[str, Any]:
    keys = (
        "seed",
        "data",
        "model",
        "prompt",
        "tuning",
        "embedding",
        "sampler",
        "schedule",
        "trainer",
        "benchmark",
        "judge",
        "generation",
    )
    return {"choices": dict(settings.choices), **{key: settings.value(key) for key in keys}}


def _list_ineligible(path: Path, source: Source, encoded: Encoded) -> None:
    rows = np.flatnonzero(~np.asarray(encoded.eligible))
    if len(rows):
        reason = "no response token is left within prompt.max_length"
        write_jsonl(
            path / "ineligible.jsonl",
            ({"row": int(row), "reason": reason, "tokens": int(encoded.lengths[row])} for row in rows),
        )


def _greet(
    console: Console, settings: Settings, path: Path, source: Source, encoded: Encoded, schedule: Schedule
) -> None:
    eligible = int(np.asarray(encoded.eligible).sum())
    left_out = f", {len(source) - eligible:,} left out (ineligible.jsonl)" if eligible < len(source) else ""
    console.print(
        f"[bold]{source.name}[/bold]: {len(source):,} rows{left_out} · {settings.choices['sampler']}, "
        f"{schedule.seed_size if schedule.seed_size is not None else eligible} + {schedule.rounds} × {schedule.step_size} rows · "
        f"seed {settings.value('seed')}\nwrites {path}/", highlight=False,
    )  # fmt: skip


def _announce(console: Console, schedule: Schedule, done: Round, fresh: bool) -> None:
    metrics = done.metrics
    took = f"{sum(done.seconds.values()):.1f} s" if fresh else "there already"
    console.print(
        f"round {done.index}/{schedule.rounds}: {metrics['pool_size']:,.0f} rows, loss {metrics['train_loss']:.3f}, "
        f"Vendi {metrics['vendi_score']:.2f}, radius {metrics['coverage_radius']:.2f} ({took})", highlight=False,
    )  # fmt: skip
