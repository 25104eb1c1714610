"""`diverseevol judge`: judge answers that are on disk, in one run folder or in all below a folder."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import check_writable
from diverseevol.cli.provenance import FILE, load_provenance
from diverseevol.cli.saved_questions import SavedQuestions
from diverseevol.errors import InputError
from diverseevol.evaluation.judge_round import judge_answers
from diverseevol.evaluation.judges.base import AnswerSheet, Costs, GivenUpError, Judge, checked_judge, unfit
from diverseevol.evaluation.judges.budget import Estimate, LimitReachedError
from diverseevol.evaluation.questions.benchmarks import Benchmark, read_answers
from diverseevol.evaluation.questions.find_answers import FoundAnswers, find_answers
from diverseevol.evaluation.scores.scores import read_scores
from diverseevol.evaluation.scores.tables import judged_table
from diverseevol.evolution.log_rounds import log_judged, log_overview
from diverseevol.output.console import Console, log_to, results_console, styled
from diverseevol.progress import Progress, Shown
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.tracking import Careful
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import atomic_write, read_json, read_jsonl, refuse_links
from diverseevol.storage.links import refuse_files_from_outside

Scored = tuple[Path, str, Mapping[str, Any]]  # the round's folder, the benchmark, what scores.json now holds


@dataclass(frozen=True)
class Options:
    """What to judge, and where to.

    Attributes:
        folder: a run folder, what `diverseevol answer` wrote, or a folder above; or the authors' released answers.
        out: gets judgements and scores in the layout of run folders; None puts them into the run folders.
        replace: whether judgements by another judge or prompt may be overwritten.
    """

    folder: str
    out: str | None
    replace: bool


@dataclass(frozen=True)
class Task:
    """One file of answers, the questions, where the judgements go, and the run's name in dashboards."""

    answered: FoundAnswers
    benchmark: Benchmark
    target: Path
    name: Path


def run(settings: Configuration) -> None:
    """Judge what the configuration says, and print the scores."""
    console = Console(stderr=True)
    _quieten(console)
    options = settings.options("", Options)
    answer_files = find_answers(Path(options.folder))
    judge = checked_judge(settings.part("judge"))
    tracker = Careful(settings.part("logger"))
    if not judge.capabilities.judges:
        raise InputError(f"judge={judge.name} judges nothing; choose another one (see diverseevol judge --help)")
    costs = judge.capabilities.costs
    tasks = _tasks(settings, options, answer_files)
    unfits = {task.benchmark.name: unfit(judge, task.benchmark) for task in tasks}
    tasks = [task for task in tasks if unfits[task.benchmark.name] is None]
    skipped = [sentence for sentence in unfits.values() if sentence is not None]
    estimate_only = settings.value("judge", dict).get("max_calls") == 0  # what it would take
    if skipped and not tasks and not estimate_only:
        raise InputError("; ".join(skipped))
    conflicts = [sentence for task in tasks if (sentence := _check(task, judge, options)) is not None]
    for sentence in skipped:
        console.print(f"skipped: {sentence}")
    if (_announce(console, judge, tasks) or not tasks) and estimate_only:
        for sentence in conflicts[:1]:
            console.print(f"before judging: {sentence}")
        console.print("judge.max_calls=0: nothing was asked")
        return
    if conflicts:
        raise InputError(conflicts[0])
    scores: list[Scored] = []
    refused: list[str] = []
    try:
        for _, grouped in groupby(tasks, lambda task: task.target):
            group = list(grouped)
            with _log_after(group, tracker, options):
                _judge(group, judge, scores, refused, Shown(console))
    except LimitReachedError as limit:
        remaining = f" (in all {_remains(_estimate(costs, tasks))})" if costs else ""
        raise InputError(f"{limit}{remaining}") from limit
    finally:
        if options.out is None:
            judged = {target for target, _, _ in scores}
            _log_evolutions([task for task in tasks if task.target in judged], tracker)
        if scores:
            results_console().print(judged_table(scores, judge.capabilities.label))
        if costs is not None:
            console.print(f"{judge.name}: {costs.account}")
    if refused:
        raise InputError("; ".join(refused))


def _quieten(console: Console) -> None:
    log_to(console)
    for name, value in (("TRANSFORMERS_VERBOSITY", "error"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)


def _tasks(settings: Configuration, options: Options, answer_files: Sequence[FoundAnswers]) -> list[Task]:
    """Everything that could be judged."""
    cache = cache_folder(settings.value("cache", str | None))
    chosen: Sequence[Benchmark] | None = None
    if settings.value("benchmark") is not None:
        chosen = settings.part("benchmark", cache=cache)
    by_name = {benchmark.name: benchmark for benchmark in chosen or ()}
    saved = SavedQuestions(settings, cache)
    tasks: dict[tuple[Path, str], Task] = {}
    for run in dict.fromkeys(answered.run for answered in answer_files if answered.run is not None):
        refuse_files_from_outside(run)
    for answered in answer_files:
        target = answered.round_folder if options.out is None else Path(options.out) / answered.round_path
        if target is None:
            raise InputError(f"{answered.file}: is a released file, beside which nothing is written; give out=FOLDER")
        benchmark = by_name.get(answered.benchmark) if chosen is not None else saved.benchmark(answered)
        if benchmark is not None:
            key = (target, answered.benchmark)
            task = tasks.setdefault(key, Task(answered, benchmark, target, saved.name(answered)))
            if task.answered is not answered:
                raise InputError(
                    f"{answered.file} and {task.answered.file}: would both be judged into {target}; judge one"
                )
    if not tasks:
        names = ", ".join(sorted({answered.benchmark for answered in answer_files}))
        raise InputError(f"{options.folder}: has answers to {names} and to no other benchmark; choose one of these")
    if options.out is not None:
        refuse_links(Path(options.out))
    for target in dict.fromkeys(task.target for task in tasks.values()):
        check_writable(target, f"{target}: judgements cannot be written there", "another folder")
    return list(tasks.values())


def _check(task: Task, judge: Judge, options: Options) -> str | None:
    """Find whatever could stop the judging halfway, before the first call.

    Returns:
        A sentence where work by another judge or prompt would be lost.

    Raises:
        InputError: the answers are not those to the questions.
    """
    read_answers(task.answered.file, task.benchmark)
    if task.answered.run is not None:
        _called(task, task.answered.run)  # a damaged identity is refused before anything is paid
    read_scores(task.target)  # and damaged scores, too
    file = task.target / "judgements" / f"{task.benchmark.name}.jsonl"
    if not file.is_file() or options.replace:
        return None
    lines = read_jsonl(file)
    judges = {str(line.get("judge")) for line in lines}
    called, version = judge.name, judge.capabilities.prompt_version
    if judges == {judge.name} and version:
        judges = {f"{judge.name} ({line.get('prompt_version')})" for line in lines}
        called = f"{judge.name} ({version})"
    if not judges - {called}:
        return None
    return (
        f"{file}: holds judgements by {', '.join(sorted(judges))}; give out=FOLDER to keep them, "
        f"or replace=true to have those of {called} in their place"
    )


def _announce(console: Console, judge: Judge, tasks: Sequence[Task]) -> int:
    """Say what will be done; returns how many judgements have to be paid for."""
    models = len({task.target for task in tasks})
    console.print(styled((judge.name, "bold"), f" judges the answers of {models:,} models"))
    if (costs := judge.capabilities.costs) is None:
        return 0
    left = _estimate(costs, tasks)
    console.print(_remains(left))
    return left.missing


def _estimate(costs: Costs, tasks: Sequence[Task]) -> Estimate:
    sheets = (AnswerSheet(task.benchmark, read_answers(task.answered.file, task.benchmark)) for task in tasks)
    parts = [costs.estimate(sheet) for sheet in sheets]
    dollars = [part.dollars for part in parts if part.dollars is not None]
    return Estimate(
        sum(part.judgements for part in parts),
        sum(part.missing for part in parts),
        sum(dollars) if len(dollars) == len(parts) else None,
    )


def _remains(left: Estimate) -> str:
    dollars = "" if left.dollars is None else f", about ${left.dollars:.2f}"
    return f"{left.missing:,} of {left.judgements:,} judgements remain{dollars}"


def _judge(tasks: Sequence[Task], judge: Judge, scores: list[Scored], refused: list[str], progress: Progress) -> None:
    """Judge one round's answers, to one benchmark or more; one whose prompts are all refused stops no other."""
    for task in tasks:
        answered = task.answered
        try:
            record = judge_answers(answered.file, answered.round, task.benchmark, judge, task.target, progress)
        except GivenUpError as error:
            if not error.refused:
                raise
            refused.append(str(error))
        else:
            scores.append((task.target, task.benchmark.name, record))


@contextmanager
def _log_after(tasks: Sequence[Task], tracker: Careful, options: Options) -> Iterator[None]:
    """The run folder, locked, and the round logged when it is judged; neither where the judgements go elsewhere."""
    task = tasks[0]
    run = task.answered.run
    if options.out is not None or run is None or not task.answered.evolved:
        within = task.target if task.target == task.answered.round_folder else task.target.parents[1]
        with RunFolder(within, {}).locked():
            if run is not None and options.out is not None:
                _copy_identity(run, within, task.target.name)
            yield
        return
    with RunFolder(run, {}).locked():
        yield
        t = task.answered.round
        tracker.attempt(lambda: log_judged(run, _called(task, run), t, tracker, load_provenance(run)))


def _log_evolutions(judged: Sequence[Task], tracker: Careful) -> None:
    """Log every evolution with new judgements."""
    for run, task in {task.answered.run: task for task in judged if task.answered.evolved}.items():
        if run is not None:
            called = _called(task, run)
            tracker.attempt(functools.partial(_log_evolution, run, called, tracker))


def _log_evolution(run: Path, called: RunFolder, tracker: Careful) -> None:
    with RunFolder(run, {}).locked():
        log_overview(run, called, tracker, load_provenance(run))


def _called(task: Task, run: Path) -> RunFolder:
    """The run folder under the name by which `evolve` logged it, whatever its name is now."""
    file = run / "fingerprint.json"
    identity = read_json(file) if file.is_file() else {}
    if not isinstance(identity, dict):
        raise InputError(f"{file}: expected an object, got a {type(identity).__name__}; restore the file")
    return RunFolder(task.name, identity)


def _copy_identity(run: Path, target: Path, t: str) -> None:
    """Copy what says which seed a run had, and which rows: judgements are compared by these."""
    for name in dict.fromkeys(("fingerprint.json", FILE, "rounds/00/round.json", f"rounds/{t}/round.json")):
        if (run / name).is_file() and not (target / name).is_file():
            with atomic_write(target / name, "wb") as file:
                file.write((run / name).read_bytes())
