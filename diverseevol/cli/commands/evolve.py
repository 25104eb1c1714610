"""`diverseevol evolve`: from a configuration to an evolution, and what a reader wants to see at its end."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from diverseevol.cli.checked_options import (
    EvolveOptions,
    answers_of,
    check_quota,
    metrics_of,
    sampler_of,
    schedule_of,
    stop_of,
    tuning_of,
)
from diverseevol.cli.conclusion import conclusion
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.fingerprint import fingerprint, own_sources, space_key
from diverseevol.cli.forecast import forecast_of, keep_to_budget
from diverseevol.cli.left_out_rows import left_out, list_left_out, why_ineligible
from diverseevol.cli.mistakes import verdict
from diverseevol.cli.naming import arm, run_path
from diverseevol.cli.provenance import load_provenance, logged_config, save_provenance
from diverseevol.cli.rows import bad_rows_file, listed_sources
from diverseevol.cli.tagged_rows import list_contamination, list_tagged, tagged
from diverseevol.cli.workbench import Workbench, workbench
from diverseevol.data.dataset import Dataset
from diverseevol.data.tags import Tags
from diverseevol.data.tokens import Tokens
from diverseevol.engine import fast_path
from diverseevol.engine.learner import Learner
from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam, missing_results, save_questions
from diverseevol.evaluation.judges.base import checked_judge
from diverseevol.evaluation.questions.benchmarks import check_references
from diverseevol.evolution.left_behind import row_facts
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.metrics.base import description_of, needs_of
from diverseevol.evolution.plateau import check_stop, rounds_needed
from diverseevol.evolution.setup import Evolution
from diverseevol.geometry.projections import PCA, PROJECTIONS, map_name
from diverseevol.options import Budget, Generation, PromptOptions, Schedule
from diverseevol.output.console import Console, styled
from diverseevol.output.shell import command, override
from diverseevol.parallel.processes import Processes
from diverseevol.report.contamination import CONTAMINATION
from diverseevol.report.terminal import show
from diverseevol.runs.metrics import POOL_SIZE, write_descriptions
from diverseevol.runs.round_folder import Round
from diverseevol.runs.row_facts import read_row_facts, write_row_facts
from diverseevol.runs.run_folder import RunFolder, provenance
from diverseevol.runs.saved_config import read_complete
from diverseevol.runs.standing import failure_noted, save_command
from diverseevol.runs.subset import TAGS
from diverseevol.storage.files import atomic_write
from diverseevol.storage.reading import load_array

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extent:
    """How far a run folder has come, beside how far it is asked to come.

    Attributes:
        asked: the last round that is asked for.
        complete: the rounds that are complete.
    """

    asked: int
    complete: Set[int]

    @property
    def last(self) -> int:
        """The last round that is asked for, or that the folder has."""
        return max((self.asked, *self.complete))

    @property
    def longer(self) -> bool:
        """Whether the folder has more rounds than are asked for."""
        return self.last > self.asked

    @property
    def reached(self) -> bool:
        """Whether all rounds that are asked for are complete."""
        return self.complete >= set(range(self.asked + 1))

    @property
    def untouched(self) -> bool:
        """Whether no file of the folder is to change."""
        return self.longer and self.reached


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
    schedule, tuning = schedule_of(settings), tuning_of(settings)
    sampler, tracker, judge = sampler_of(settings), settings.part("logger"), checked_judge(settings.part("judge"))
    exam = Exam(
        settings.part("benchmark", cache=cache), judge, settings.options("generation", Generation), answers_of(settings)
    )
    metrics, stop = metrics_of(settings), stop_of(settings)
    if stop is not None:
        check_stop(stop, metrics, [benchmark.name for benchmark in exam.benchmarks], judge.capabilities.judges)
        if processes.first and schedule.rounds < (needed := rounds_needed(stop)):
            log.warning(
                "stop=plateau ends nothing here: it decides after %d rounds at the earliest, and schedule.rounds=%d "
                "asks for %d", needed, schedule.rounds, schedule.rounds + 1,
            )  # fmt: skip
    budget = settings.options("budget", Budget)
    if "reference_loss" in needs_of(metrics):
        check_references(exam.benchmarks)
    bad_rows = bad_rows_file(run_path(settings), cache)
    dataset = bench.dataset(bad_rows)
    check_quota(sampler, dataset)
    tags = bench.tags(dataset, exam.benchmarks)
    learner = bench.learner(dataset, tuning)
    encoded, eligible = learner.encoded, int(np.asarray(learner.encoded.eligible).sum())
    schedule = schedule_of(settings, eligible)
    schedule.fits(eligible, why_ineligible(dataset, encoded, settings.options("prompt", PromptOptions)))
    identity = fingerprint(settings, dataset, learner, cache)
    folder = RunFolder(path, identity)
    if stop is not None:
        ended = processes.share(folder.stopped(schedule.rounds) if processes.first else None)
        schedule = schedule if ended is None else dataclasses.replace(schedule, rounds=ended)
    extent = Extent(schedule.rounds, processes.share(folder.complete() if processes.first else frozenset()))
    trained = None if extent.reached else learner.describe()
    origin = {"choices": dict(settings.choices), "arm": arm(settings), "threads": torch.get_num_threads()}
    origin["fast_path"] = fast_path.enabled()
    origin |= listed_sources(dataset, np.asarray(encoded.eligible))
    if own_code := own_sources(settings, "sampler", "judge", "metric", "data", "benchmark"):
        origin["own_code"] = own_code
    config = logged_config(settings, {**origin, "provenance": provenance(), "fingerprint": identity})
    if processes.first:
        # A complete run goes by the configuration that it holds, whatever is asked of it now.
        made = extent.reached and (path / "config.yaml").exists()
        if made:
            read_complete(path / "config.yaml")
        (folder.match if extent.longer or made else folder.claim)(settings.text())
        if not extent.untouched:
            if not made or not load_provenance(path):
                save_provenance(path, config)
            if settings.overrides is not None and not made:
                save_command(path, settings.overrides)
            list_left_out(path, dataset, encoded.eligible, bad_rows, encoded.lengths)
            list_tagged(path / TAGS, tags)
            list_contamination(path / CONTAMINATION, tags)
            save_questions(path, exam.benchmarks)
            write_descriptions(path, [POOL_SIZE, *map(description_of, metrics)])
    space = functools.cache(lambda: bench.foundation_embedding(learner, identity))
    words = functools.partial(bench.text_embedding, dataset, learner.embedding)
    forecast = None
    if not extent.reached:
        embedded = (cache / "foundation" / space_key(identity)).exists()
        forecast = forecast_of(settings, learner, exam, sampler, schedule, metrics, embedded)
        missing = set(range(schedule.rounds + 1)) - extent.complete
        keep_to_budget(budget, forecast, learner, exam, schedule, options.seed, missing)
    evolution = Evolution(
        dataset=dataset, learner=learner, sampler=sampler, schedule=schedule, run=folder, space=space,
        seed=options.seed, metrics=metrics, exam=exam, tags=tags, tracker=tracker,
        config=config, keep_models=options.keep_models, keep_dtype=options.keep_dtype, forecast=forecast,
        stop=stop, text_space=words, on_round=functools.partial(_announce, console, extent.last),
    )  # fmt: skip
    opening = f"{'reads' if extent.reached else 'writes'} {path}/"
    _greet(console, settings, opening, dataset, encoded, dataclasses.replace(schedule, rounds=extent.last), tags)
    if trained:
        console.print(f"  {trained}")
    before = {file.parent.name for file in path.glob("rounds/*/round.json")}
    with failure_noted(path, _reason) if processes.first and not extent.untouched else nullcontext():
        rounds = evolve(evolution)
    if extent.longer:
        _tell_longer(console, path, extent, rounds[-1].index)
    elif stop is not None and (why := rounds[-1].stopped):
        console.print(styled(
            (f"ended after round {rounds[-1].index} of {why['of']}", "yellow"),
            f" (stop=plateau): by {why['metric']}, rows paid until round {why['round']}, {why['rows']:,} rows, and no "
            f"gain since then counts; stop=null goes on from here",
        ))  # fmt: skip
    if processes.first:
        _tell_missing(console, path, exam, before)
    projections = (PCA, options.projection) if not extent.untouched else {options.projection} - {PCA}
    _map_rows(path, dict.fromkeys(projections), space, np.asarray(encoded.eligible), processes)
    if not extent.untouched:
        _keep_row_facts(bench, path, learner, dataset, rounds[-1].trained_on, space)
    if processes.first:
        show(path, rounds, console, draw=not extent.untouched, examples=settings.shows_examples)
        if settings.overrides is not None:  # a sweep has last words of its own
            choices, outputs = settings.choices, settings.value("outputs", str)
            for heading, lines in conclusion(
                path, rounds, choices["sampler"], choices["schedule"], outputs, settings.overrides
            ):  # fmt: skip
                console.print(heading, style="bold")
                for line in lines:
                    console.print(f"  {line}")
    if not extent.longer and len(before) >= len(rounds):  # after everything was read, and found intact
        console.print("nothing to do: all rounds are complete")


def _reason(error: Exception) -> str:
    return verdict(error, "evolve")[1]


def _map_rows(
    path: Path,
    projections: Iterable[str],
    space: Callable[[], Float[np.ndarray, "rows dim"]],
    eligible: Bool[np.ndarray, " rows"],
    processes: Processes,
) -> None:
    """Project the rows onto two axes for the report, where that is not done yet."""
    for name in projections:
        file = path / map_name(name)
        if not processes.share(processes.first and _is_map(file, len(eligible))):
            vectors = space()  # all processes take part
            if processes.first:
                with atomic_write(file, "wb") as out:
                    np.save(out, PROJECTIONS[name](vectors, np.flatnonzero(eligible)))


def _keep_row_facts(
    bench: Workbench,
    path: Path,
    learner: Learner,
    dataset: Dataset,
    pool: Sequence[int],
    space: Callable[[], Float[np.ndarray, "rows dim"]],
) -> None:
    """Write what says of each row why it was not chosen, where that is not there yet."""
    first = bench.processes.first
    if not bench.processes.share(first and _has_row_facts(path, pool)):
        X = space()  # all processes take part
        if first:
            tokens = np.where(learner.encoded.eligible, learner.encoded.response_tokens, 0)
            with bench.progress.track("find each row's nearest in the pool", len(X)) as advance:
                write_row_facts(path, row_facts(dataset, tokens, X, np.array(pool, dtype=np.int64), advance))


def _has_row_facts(path: Path, pool: Sequence[int]) -> bool:
    """Whether they are there and of this pool; damaged ones are reported, and made again."""
    try:
        return read_row_facts(path, pool) is not None
    except InputError as error:
        log.warning("%s", error)
        return False


def _is_map(file: Path, rows: int) -> bool:
    """Whether the rows' coordinates are there; a damaged file is reported, and made again."""
    if not os.path.lexists(file):
        return False
    try:
        intact = load_array(file).shape == (rows, 2)
    except InputError:
        intact = False
    if not intact:
        log.warning("%s: damaged; it is made again", file)
    return intact


def _tell_longer(console: Console, path: Path, extent: Extent, reached: int) -> None:
    """Say that the folder has more rounds than were asked for, and that they stay."""
    files = "no file was changed" if extent.untouched else "they stay as they are"
    console.print(styled(
        (f"schedule.rounds={extent.asked} asks for fewer rounds than the {extent.last} that {path} holds", "yellow"),
        f": {files}, and what follows is of all rounds up to {reached}; for an evolution that ends at round "
        f"{extent.asked}, give folder=… (in a sweep outputs=…) a new folder",
    ))  # fmt: skip
    if reached < extent.last:
        console.print(styled(
            (f"round {reached + 1} is missing, though later ones are there up to {extent.last}", "yellow"),
            f": schedule.rounds={extent.last} makes it again",
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


def _greet(
    console: Console,
    settings: Configuration,
    doing: str,
    dataset: Dataset,
    encoded: Tokens,
    schedule: Schedule,
    tags: Tags,
) -> None:
    eligible = int(np.asarray(encoded.eligible).sum())
    apart = {"held out": len(dataset.held_out), "left out as copies": len(dataset.copies)}
    counts = {**apart, "ineligible": len(dataset) - eligible - sum(apart.values())}
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
    for sentence in (*left_out(dataset, encoded, settings.options("prompt", PromptOptions)), *tagged(tags)):
        console.print(f"  {sentence}")
    console.print(doing)


def _peak(done: Round) -> str:
    device = [size for phase, size in done.peak_memory.items() if phase.endswith("/device")]
    resident = [size for phase, size in done.peak_memory.items() if not phase.endswith("/device")]
    sizes = [f"{max(resident) / 1e9:.1f} GB"] if resident else []
    return "".join(f", {words}" for words in [*sizes, *([f"{max(device) / 1e9:.1f} GB on the GPU"] if device else [])])


def _announce(console: Console, last: int, done: Round, fresh: bool) -> None:
    took = f"{sum(done.seconds.values()):.1f} s{_peak(done)}" if fresh else "there already"
    # Any metric may be left out (`~metric.vendi_score`), but a round always has the size of its pool.
    forms = {"train_loss": "loss {:.3f}", "vendi_score": "Vendi {:.2f}", "coverage_radius": "radius {:.2f}"}
    measured = "".join(f", {form.format(done.metrics[name])}" for name, form in forms.items() if name in done.metrics)
    console.print(f"round {done.index}/{last}: {done.metrics['pool_size']:,.0f} rows{measured} ({took})")
