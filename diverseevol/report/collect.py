"""What lies below the folders given to a report, as runs, scores, and one table of numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.frame import Frame, Row, measured_rows
from diverseevol.evaluation.scores.models import Model, named_run
from diverseevol.evaluation.scores.read_judgements import JudgedAnswers, find_judgements
from diverseevol.evaluation.scores.scoreboard import Scoreboard, score_files
from diverseevol.evolution.metrics import KNOWN
from diverseevol.report.charts.lines import FULL, RELEASED_ROWS, Line, line_of
from diverseevol.report.frame import frame_of_lines
from diverseevol.report.sources import OF_ALL_ROWS, OF_POOL, SourceRows, shares, sources_of
from diverseevol.runs.metrics import MetricDescription, read_descriptions
from diverseevol.runs.round_folder import Round
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.saved_config import REWRITE, read_complete
from diverseevol.storage.files import read_json
from diverseevol.storage.links import refuse_files_from_outside
from diverseevol.storage.reading import files_below, refuse_special

JUDGE_CALLS = "judge calls"  # the name of that metric
ALL_PHASES = "all phases"
PEAK_MEMORY = "peak_memory"
GIGABYTE = 1e9


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder.

    Attributes:
        folder: its path.
        line: what it is a seed of.
        seed: None where neither path nor fingerprint says it.
        data: the data set's own fingerprint, so that runs on the same rows are known.
        planned: the schedule's last round; None where config.yaml does not say it.
        rounds: the complete ones.
        config: config.yaml as plain values.
        metrics: those that the folder describes, by name.
        sources: of the rows, where they are a mixture.
    """

    folder: Path
    line: Line
    seed: int | None
    data: str
    planned: int | None
    rounds: tuple[Round, ...]
    config: Mapping[str, Any]
    metrics: Mapping[str, MetricDescription]
    sources: tuple[SourceRows, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the last round that is there is the last of the schedule, or the evolution ended after it."""
        if not self.rounds:
            return False
        ended = not self.rounds[-1].chosen or self.rounds[-1].stopped is not None
        return ended or (self.planned is not None and self.rounds[-1].index >= self.planned)

    @cached_property
    def joined(self) -> dict[int, int]:
        """The round that first trained on each row of the last pool, and on those chosen for the next one."""
        rounds: dict[int, int] = {}
        for done in self.rounds:
            for t, rows in ((done.index, done.trained_on), (done.index + 1, done.chosen)):
                for row in rows:
                    rounds.setdefault(row, t)
        return rounds

    @property
    def name(self) -> str:
        """Source, schedule and seed, for people."""
        return f"{self.line.source}/{self.line.schedule}" + ("" if self.seed is None else f" seed {self.seed}")


@dataclass(frozen=True, eq=False)
class Collection:
    """All that a report is made of.

    Attributes:
        runs: sorted by line and seed.
        board: every judged model's scores, each with its `line`, and warnings.
        judgements: by the file of a score.
        frame: every number; see `frame_of_lines`.
        unplaced: judged models of which no round.json says how many rows they were trained on.
    """

    runs: tuple[Run, ...]
    board: Scoreboard
    judgements: Mapping[str, tuple[Judgement, ...]]
    frame: Frame
    unplaced: int

    @property
    def lines(self) -> list[Line]:
        """Every line that has a number."""
        return sorted(set(self.frame.line))


def collect(folders: Sequence[Path], judgements: Sequence[Path] = ()) -> Collection:
    """Read everything below some folders.

    Args:
        folders: each a run folder or above some; what was judged is found there too.
        judgements: further folders or archives of judgements, own or released.

    Raises:
        InputError: a folder does not exist or holds nothing to report, a run is there twice, or something is damaged.
    """
    runs: list[Run] = []
    files: list[JudgedAnswers] = []
    for path in _outermost([*folders, *judgements]):
        own = [] if path.is_file() else [read_run(folder) for folder in _run_folders(path)]
        below = list(find_judgements(path))
        if not own and not below:
            raise InputError(
                f"{path}: holds neither a run folder (config.yaml, fingerprint.json and rounds/) nor judgements; give "
                f"a folder that `diverseevol evolve` or `diverseevol judge` wrote, or one above"
            )
        runs += own
        files += below
    board = score_files(files)
    runs.sort(key=lambda run: (run.line, -1 if run.seed is None else run.seed))
    for run, following in pairwise(runs):
        if (run.line, run.seed) == (following.line, following.seed):
            raise InputError(
                f"{run.folder} and {following.folder}: are both {run.name}, so that one would be counted as a further "
                f"seed; report on one of them"
            )
    lines = {(run.line.source, run.line.schedule): run.line for run in reversed(runs)}
    schedules = zip(board.frame.source, board.frame.schedule, strict=True)
    board.frame["line"] = [lines.get(names) or line_of(*names) for names in schedules]
    by_file = {file.file: file.judgements for file in files}
    sizes = {
        (run.line.source, run.line.schedule, run.seed, done.index): len(done.trained_on)
        for run in runs
        for done in run.rounds
    }
    placed: list[dict[str, Any]] = []
    unplaced = 0
    for row in board.frame.itertuples(index=False):
        size = _size(row, sizes)
        if size is not None or row.line.kind == FULL:
            placed += _judged(row._replace(rows=size), len(by_file[row.file]))
        else:
            unplaced += 1
    return Collection(tuple(runs), board, by_file, frame_of_lines([*_measured(runs), *placed]), unplaced)


def _outermost(paths: Sequence[Path]) -> list[Path]:
    """Each path once: not those below another."""
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such folder; give one that holds run folders or judgements")
        refuse_special(path)
    resolved = sorted({path.resolve() for path in paths})
    return [path for path in resolved if not any(above in path.parents for above in resolved)]


def _run_folders(path: Path) -> Iterator[Path]:
    """Folders with a configuration and rounds or a fingerprint; copies for judges have no configuration."""
    for config in sorted(files_below(path)):
        folder = config.parent
        if config.name == "config.yaml" and ((folder / "fingerprint.json").is_file() or (folder / "rounds").is_dir()):
            yield folder


def lines_below(path: Path) -> list[Line]:
    """The lines of the run folders below a folder, as far as they have a fingerprint; none in an archive."""
    folders = _run_folders(path.resolve()) if path.is_dir() else ()
    return [
        line_of(*named_run(folder)[:2], _fingerprint(folder))
        for folder in folders
        if (folder / "fingerprint.json").is_file()
    ]


def _fingerprint(folder: Path) -> dict[str, Any]:
    refuse_files_from_outside(folder)
    fingerprint = read_json(folder / "fingerprint.json", "restore it, or leave this folder out")
    if not isinstance(fingerprint, dict):
        raise InputError(f"{folder / 'fingerprint.json'}: holds no object; restore it, or leave this folder out")
    return fingerprint


def read_run(folder: Path) -> Run:
    """Read one run folder as far as its rounds are complete.

    Raises:
        InputError: a file of it is missing, cut off, edited, or a link out of the folder.
    """
    fingerprint = _fingerprint(folder)
    config = read_complete(folder / "config.yaml", f"{REWRITE}, or leave this folder out")
    source, schedule, seed = named_run(folder)
    recorded = fingerprint.get("seed")
    planned = config.get("schedule", {}).get("rounds") if isinstance(config.get("schedule"), dict) else None
    return Run(
        folder=folder,
        line=line_of(source, schedule, fingerprint),
        seed=recorded if seed is None and isinstance(recorded, int) else seed,
        data=str(fingerprint.get("data")),
        planned=planned if isinstance(planned, int) else None,
        rounds=tuple(_rounds(RunFolder(folder, fingerprint))),
        config=config,
        metrics=read_descriptions(folder),
        sources=sources_of(folder),
    )


def _rounds(run: RunFolder) -> Iterator[Round]:
    start = run.round(0).path / "round.json"
    if not start.exists():
        return
    content = read_json(start)
    rows = content.get("trained_on") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise InputError(f"{start}: lacks trained_on; restore it, or delete the folder of this round to redo it")
    t, done = 0, run.round(0).load(rows)
    while done is not None:
        yield done
        if not done.chosen:
            return
        t, rows = t + 1, [*rows, *done.chosen]
        done = run.round(t).load(rows)


def _measured(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """What round.json holds: every metric that is a number, and the seconds of each phase."""
    for run in runs:
        # A folder may come from others, so it cannot redefine the project's.
        descriptions = {**run.metrics, **KNOWN, OF_POOL.name: OF_POOL, OF_ALL_ROWS.name: OF_ALL_ROWS}
        for done in run.rounds:
            seconds = {**done.seconds, ALL_PHASES: sum(done.seconds.values())}
            values = {**done.metrics, **{f"seconds/{phase}": value for phase, value in seconds.items()}}
            values |= {f"{PEAK_MEMORY}/{phase}": size / GIGABYTE for phase, size in done.peak_memory.items()}
            values |= shares(run.sources, done.trained_on)
            model = Model(run.line.source, run.line.schedule, run.seed, done.index, len(done.trained_on))
            for row in measured_rows(model, values, descriptions):
                yield {**row, "line": run.line}


def _judged(row: Row, judgements: int) -> Iterator[dict[str, Any]]:
    """The relative score of a model, the verdicts on its answers, and the calls that they took."""
    score = row._asdict()
    yield score
    counts = {name: getattr(row.scores, name) for name in ("win", "tie", "lose")}
    if capabilities_of(row.judge).calls and not row.line.released:
        counts[JUDGE_CALLS] = judgements
    for name, count in counts.items():
        facts = {"metric": f"{name}/{row.benchmark}", "value": count, "description": KNOWN[name], "scores": None}
        yield {**score, **facts, "low": None, "high": None}


def _size(row: Row, sizes: Mapping[tuple[Any, ...], int]) -> int | None:
    """The rows that a judged model was trained on; None where that is not known."""
    if row.line.released:  # the published protocol
        return None if row.line.kind == FULL else RELEASED_ROWS[0] + RELEASED_ROWS[1] * row.round
    return sizes.get((row.source, row.schedule, row.seed, row.round))
