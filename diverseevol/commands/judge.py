"""`diverseevol judge`: judge answers that are on disk, in one run folder or in all below a folder."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from diverseevol.commands.logged import kept
from diverseevol.commands.settings import Settings
from diverseevol.errors import InputError
from diverseevol.evaluation.answered import Answered, answered_below
from diverseevol.evaluation.benchmarks import Benchmark, read_answers
from diverseevol.evaluation.judges import Judge, NoJudge, Versioned, watch
from diverseevol.evaluation.judging import judge_answers
from diverseevol.evaluation.spending import Account, Estimate, LimitReachedError
from diverseevol.evaluation.tables import judged_table
from diverseevol.files import atomic_write, cache_folder, read_json, read_jsonl
from diverseevol.output.console import Console, log_to, results_console, styled
from diverseevol.overview import log_judged, log_overview
from diverseevol.progress import Shown
from diverseevol.runs import RunFolder
from diverseevol.tracking import Careful

Scored = tuple[Path, str, Mapping[str, Any]]  # the round's folder, the benchmark, what scores.json now holds


@dataclass(frozen=True)
class Options:
    """What to judge, and where to.

    Attributes:
        folder: a run folder, or one above several, or the authors' released answers.
        out: gets judgements and scores in the layout of run folders; None puts them into the run folders.
        replace: whether judgements by another judge, or by another prompt, may be overwritten.
    """

    folder: str
    out: str | None
    replace: bool


@runtime_checkable
class Priced(Protocol):
    """A judge that is paid by the call."""

    account: Account

    def estimate(self, benchmark: Benchmark, answers: Mapping[str, str]) -> Estimate:
        """What judging these answers would take."""
        ...


@dataclass(frozen=True)
class Task:
    """One file of answers, what was asked, where the judgements go, and what the run is called in dashboards."""

    answered: Answered
    benchmark: Benchmark
    target: Path
    name: Path


def run(settings: Settings) -> None:
    """Judge what the configuration says, and print the scores."""
    console = Console(stderr=True)
    _quieten(console)
    options = settings.options("", Options)
    judge: Judge = settings.part("judge")
    tracker = Careful(settings.part("logger"))
    if isinstance(judge, NoJudge):
        raise InputError("judge=none judges nothing; choose openai, local, replay, gold or overlap")
    watch(judge, Shown(console))
    tasks = _tasks(settings, options, judge)
    if _announce(console, judge, tasks) and settings.value("judge").get("max_calls") == 0:
        console.print("judge.max_calls=0: nothing was asked")
        return
    scores: list[Scored] = []
    try:
        for _, grouped in groupby(tasks, lambda task: task.target):
            group = list(grouped)
            with _log_after(group, tracker, options):
                _judge(group, judge, scores)
    except LimitReachedError as limit:
        remaining = _estimate(judge, tasks)
        raise InputError(f"{limit} (in all {_remains(remaining)})") from limit
    finally:
        if options.out is None:
            judged = {target for target, _, _ in scores}
            _log_evolutions([task for task in tasks if task.target in judged], tracker)
        if scores:
            results_console().print(judged_table(scores, judge.label))
        if isinstance(judge, Priced):
            console.print(f"{judge.name}: {judge.account}")


def _quieten(console: Console) -> None:
    log_to(console)
    for name, value in (("TRANSFORMERS_VERBOSITY", "error"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)


def _tasks(settings: Settings, options: Options, judge: Judge) -> list[Task]:
    """Everything to judge; whatever could stop it halfway is found before the first call."""
    cache = cache_folder(settings.value("cache"))
    given = settings.value("benchmark") is not None
    chosen: Sequence[Benchmark] = settings.part("benchmark", cache=cache) if given else ()
    found = answered_below(Path(options.folder))
    runs: dict[Path | None, tuple[Path, Mapping[str, Benchmark]]] = {}
    tasks: dict[tuple[Path, str], Task] = {}
    for one in found:
        if one.run is None and options.out is None:
            raise InputError(f"{one.file}: is a released file, beside which nothing is written; give out=FOLDER")
        if one.run not in runs:
            name, own = _own(settings, one, cache, given)
            runs[one.run] = name, {benchmark.name: benchmark for benchmark in (chosen if given else own)}
        name, benchmarks = runs[one.run]
        if one.benchmark in benchmarks:
            target = one.file.parents[1] if options.out is None else Path(options.out) / one.place
            task = tasks.setdefault((target, one.benchmark), Task(one, benchmarks[one.benchmark], target, name))
            if task.answered is not one:
                raise InputError(f"{one.file} and {task.answered.file}: would both be judged into {target}; judge one")
    if not tasks:
        names = ", ".join(sorted({one.benchmark for one in found}))
        raise InputError(f"{options.folder}: has answers to {names} and to no other benchmark; choose one of these")
    for task in tasks.values():
        _check(task, judge, options)
    return list(tasks.values())


def _own(settings: Settings, one: Answered, cache: Path, given: bool) -> tuple[Path, Sequence[Benchmark]]:
    """What a run is called, and, unless benchmarks are given, what it was asked: by its own configuration."""
    file = one.run / "config.yaml" if one.run is not None else None
    if one.run is None or file is None or not file.is_file():
        if not given:
            raise InputError(f"{one.file}: no config.yaml says what was asked; give benchmark=…")
        return (one.run or one.file).resolve(), ()
    saved = settings.saved(file, ["benchmark", "folder"])
    name = Path(saved.value("folder")) if saved.value("folder") is not None else one.run.resolve()
    return name, () if given else saved.part("benchmark", cache=cache)


def _check(task: Task, judge: Judge, options: Options) -> None:
    """The answers are there and belong to the questions, and no work by another judge or prompt is lost."""
    read_answers(task.answered.file, task.benchmark)
    field = judge.compares_with
    if field != "nothing" and any(getattr(question, field) is None for question in task.benchmark.questions):
        raise InputError(
            f"benchmark {task.benchmark.name}: has questions without a {field}, which this judge compares with; give "
            f"benchmark.{field}=FILE, or choose another judge"
        )
    there = task.target / "judgements" / f"{task.benchmark.name}.jsonl"
    if there.is_file() and not options.replace:
        lines = read_jsonl(there)
        judges = {str(line.get("judge")) for line in lines}
        called = judge.name
        if judges == {judge.name} and isinstance(judge, Versioned):
            judges = {f"{judge.name} ({line.get('prompt_version')})" for line in lines}
            called = f"{judge.name} ({judge.prompt_version})"
        if judges - {called}:
            raise InputError(
                f"{there}: holds judgements by {', '.join(sorted(judges))}; give out=FOLDER to keep them, "
                f"or replace=true to have those of {called} in their place"
            )


def _announce(console: Console, judge: Judge, tasks: Sequence[Task]) -> int:
    """Say what is to be done; how many judgements have to be paid for."""
    models = len({task.target for task in tasks})
    console.print(styled((judge.name, "bold"), f" judges the answers of {models:,} models"))
    if not isinstance(judge, Priced):
        return 0
    left = _estimate(judge, tasks)
    console.print(_remains(left))
    return left.missing


def _estimate(judge: Judge, tasks: Sequence[Task]) -> Estimate:
    assert isinstance(judge, Priced)
    parts = [judge.estimate(task.benchmark, read_answers(task.answered.file, task.benchmark)) for task in tasks]
    dollars = [part.dollars for part in parts if part.dollars is not None]
    return Estimate(
        sum(part.judgements for part in parts),
        sum(part.missing for part in parts),
        sum(dollars) if len(dollars) == len(parts) else None,
    )


def _remains(left: Estimate) -> str:
    dollars = "" if left.dollars is None else f", about ${left.dollars:.2f}"
    return f"{left.missing:,} of {left.judgements:,} judgements remain{dollars}"


def _judge(tasks: Sequence[Task], judge: Judge, scores: list[Scored]) -> None:
    """Judge one round's answers, to one benchmark or more."""
    for task in tasks:
        record = judge_answers(task.answered.file, task.answered.round, task.benchmark, judge, task.target)
        scores.append((task.target, task.benchmark.name, record))


@contextmanager
def _log_after(tasks: Sequence[Task], tracker: Careful, options: Options) -> Iterator[None]:
    """The run folder, locked, and the round logged when it is judged; neither where the judgements go elsewhere."""
    task = tasks[0]
    run = task.answered.run
    if options.out is not None or run is None:
        target = task.target.parents[1]
        with RunFolder(target, {}).locked():
            if run is not None:
                _copy_identity(run, target, task.target.name)
            yield
        return
    with RunFolder(run, {}).locked():
        yield
        t = task.answered.round
        tracker.attempt(lambda: log_judged(run, _called(task, run), t, tracker, kept(run)))


def _log_evolutions(judged: Sequence[Task], tracker: Careful) -> None:
    """Every evolution of which something was judged, whole."""
    for run, task in {task.answered.run: task for task in judged}.items():
        if run is not None:
            called = _called(task, run)
            tracker.attempt(functools.partial(_log_evolution, run, called, tracker))


def _log_evolution(run: Path, called: RunFolder, tracker: Careful) -> None:
    with RunFolder(run, {}).locked():
        log_overview(run, called, tracker, kept(run))


def _called(task: Task, run: Path) -> RunFolder:
    """The run folder under the name by which `evolve` logged it, however it is named here."""
    file = run / "fingerprint.json"
    return RunFolder(task.name, read_json(file) if file.is_file() else {})


def _copy_identity(run: Path, target: Path, t: str) -> None:
    """What says which seed a run had, and which rows it began with and came to: judgements are compared by these."""
    for name in dict.fromkeys(("fingerprint.json", "rounds/00/round.json", f"rounds/{t}/round.json")):
        if (run / name).is_file() and not (target / name).is_file():
            with atomic_write(target / name, "wb") as file:
                file.write((run / name).read_bytes())
