"""`diverseevol evolve`: from a configuration to an evolution, and what a reader wants to see at its end."""

import dataclasses
import functools
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers

from diverseevol.cli.checked_options import EvolveOptions, metrics_of, schedule_of
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.fingerprint import fingerprint, space_key
from diverseevol.cli.left_out_rows import left_out, why_ineligible
from diverseevol.cli.naming import arm, run_path
from diverseevol.cli.provenance import keep, kept, logged_config
from diverseevol.cli.rows import bad_rows_file, load_dataset
from diverseevol.data.dataset import Dataset
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import Tokens, encode
from diverseevol.engine.launch import join
from diverseevol.engine.learner import Learner
from diverseevol.engine.trainers import validated
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam, keep_questions, unexamined
from diverseevol.evaluation.judges.base import watch
from diverseevol.evaluation.questions.benchmarks import check_references
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics.base import description_of, needs_of
from diverseevol.evolution.setup import Evolution
from diverseevol.geometry.projections import PCA, PROJECTIONS, map_name
from diverseevol.options import Embedding, Generation, PromptOptions, Schedule, Tuning
from diverseevol.output.console import Console, log_to, styled
from diverseevol.output.shell import command, override
from diverseevol.parallel.processes import Processes, leave
from diverseevol.progress import Progress, Shown, Silent
from diverseevol.report.terminal import show
from diverseevol.runs.metrics import POOL_SIZE, write_descriptions
from diverseevol.runs.round_folder import Round
from diverseevol.runs.run_folder import RunFolder, provenance
from diverseevol.runs.saved_config import read_complete
from diverseevol.storage.cache import cache_folder, checked_in_full
from diverseevol.storage.files import atomic_write, write_jsonl
from diverseevol.storage.reading import load_array

log = logging.getLogger(__name__)


def run(settings: Configuration) -> None:
    """Run the evolution that the configuration describes, or what is missing of it."""
    processes = join()
    try:
        console = Console(stderr=True, quiet=not processes.first)
        quieten(console)
        conduct = settings.options("", EvolveOptions)
        if conduct.threads is not None:
            torch.set_num_threads(conduct.threads)
        with _locked(run_path(settings), processes) as path, checked_in_full(conduct.verify_cache):
            _run(settings, conduct, path, processes, console)
    finally:
        leave(processes)


def _run(settings: Configuration, conduct: EvolveOptions, path: Path, processes: Processes, console: Console) -> None:
    progress: Progress = Shown(console) if processes.first else Silent()
    cache = cache_folder(settings.value("cache", str | None))
    # What the user may have got wrong is bound first, before any work is done.
    schedule, generation = schedule_of(settings), settings.options("generation", Generation)
    tuning, embedding = settings.options("tuning", Tuning), settings.options("embedding", Embedding)
    prompt_options = settings.options("prompt", PromptOptions)
    sampler, tracker, judge = settings.part("sampler"), settings.part("logger"), settings.part("judge")
    watch(judge, progress)
    trainer = validated(settings.part("trainer"), processes)
    exam = Exam(settings.part("benchmark", cache=cache), judge, generation)
    metrics = metrics_of(settings)
    if "reference_loss" in needs_of(metrics):
        check_references(exam.benchmarks)
    bad_rows = bad_rows_file(settings, cache)
    dataset = processes.in_turn(lambda: load_dataset(settings, cache, bad_rows, progress))
    foundation = processes.in_turn(lambda: settings.part("model").prepare(dataset, cache))
    prompt = Prompt(foundation.tokenizer(), prompt_options)
    encoded = processes.in_turn(lambda: tokenise(dataset, prompt, cache, progress))
    schedule.fits(int(np.asarray(encoded.eligible).sum()), why_ineligible(dataset, encoded, prompt_options))
    learner = Learner(
        foundation=foundation, prompt=prompt, encoded=encoded, tuning=tuning, embedding=embedding, trainer=trainer,
        processes=processes, progress=progress,
    )  # fmt: skip
    found = fingerprint(settings, dataset, learner, cache)
    folder = RunFolder(path, found)
    origin = {"choices": dict(settings.choices), "arm": arm(settings), "threads": torch.get_num_threads()}
    config = logged_config(settings, {**origin, "provenance": provenance(), "fingerprint": found})
    complete = processes.share(folder.complete() if processes.first else set())
    last = max((schedule.rounds, *complete))
    longer = last > schedule.rounds
    there = complete.issuperset(range(schedule.rounds + 1))
    untouched = longer and there
    made = there and (path / "config.yaml").exists()  # by the configuration that it holds, whatever is asked now
    if processes.first:
        if made:
            read_complete(path / "config.yaml")
        folder.match() if longer or made else folder.claim(settings.text())
    if processes.first and not untouched:
        if not made or not kept(path):
            keep(path, config)
        _list_left_out(path, dataset, encoded, bad_rows)
        keep_questions(path, exam.benchmarks)
        write_descriptions(path, [POOL_SIZE, *map(description_of, metrics)])
    space = functools.cache(lambda: learner.foundation_embedding(cache / "foundation" / space_key(found)))
    evolution = Evolution(
        dataset=dataset, learner=learner, sampler=sampler, schedule=schedule, run=folder, space=space,
        seed=conduct.seed, metrics=metrics, exam=exam, tracker=tracker,
        config=config, keep_models=conduct.keep_models, keep_dtype=conduct.keep_dtype,
        on_round=functools.partial(_announce, console, last),
    )  # fmt: skip
    verb = "reads" if there else "writes"
    _greet(console, settings, f"{verb} {path}/", dataset, encoded, dataclasses.replace(schedule, rounds=last))
    before = {path.parent.name for path in path.glob("rounds/*/round.json")}
    rounds = evolve(evolution)
    if longer:
        _tell_longer(console, path, schedule.rounds, rounds[-1].index, last, untouched)
    if processes.first:
        _tell_unexamined(console, path, exam, before)
    for name in dict.fromkeys((PCA, conduct.projection)) if not untouched else {conduct.projection} - {PCA}:
        if not processes.share(processes.first and _is_map(path / map_name(name), len(dataset))):
            vectors = space()  # all processes take part
            if processes.first:
                with atomic_write(path / map_name(name), "wb") as file:
                    np.save(file, PROJECTIONS[name](vectors, np.flatnonzero(encoded.eligible)))
    if processes.first:
        show(path, rounds, console, draw=not untouched)
    if not longer and len(before) >= len(rounds):  # after all was read, and found sound
        console.print("all of it was there already: nothing was left to do")


def _is_map(file: Path, rows: int) -> bool:
    """Whether the rows' coordinates are there; what is damaged is told and made again."""
    if not os.path.lexists(file):
        return False
    try:
        sound = load_array(file).shape == (rows, 2)
    except InputError:
        sound = False
    if not sound:
        log.warning("%s: damaged; it is made again", file)
    return sound


def _tell_longer(console: Console, path: Path, asked: int, reached: int, last: int, untouched: bool) -> None:
    """Say that the folder has more rounds than were asked for, and that they stay."""
    files = "no file was changed" if untouched else "they stay as they are"
    console.print(styled(
        (f"schedule.rounds={asked} asks for fewer rounds than the {last} that {path} holds", "yellow"),
        f": {files}, and what follows is of all rounds up to {reached}; for an evolution that ends at round {asked}, "
        f"give folder=… (in a sweep outputs=…) a new folder",
    ))  # fmt: skip
    if reached < last:
        console.print(styled(
            (f"round {reached + 1} is missing, though later ones are there up to {last}", "yellow"),
            f": schedule.rounds={last} makes it again",
        ))  # fmt: skip


def _tell_unexamined(console: Console, path: Path, exam: Exam, before: set[str]) -> None:
    """Say what rounds that were there already were never asked: they are not done again for a new exam."""
    found = [unexamined(exam, path / "rounds" / name) for name in sorted(before)]
    unanswered, unjudged, others = (sorted({name for one in found for name in one[part]}) for part in range(3))
    judging = command("diverseevol", "judge", override("folder", path))
    if unanswered:
        console.print(styled(
            (f"rounds that were whole before have no answers to {', '.join(unanswered)}", "yellow"),
            ": what a round is asked is settled when it is made; give folder=… for an evolution that is asked all",
        ))  # fmt: skip
    if unjudged:
        console.print(styled(
            (f"answers to {', '.join(unjudged)} are not judged yet", "yellow"),
            f": {judging} judge=… does it, without a model",
        ))  # fmt: skip
    if others:
        console.print(styled(
            (f"scores on {', '.join(others)} of rounds that were whole before are another judge's than "
             f"{exam.judge.name}'s", "yellow"),
            f", and stay so: {judging} judge=… out=FOLDER puts this one's beside them, replace=true in their place",
        ))  # fmt: skip


def tokenise(dataset: Dataset, prompt: Prompt, cache: Path, progress: Progress) -> Tokens:
    """The rows as tokens; the first time with progress."""
    with progress.track("tokenise", len(dataset)) as advance:
        return encode(dataset, prompt, cache, advance)


def quieten(console: Console) -> None:
    """Leave the console to the project: libraries speak only when something is wrong."""
    log_to(console)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
        logging.getLogger(name).propagate = False
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*csr_matrix.*", category=DeprecationWarning)
    # Said aloud, tokenisers do not warn of processes that are forked later (wandb starts one; none of them tokenises).
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


@contextmanager
def _locked(path: Path, processes: Processes) -> Iterator[Path]:
    """The run folder, held by the first process for all of them."""
    if processes.first:
        with RunFolder(path, {}).locked():
            yield path
    else:
        yield path


def _list_left_out(path: Path, dataset: Dataset, encoded: Tokens, bad_rows: Path) -> None:
    if dataset.bad_rows and bad_rows.exists():
        with atomic_write(path / "bad_rows.jsonl", "wb") as file:
            shutil.copyfileobj(bad_rows.open("rb"), file)
    rows = np.flatnonzero(~np.asarray(encoded.eligible))
    if len(rows):
        held_out = set(dataset.held_out.tolist())
        lines = (
            {
                "row": int(row),
                "reason": "held out" if row in held_out else "no response token is left within prompt.max_length",
                "tokens": int(encoded.lengths[row]),
            }
            for row in rows
        )
        write_jsonl(path / "ineligible.jsonl", lines)


def _greet(
    console: Console, settings: Configuration, doing: str, dataset: Dataset, encoded: Tokens, schedule: Schedule
) -> None:
    eligible = int(np.asarray(encoded.eligible).sum())
    held_out = len(dataset.held_out)
    counts = {"held out": held_out, "ineligible": len(dataset) - eligible - held_out}
    listed = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    listed += " (ineligible.jsonl)" if listed else ""
    if dataset.bad_rows:
        listed += f", {dataset.bad_rows:,} bad ones left out (bad_rows.jsonl)"
    start = schedule.seed_size if schedule.seed_size is not None else eligible
    console.print(styled(
        (dataset.name, "bold"),
        f": {len(dataset):,} rows{listed} · {settings.choices['sampler']}, {start:,} + {schedule.rounds} × "
        f"{schedule.step_size:,} rows · seed {settings.value('seed')}",
    ))  # fmt: skip
    for sentence in left_out(dataset, encoded, settings.options("prompt", PromptOptions)):
        console.print(f"  {sentence}")
    console.print(doing)


def _peak(done: Round) -> str:
    device = [size for phase, size in done.peak_memory.items() if phase.endswith("/device")]
    resident = [size for phase, size in done.peak_memory.items() if not phase.endswith("/device")]
    told = [f"{max(resident) / 1e9:.1f} GB"] if resident else []
    return "".join(f", {words}" for words in [*told, *([f"{max(device) / 1e9:.1f} GB on the GPU"] if device else [])])


def _announce(console: Console, last: int, done: Round, fresh: bool) -> None:
    metrics = done.metrics
    took = f"{sum(done.seconds.values()):.1f} s{_peak(done)}" if fresh else "there already"
    console.print(
        f"round {done.index}/{last}: {metrics['pool_size']:,.0f} rows, loss {metrics['train_loss']:.3f}, "
        f"Vendi {metrics['vendi_score']:.2f}, radius {metrics['coverage_radius']:.2f} ({took})"
    )
