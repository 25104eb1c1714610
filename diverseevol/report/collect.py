"""What lies below the folders given to a report, as plain records: runs, judged rounds, and a point for each number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.read_judgements import JudgementFile, find_judgements, named_run
from diverseevol.evaluation.scores.scoreboard import Scoreboard, ScoredRound, score_files
from diverseevol.evolution.metrics import KNOWN
from diverseevol.report.charts.lines import FULL, RELEASED_ROWS, Line, line_of
from diverseevol.report.frame import Frame, Point, frame_of, measured_points, score_point
from diverseevol.runs.metrics import MetricDescription, read_descriptions
from diverseevol.runs.round_folder import Round
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.saved_config import REWRITE, read_complete
from diverseevol.storage.files import read_json
from diverseevol.storage.links import refuse_files_from_outside
from diverseevol.storage.reading import refuse_special

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
    """

    folder: Path
    line: Line
    seed: int | None
    data: str
    planned: int | None
    rounds: tuple[Round, ...]
    config: Mapping[str, Any]
    metrics: Mapping[str, MetricDescription]

    @property
    def complete(self) -> bool:
        """Whether the last round that is there is the last of the schedule, or nothing was chosen after it."""
        if not self.rounds:
            return False
        return not self.rounds[-1].chosen or (self.planned is not None and self.rounds[-1].index >= self.planned)

    @property
    def name(self) -> str:
        """Source, schedule and seed, for people."""
        return f"{self.line.source}/{self.line.schedule}" + ("" if self.seed is None else f" seed {self.seed}")


@dataclass(frozen=True, eq=False)
class Collection:
    """All that a report is made of.

    Attributes:
        runs: sorted by line and seed.
        board: every judged model's scores, and warnings.
        judgements: by `ScoredRound.file`.
        points: every number.
        unplaced: judged models of which no round.json says how many rows they were trained on.
    """

    runs: tuple[Run, ...]
    board: Scoreboard
    judgements: Mapping[str, tuple[Judgement, ...]]
    points: tuple[Point, ...]
    unplaced: int

    @cached_property
    def frame(self) -> Frame:
        """The points as one table."""
        return frame_of(self.points)

    @property
    def lines(self) -> list[Line]:
        """Every line that has a point."""
        return sorted({point.line for point in self.points})

    def line(self, scored: ScoredRound) -> Line:
        """The line that a judged model is on."""
        for run in self.runs:
            if (run.line.source, run.line.schedule) == (scored.source, scored.schedule):
                return run.line
        return line_of(scored.source, scored.schedule)


def collect(folders: Sequence[Path], judgements: Sequence[Path] = ()) -> Collection:
    """Read everything below some folders.

    Args:
        folders: each a run folder or above some; what was judged is found there too.
        judgements: further folders or archives of judgements, own or released.

    Raises:
        InputError: a folder does not exist or holds nothing to report, a run is there twice, or something is damaged.
    """
    runs: list[Run] = []
    files: list[JudgementFile] = []
    for path in _outermost([*folders, *judgements]):
        own = [] if path.is_file() else [read_run(folder) for folder in _run_folders(path)]
        judged = list(find_judgements(path))
        if not own and not judged:
            raise InputError(
                f"{path}: holds neither a run folder (config.yaml, fingerprint.json and rounds/) nor judgements; give "
                f"a folder that `diverseevol evolve` or `diverseevol judge` wrote, or one above"
            )
        runs += own
        files += judged
    board = score_files(files)
    runs.sort(key=lambda run: (run.line, -1 if run.seed is None else run.seed))
    for run, following in pairwise(runs):
        if (run.line, run.seed) == (following.line, following.seed):
            raise InputError(
                f"{run.folder} and {following.folder}: are both {run.name}, so that one would be counted as a further "
                f"seed; report on one of them"
            )
    collected = Collection(tuple(runs), board, {file.file: file.judgements for file in files}, (), 0)
    rows = {_key(run.line, run.seed, done.index): len(done.trained_on) for run in runs for done in run.rounds}
    points = [*_measured(runs), *_judged(collected, rows)]
    unknown = [scored for scored in board.rounds if _rows_of(collected.line(scored), scored, rows) is None]
    unplaced = sum(collected.line(scored).kind != FULL for scored in unknown)
    return Collection(collected.runs, board, collected.judgements, tuple(points), unplaced)


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
    for config in sorted(path.rglob("config.yaml")):
        folder = config.parent
        if (folder / "fingerprint.json").is_file() or (folder / "rounds").is_dir():
            yield folder


def read_run(folder: Path) -> Run:
    """Read one run folder as far as its rounds are complete.

    Raises:
        InputError: a file of it is missing, cut off, edited, or a link out of the folder.
    """
    refuse_files_from_outside(folder)
    fingerprint = read_json(folder / "fingerprint.json", "restore it, or leave this folder out")
    if not isinstance(fingerprint, dict):
        raise InputError(f"{folder / 'fingerprint.json'}: holds no object; restore it, or leave this folder out")
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


def _measured(runs: Sequence[Run]) -> Iterator[Point]:
    """What round.json holds: every metric that is a number, and the seconds of each phase."""
    for run in runs:
        descriptions = {**run.metrics, **KNOWN}  # a folder may come from others, so it cannot redefine the project's
        for done in run.rounds:
            seconds = {**done.seconds, ALL_PHASES: sum(done.seconds.values())}
            values = {**done.metrics, **{f"seconds/{phase}": value for phase, value in seconds.items()}}
            values |= {f"{PEAK_MEMORY}/{phase}": size / GIGABYTE for phase, size in done.peak_memory.items()}
            yield from measured_points(run.line, run.seed, done.index, len(done.trained_on), values, descriptions)


def _judged(collected: Collection, rows: Mapping[tuple[Any, ...], int]) -> Iterator[Point]:
    for scored in collected.board.rounds:
        line = collected.line(scored)
        size = _rows_of(line, scored, rows)
        if size is None and line.kind != FULL:
            continue
        calls = (
            0 if not capabilities_of(scored.judge).calls or line.released else len(collected.judgements[scored.file])
        )
        yield score_point(
            line, scored.seed, scored.round, size, scored.benchmark, vars(scored.scores) | {"judge": scored.judge}
        )
        counts = {name: float(getattr(scored.scores, name)) for name in ("win", "tie", "lose")}
        for metric, value in (counts | ({JUDGE_CALLS: float(calls)} if calls else {})).items():
            key = f"{metric}/{scored.benchmark}"
            yield Point(line, scored.seed, scored.round, size, key, scored.judge, value, KNOWN[metric])


def _rows_of(line: Line, scored: ScoredRound, rows: Mapping[tuple[Any, ...], int]) -> int | None:
    if line.released:  # the published protocol
        return None if line.kind == FULL else RELEASED_ROWS[0] + RELEASED_ROWS[1] * scored.round
    return rows.get(_key(line, scored.seed, scored.round))


def _key(line: Line, seed: int | None, t: int) -> tuple[Any, ...]:
    return line.source, line.schedule, seed, t
