"""`diverseevol evolve`: from a configuration to an evolution, and what a reader wants to see at its end."""

import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from diverseevol.cli.checked_options import EvolveOptions, metrics_of, schedule_of
from diverseevol.cli.conclusion import conclusion
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.fingerprint import fingerprint
from diverseevol.cli.left_out_rows import left_out, why_ineligible
from diverseevol.cli.naming import arm, run_path
from diverseevol.cli.provenance import keep, kept, logged_config
from diverseevol.cli.rows import bad_rows_file
from diverseevol.cli.workbench import Workbench, workbench
from diverseevol.data.dataset import Dataset
from diverseevol.data.tokens import Tokens
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam, missing_results, save_questions
from diverseevol.evaluation.questions.benchmarks import check_references
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics.base import description_of, needs_of
from diverseevol.evolution.setup import Evolution
from diverseevol.geometry.projections import PCA, PROJECTIONS, map_name
from diverseevol.options import Generation, PromptOptions, Schedule, Tuning
from diverseevol.output.console import Console, styled
from diverseevol.output.shell import command, override
from diverseevol.parallel.processes import Processes
from diverseevol.report.terminal import show
from diverseevol.runs.metrics import POOL_SIZE, write_descriptions
from diverseevol.runs.round_folder import Round
from diverseevol.runs.run_folder import RunFolder, provenance
from diverseevol.runs.saved_config import read_complete
from diverseevol.storage.files import atomic_write, write_jsonl
from diverseevol.storage.reading import load_array

log = logging.getLogger(__name__)


def run(settings: Configuration) -> None:
    """Run the evolution that the configuration describes, or what is missing of it."""
    options = settings.options("", EvolveOptions)
    with workbench(settings, options.verify_cache) as bench, _locked(run_path(settings), bench.processes) as path:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        _run(bench, options, path)


def _run(bench: Workbench, options: EvolveOptions, path: Path) -> None:
    settings, processes, console, cache = bench.settings, bench.processes, bench.console, bench.cache
    # What the user may have got wrong is bound first, before any work is done.
    schedule, tuning = schedule_of(settings), settings.options("tuning", Tuning)
    sampler, tracker, judge = settings.part("sampler"), settings.part("logger"), settings.part("judge")
    exam = Exam(settings.part("benchmark", cache=cache), judge, settings.options("generation", Generation))
    metrics = metrics_of(settings)
    if "reference_loss" in needs_of(metrics):
        check_references(exam.benchmarks)
    bad_rows = bad_rows_file(settings, cache)
    dataset = bench.dataset(bad_rows)
    learner = bench.learner(dataset, tuning)
    encoded, eligible = learner.encoded, int(np.asarray(learner.encoded.eligible).sum())
    schedule.fits(eligible, why_ineligible(dataset, encoded, settings.options("prompt", PromptOptions)))
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
        save_questions(path, exam.benchmarks)
        write_descriptions(path, [POOL_SIZE, *map(description_of, metrics)])
    space = functools.cache(lambda: bench.foundation_embedding(learner, found))
    evolution = Evolution(
        dataset=dataset, learner=learner, sampler=sampler, schedule=schedule, run=folder, space=space,
        seed=options.seed, metrics=metrics, exam=exam, tracker=tracker,
        config=config, keep_models=options.keep_models, keep_dtype=options.keep_dtype,
        on_round=functools.partial(_announce, console, last),
    )  # fmt: skip
    verb = "reads" if there else "writes"
    _greet(console, settings, f"{verb} {path}/", dataset, encoded, dataclasses.replace(schedule, rounds=last))
    before = {path.parent.name for path in path.glob("rounds/*/round.json")}
    rounds = evolve(evolution)
    if longer:
        _tell_longer(console, path, schedule.rounds, rounds[-1].index, last, untouched)
    if processes.first:
        _tell_missing(console, path, exam, before)
    for name in dict.fromkeys((PCA, options.projection)) if not untouched else {options.projection} - {PCA}:
        if not processes.share(processes.first and _is_map(path / map_name(name), len(dataset))):
            vectors = space()  # all processes take part
            if processes.first:
                with atomic_write(path / map_name(name), "wb") as file:
                    np.save(file, PROJECTIONS[name](vectors, np.flatnonzero(encoded.eligible)))
    if processes.first:
        show(path, rounds, console, draw=not untouched, examples=settings.shows_examples)
        if settings.overrides is not None:  # a sweep has last words of its own
            choices, outputs = settings.choices, settings.value("outputs", str)
            for heading, lines in conclusion(
                path, rounds, choices["sampler"], choices["schedule"], outputs, settings.overrides
            ):  # fmt: skip
                console.print(heading, style="bold")
                for line in lines:
                    console.print(f"  {line}")
    if not longer and len(before) >= len(rounds):  # after everything was read, and found intact
        console.print("nothing to do: all rounds are complete")


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


def _tell_missing(console: Console, path: Path, exam: Exam, before: set[str]) -> None:
    """Say what completed rounds lack of this exam: they are not done again for a new one."""
    missing = missing_results(exam, [path / "rounds" / name for name in sorted(before)])
    judging = command("diverseevol", "judge", override("folder", path))
    if missing.answers:
        console.print(styled(
            (f"rounds that were complete before have no answers to {_listed(missing.answers)}", "yellow"),
            ": what a round is asked is settled when it is made; give folder=… for an evolution that is asked all",
        ))  # fmt: skip
    if missing.scores:
        console.print(styled(
            (f"answers to {_listed(missing.scores)} are not judged yet", "yellow"),
            f": {judging} judge=… does it, without a model",
        ))  # fmt: skip
    if missing.scores_by_judge:
        console.print(styled(
            (f"scores on {_listed(missing.scores_by_judge)} of rounds that were complete before are another judge's "
             f"than {exam.judge.name}'s", "yellow"),
            f", and stay so: {judging} judge=… out=FOLDER puts this one's beside them, replace=true in their place",
        ))  # fmt: skip


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


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
