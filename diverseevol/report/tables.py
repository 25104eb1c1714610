"""The report's tables: plain cells, which become HTML in the page and CSV beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diverseevol.evaluation.scores.comparison import best_rounds, t_test
from diverseevol.evaluation.scores.frame import Frame
from diverseevol.output.sheets import write_csv
from diverseevol.output.tables import interval
from diverseevol.report.charts.lines import FULL, Line, sources
from diverseevol.report.charts.titles import metric_order
from diverseevol.report.collect import ALL_PHASES, Collection, Run
from diverseevol.report.frame import descriptions
from diverseevol.report.predictions import HEAD, predictions
from diverseevol.report.sources import OF_ALL_ROWS, OF_POOL, shares
from diverseevol.report.stopping import StopOfCurve, in_words, recommend
from diverseevol.report.verdicts import Verdict
from diverseevol.runs.metrics import MetricKey
from diverseevol.runs.round_folder import REDO
from diverseevol.storage.files import read_jsonl

Cell = str | Line  # a line is shown by its name, in its colour


@dataclass(frozen=True)
class Table:
    """Head and rows; `name` is its file's, `about` what its title says of the pools that are side by side in it."""

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    about: str = ""

    def texts(self, names: Mapping[Line, str]) -> list[list[str]]:
        """The rows with lines by their names."""
        return [[names[cell] if isinstance(cell, Line) else cell for cell in row] for row in self.rows]


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """A row a sampler, baseline and benchmark."""
    head = (
        "source", "sampler", "against", "benchmark", "judge", "rounds", "rows", "seeds", "difference",
        "95 % interval", "verdict", "model against model, by seed",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for verdict in verdicts:
        s = verdict.samplers
        models = [f"{'' if m.seed is None else f'{m.seed}: '}{m.verdict} ({m.difference:+.1f})" for m in verdict.models]
        rows.append((
            s.source, verdict.line, verdict.against, s.benchmark, s.judge, _pair(s.rounds), _sizes(s.rows),
            str(len(s.seeds)), "" if s.mean_difference is None else f"{s.mean_difference:+.2f}",
            interval(s.ci_low, s.ci_high, "+.2f"), verdict.says, "; ".join([*models, *_left_out(s.left_out)]),
        ))  # fmt: skip
    sizes = {verdict.samplers.rows[0] for verdict in verdicts} - {None}
    unlike = len(sizes) > 1 or any(
        verdict.against.kind != FULL and len(set(verdict.samplers.rows)) > 1 for verdict in verdicts
    )
    about = "pools of different sizes" if unlike else "".join(f"pools of {size:,} rows" for size in sizes)
    return Table("verdicts", head, tuple(rows), about)


def _left_out(reasons: Sequence[str]) -> list[str]:
    """Seeds that do not pair, those of one reason together."""
    seeds: dict[str, list[str]] = {}
    for seed, _, reason in (text.partition(": ") for text in reasons):
        seeds.setdefault(reason, []).append(seed.removeprefix("seed "))
    return [f"left out, seed{'s' * (len(of) > 1)} {', '.join(of)}: {reason}" for reason, of in seeds.items()]


def _sizes(rows: tuple[int | None, int | None]) -> str:
    known = ["all" if size is None else f"{size:,}" for size in dict.fromkeys(rows)]
    return "" if rows == (None, None) else " and ".join(known)


def _about(lines: Iterable[tuple[Line, int | None]]) -> str:
    """What a title says of lines at their ends: that their pools differ in size, where they do."""
    sizes = {size for line, size in lines if line.kind != FULL}
    return "pools of different sizes" if len(sizes) > 1 else ""


def _pair(rounds: tuple[int, int]) -> str:
    return str(rounds[0]) if rounds[0] == rounds[1] else f"{rounds[0]} and {rounds[1]}"


def final_table(collection: Collection) -> Table:
    """The final judged round of each line, over seeds; the best round beside it, as what it is."""
    head = (
        "source", "sampler", "benchmark", "judge", "final round", "rows", "seeds", "relative score",
        "95 % interval over seeds", "by seed [95 % over questions]", "best round, picked after the fact",
    )  # fmt: skip
    scores = collection.board.frame
    rows = {(n.line, n.seed, n.round): n.rows for n in collection.frame.itertuples()}
    best = {(b.source, b.judge, b.benchmark, b.schedule, b.seed): b for b in best_rounds(scores).itertuples()}
    order = sources(scores.line)
    lines: list[tuple[Cell, ...]] = []
    shown: list[tuple[Line, int | None]] = []
    for (line, benchmark, judge), judged in sorted(
        scores.groupby(["line", "benchmark", "judge"], sort=False),
        key=lambda group: (order.index(group[0][0].source), group[0][0].kind == FULL, group[0]),
    ):
        last = judged["round"].max()
        final = judged[judged["round"] == last]
        models = list(final.itertuples())
        known = rows.get((line, models[0].seed, last), np.nan)
        size = None if np.isnan(known) else int(known)
        shown.append((line, size))
        test = t_test(final.value.to_numpy(np.float64))
        peaks = [best[m.source, m.judge, m.benchmark, m.schedule, m.seed] for m in models]
        peak = "; ".join(f"{_seed(b.seed)}round {b.round}, {b.relative_score:.1f}" for b in peaks)
        by_seed = "; ".join(
            f"{_seed(m.seed)}{m.value:.1f} {interval(m.scores.ci_low, m.scores.ci_high, '.1f')}" for m in models
        )
        lines.append((
            line.source, line, benchmark, judge, str(last), "all" if size is None else f"{size:,}", str(len(models)),
            f"{final.value.mean():.2f}", interval(*test[:2]) if test else "", by_seed,
            "" if line.kind == FULL else peak,
        ))  # fmt: skip
    return Table("final_rounds", head, tuple(lines), _about(shown))


def _seed(seed: int | None) -> str:
    return "" if seed is None else f"seed {seed}: "


def pool_table(frame: Frame) -> Table:
    """What was measured of each line's last pool: mean over the seeds that reached it, and their range."""
    described = {key: each for key, each in descriptions(frame).items() if each.heading and each.name != "pool_size"}
    names = {key: described[key].titled(MetricKey.parse(key).part) for key in sorted(described, key=metric_order)}
    names[f"seconds/{ALL_PHASES}"] = "seconds of the round"
    measured = frame[frame.metric.isin(names)]
    rows: list[tuple[Cell, ...]] = []
    shown: list[tuple[Line, int | None]] = []
    for line in sorted(set(measured.line), key=lambda line: (line.source, line.kind == FULL, line)):
        final = measured[measured.line == line]
        last = final["round"].max()
        final = final[final["round"] == last]
        cells = [_range(final[final.metric == metric].value.tolist()) for metric in names]
        size = int(final.rows.max())
        shown.append((line, size))
        rows.append((line.source, line, str(last), f"{size:,}", str(len(set(final.seed))), *cells))
    head = ("source", "sampler", "final round", "rows", "seeds", *names.values())
    return Table("final_pools", head, tuple(rows), _about(shown))


def _range(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{np.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} {interval(min(values), max(values), '.4g')}"


def stopping_table(stops: Sequence[StopOfCurve]) -> Table:
    """A row a line: what to do, and until when each curve paid."""
    rows: list[tuple[Cell, ...]] = []
    order = sources(each.line for each in stops)
    titles = {each.metric: each.description.titled() for each in stops if not each.judge}
    for line in sorted({each.line for each in stops}, key=lambda line: (order.index(line.source), line)):
        own = [each for each in stops if each.line == line]
        scores = [each for each in own if each.judge]
        pool = {each.metric: each.stop for each in own if not each.judge}
        advice = recommend([each.stop for each in scores], list(pool.values()))
        paid = "; ".join(f"{MetricKey.parse(each.metric).part}: {in_words(each.stop)}" for each in scores)
        measured = [in_words(pool[key]) if key in pool else "" for key in titles]
        rows.append((line.source, line, advice, paid, *measured))
    head = (
        "source",
        "sampler",
        "recommendation",
        "relative score paid",
        *(f"{title}: paid" for title in titles.values()),
    )
    return Table("stopping", head, tuple(rows))


def run_table(runs: Sequence[Run]) -> Table:
    """What was found, and how far each run has come."""
    rows = tuple(
        (run.line.source, run.line, "" if run.seed is None else str(run.seed), status(run), _shown_path(run.folder))
        for run in runs
    )
    return Table("runs", ("source", "sampler", "seed", "rounds", "folder"), rows)


def source_table(runs: Sequence[Run]) -> Table:
    """Of each run on a mixture: the share of each source of all rows, of the first pool and of the last."""
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        first, last = (shares(run.sources, run.rounds[t].trained_on if run.rounds else ()) for t in (0, -1))
        for source in run.sources if run.rounds else ():
            of_all, of_first, of_last = (
                f"{values[f'{metric.name}/{source.name}']:.1%}"
                for values, metric in ((first, OF_ALL_ROWS), (first, OF_POOL), (last, OF_POOL))
            )
            seed = "" if run.seed is None else str(run.seed)
            rows.append((run.line.source, run.line, seed, source.name, of_all, of_first, of_last))
    head = (
        "source",
        "sampler",
        "seed",
        "rows from",
        "share of all rows",
        "share of the first pool",
        "share of the last pool",
    )
    return Table("sources", head, tuple(rows))


def prediction_table(runs: Sequence[Run]) -> Table:
    """How long each phase was going to take by the plan, beside how long it took, over all rounds."""
    predicted = predictions(done for run in runs for done in run.rounds)
    return Table("predictions", HEAD, tuple(line.cells() for line in predicted))


def _shown_path(folder: Path) -> str:
    """As seen from where the report is made, if it lies below: a page that is sent round tells no more than it must."""
    working_folder = Path.cwd()
    return str(folder.relative_to(working_folder)) if folder.is_relative_to(working_folder) else str(folder)


def status(run: Run) -> str:
    """How far a run has come."""
    complete = len(run.rounds)
    if run.complete:
        return f"complete: {complete} round{'' if complete == 1 else 's'}"
    planned = "" if run.planned is None else f" of {run.planned + 1}"
    if not complete:
        return f"incomplete: no round{planned} is complete yet"
    return f"incomplete: {complete}{planned} rounds are complete"


def write_table(table: Table, names: dict[Line, str], folder: Path) -> None:
    """Write NAME.csv."""
    write_csv(folder / f"{table.name}.csv", table.head, table.texts(names))


def write_points(frame: Frame, folder: Path) -> None:
    """Write points.csv: a line a number."""
    head = ("source", "schedule", "sampler", "kind", "seed", "round", "rows", "metric", "judge", "value")
    rows = (
        (p.source, p.schedule, p.line.sampler, p.line.kind, p.seed, p.round, None if np.isnan(p.rows) else int(p.rows),
         p.metric, p.judge, f"{p.value:.10g}")
        for p in frame.itertuples()
    )  # fmt: skip
    write_csv(folder / "points.csv", head, rows)


def write_picks(runs: Sequence[Run], folder: Path) -> None:
    """Write picks.csv: a line a row that was chosen, from the selection receipts."""
    keys = ("rank", "row", "score", "distance", "nearest")
    rows = (
        (run.line.source, run.line.schedule, run.seed, done.index, *(line.get(key) for key in keys))
        for run in runs
        for done in run.rounds
        if done.chosen
        for line in read_jsonl(run.folder / "rounds" / f"{done.index:02d}" / "chosen.jsonl", REDO)
    )
    write_csv(folder / "picks.csv", ("source", "schedule", "seed", "round", *keys), rows)
