"""`diverseevol judge`: judge answers that are on disk, in one run folder or in all below a folder."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.table import Table

from diverseevol.commands.settings import Settings
from diverseevol.errors import InputError
from diverseevol.evaluation.answered import Answered, answered_below
from diverseevol.evaluation.benchmarks import Benchmark, read_answers
from diverseevol.evaluation.judges import Judge, NoJudge, Watched
from diverseevol.evaluation.judging import judge_answers, logged
from diverseevol.evaluation.spending import Account, Estimate, LimitReachedError
from diverseevol.files import cache_folder, read_json, read_jsonl
from diverseevol.progress import Shown
from diverseevol.runs import RunFolder
from diverseevol.tracking import RoundLog, RunName, Tracker, opened


@dataclass(frozen=True)
class Options:
    """What to judge, and where to.

    Attributes:
        folder: a run folder, or one above several, or the authors' released answers.
        out: gets judgements and scores in the layout of run folders; None puts them into the run folders.
        replace: whether judgements by another judge may be overwritten.
    """

    folder: Path
    out: Path | None
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
    """One file of answers, what was asked, and where the judgements go."""

    answered: Answered
    benchmark: Benchmark
    target: Path


def run(settings: Settings) -> None:
    """Judge what the configuration says, and print the scores."""
    console = Console(stderr=True)
    _quieten(console)
    options = settings.options("", Options)
    judge, tracker = settings.part("judge"), settings.part("logger")
    if isinstance(judge, NoJudge):
        raise InputError("judge=none judges nothing; choose openai, local, replay, gold or overlap")
    if isinstance(judge, Watched):
        judge.progress = Shown(console)
    tasks = _tasks(settings, options, judge)
    _announce(console, judge, tasks)
    table = _table(judge)
    try:
        for _, group in groupby(tasks, lambda task: task.target):
            _judge(list(group), judge, tracker, table, options)
    except LimitReachedError as limit:
        remaining = _estimate(judge, tasks)
        raise InputError(f"{limit} (in all {_remains(remaining)})") from limit
    finally:
        if table.row_count:
            Console().print(table)
        if isinstance(judge, Priced):
            console.print(f"{judge.name}: {judge.account}", highlight=False)


def _quieten(console: Console) -> None:
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    for name, value in (("TRANSFORMERS_VERBOSITY", "error"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)


def _tasks(settings: Settings, options: Options, judge: Judge) -> list[Task]:
    """Everything to judge; whatever could stop it halfway is found before the first call."""
    cache = cache_folder(settings.value("cache"))
    given = settings.value("benchmark") is not None
    chosen: Sequence[Benchmark] = settings.part("benchmark", cache=cache) if given else ()
    by_run: dict[Path | None, Mapping[str, Benchmark]] = {}
    tasks = []
    for one in answered_below(options.folder):
        if one.run not in by_run:
            benchmarks = chosen if given else _own_benchmarks(settings, one, cache)
            by_run[one.run] = {benchmark.name: benchmark for benchmark in benchmarks}
        if one.run is None and options.out is None:
            raise InputError(f"{one.file}: is a released file, beside which nothing is written; give out=FOLDER")
        if (benchmark := by_run[one.run].get(one.benchmark)) is not None:
            target = options.out / one.place if options.out is not None else one.file.parents[1]
            tasks.append(Task(one, benchmark, target))
    if not tasks:
        names = ", ".join(sorted({one.benchmark for one in answered_below(options.folder)}))
        raise InputError(f"{options.folder}: has answers to {names} and to no other benchmark; choose one of these")
    for task in tasks:
        _check(task, judge, options)
    return tasks


def _own_benchmarks(settings: Settings, one: Answered, cache: Path) -> Sequence[Benchmark]:
    """What a run was asked, by its own configuration."""
    if one.run is None or not (one.run / "config.yaml").is_file():
        raise InputError(f"{one.file}: no config.yaml says what was asked; give benchmark=…")
    benchmarks: Sequence[Benchmark] = settings.saved(one.run / "config.yaml", ["benchmark"]).part(
        "benchmark", cache=cache
    )
    return benchmarks


def _check(task: Task, judge: Judge, options: Options) -> None:
    """The answers are there and belong to the questions, and no other judge's work is lost."""
    read_answers(task.answered.file, task.benchmark)
    field = judge.compares_with
    if field != "nothing" and any(getattr(question, field) is None for question in task.benchmark.questions):
        raise InputError(
            f"benchmark {task.benchmark.name}: has questions without a {field}, which this judge compares with; give "
            f"benchmark.{field}=FILE, or choose another judge"
        )
    there = task.target / "judgements" / f"{task.benchmark.name}.jsonl"
    if there.is_file() and not options.replace:
        judges = {str(line.get("judge")) for line in read_jsonl(there)}
        if judges - {judge.name}:
            raise InputError(
                f"{there}: holds judgements by {', '.join(sorted(judges))}; give out=FOLDER to keep them beside those of "
                f"{judge.name}, or replace=true"
            )


def _announce(console: Console, judge: Judge, tasks: Sequence[Task]) -> None:
    models = len({task.target for task in tasks})
    console.print(f"[bold]{escape(judge.name)}[/bold] judges the answers of {models:,} models", highlight=False)
    if isinstance(judge, Priced):
        console.print(_remains(_estimate(judge, tasks)), highlight=False)


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


def _judge(tasks: Sequence[Task], judge: Judge, tracker: Tracker, table: Table, options: Options) -> None:
    """Judge one round's answers, to one benchmark or more."""
    first = tasks[0]
    with _open(first, tracker, options) as log:
        scores = {}
        for task in tasks:
            one = task.answered
            scores[one.benchmark] = judge_answers(one.file, one.round, task.benchmark, judge, task.target)
            _add_row(table, task, scores[one.benchmark])
        if log is not None:
            log.metrics({"round": first.answered.round, **logged(scores, list(scores))})


@contextmanager
def _open(task: Task, tracker: Tracker, options: Options) -> Iterator[RoundLog | None]:
    """The run folder, locked, and the round's logged run; neither where the judgements go elsewhere."""
    run = task.answered.run
    if options.out is not None or run is None:
        if run is not None and options.out is not None:
            _copy_identity(run, options.out / task.answered.place.parents[1])
        yield None
        return
    file = run / "fingerprint.json"
    folder = RunFolder(run, read_json(file) if file.is_file() else {})
    t = task.answered.round
    name = RunName(group=folder.name, name=f"round-{t:02d}", id=folder.round_id(t))
    with folder.locked(), opened(tracker, name, run, {}) as log:
        yield log


def _copy_identity(run: Path, target: Path) -> None:
    """What says which seed a run had and which rows it began with: judgements are compared by these."""
    for name in ("fingerprint.json", "rounds/00/round.json"):
        if (run / name).is_file() and not (target / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run / name, target / name)


def _table(judge: Judge) -> Table:
    caption = "interval: 95 % over questions; length: rank correlation of the lead in score with the lead in words"
    table = Table(title="Scores", caption=escape("\n".join(filter(None, [caption, judge.label]))))
    for heading in ("run", "round", "benchmark", "relative score", "win/tie/lose", "flips", "unparsed", "length"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("run", "benchmark") else "right")
    return table


def _add_row(table: Table, task: Task, score: Mapping[str, Any]) -> None:
    length = score["length"]["rank_correlation"]
    cells = (
        str(task.target.parents[1]), str(task.answered.round), task.benchmark.name,
        f"{score['relative_score']:.2f} [{score['ci_low']:.2f}, {score['ci_high']:.2f}]",
        f"{score['win']}/{score['tie']}/{score['lose']}",
        "" if score["order_flips"] is None else str(score["order_flips"]),
        str(score["unparsed"]), "" if length is None else f"{length:+.2f}",
    )  # fmt: skip
    table.add_row(*map(escape, cells))
