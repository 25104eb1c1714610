"""What a run folder has to say at the end of an evolution: a table, figures, and where everything is."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from diverseevol.evaluation.scores.frame import Frame, judged_row, measured_rows
from diverseevol.evaluation.scores.models import Model, named_run
from diverseevol.evaluation.scores.scores import read_scores
from diverseevol.evolution.metrics import KNOWN
from diverseevol.evolution.receipts import excerpt
from diverseevol.output.console import Console, styled
from diverseevol.output.tables import Table as TextTable
from diverseevol.output.tables import as_text, interval
from diverseevol.report.charts.lines import FULL, Line, line_of
from diverseevol.report.charts.titles import metric_order
from diverseevol.report.frame import frame_of_lines
from diverseevol.report.predictions import HEAD, predictions
from diverseevol.runs.metrics import MetricDescription, MetricKey, read_descriptions
from diverseevol.runs.round_folder import REDO, Round
from diverseevol.runs.subset import RECEIPTS, SELECTED
from diverseevol.storage.files import read_json, read_jsonl

CELL, SCORE = 9, 22  # characters of a column of numbers, and of a score beside its interval
ASIDE = 5  # questions whose first and last answers are shown


@dataclass(frozen=True)
class RoundResult:
    """What is shown of a round: the rows of its pool, its metrics, and its scores by benchmark as in `scores.json`."""

    rows: int
    metrics: Mapping[str, float]
    scores: Mapping[str, Mapping[str, Any]]


def show(folder: Path, rounds: Sequence[Round], console: Console, *, draw: bool = True, examples: bool = True) -> None:
    """Print the table of rounds, draw the figures, and say where the files are.

    Args:
        folder: the run folder.
        rounds: its rounds.
        console: where to print.
        draw: whether figures are drawn; else those that are there stay as they are.
        examples: whether some questions are shown with their answers.
    """
    results = [RoundResult(len(done.trained_on), done.metrics, _scores(folder, done.index)) for done in rounds]
    level = _all_rows(folder, results[-1])
    names = [str(done.index) for done in rounds]
    console.print("what each round's model learned from its pool", style="bold")
    listed = (names, results) if level is None else ([*names, "all"], [*results, level])
    known = _known(folder)
    columns = _columns(results, known)
    console.print(_table(*listed, columns, console))
    console.print()
    judged = [score for result in results for score in result.scores.values()]
    explained = [f"{' '.join(heading.split())}: {about.in_words or about.title}" for _, heading, about in columns]
    if judged:
        explained.append(
            "RS: relative score; its 95 % interval over questions (in scores.json, too) says nothing about other seeds"
        )
    _print_dim("; ".join(explained), console)
    if judged and rounds[-1].index and not level:
        _print_dim(
            "for a line of what all rows reach: this command with schedule=full and no other schedule option, then "
            "as it was",
            console,
        )
    labels = sorted({score["label"] for score in judged if score.get("label")})  # of the scores' own judge
    for label in labels:
        console.print(label, style="bold")
    for name in _benchmarks(results)[: int(examples)]:
        _side_by_side(folder, name, (rounds[0], rounds[-1]), console)
    if foretold := predictions(rounds):
        lines = [each.cells() for each in foretold]
        console.print(as_text(TextTable("seconds: predicted beside actual", HEAD, lines)))
    if draw:
        # Here, for matplotlib takes long to import.
        from diverseevol.report.charts.gallery import draw_run

        drawn = draw_run(folder, run_frame(folder, results, level), labels)
    else:
        drawn = [file for file in sorted(folder.glob("*.png")) if file.is_file()]
    console.print(styled(("where everything is", "bold"), f": {folder}/"))
    for name, description in (
        *((figure.name, "figure") for figure in drawn),
        (SELECTED, "the rows, in the order in which they joined"),
        (RECEIPTS, "which rows these are, and why each was chosen"),
        ("rounds/", "each round's picks" + (", answers and what they were judged" if judged else "")),
        ("config.yaml", "the configuration, resolved"),
    ):
        console.print(styled(f"  {name:<18}  ", (description, "dim")))


def run_frame(folder: Path, results: Sequence[RoundResult], level: RoundResult | None = None) -> Frame:
    """The rounds of a run as a report has them.

    Args:
        folder: the run folder, by whose fingerprint the line is named.
        results: of its rounds, in their order.
        level: what all rows reach; None where that is not known.
    """
    file = folder / "fingerprint.json"
    source, schedule, seed = named_run(folder)
    line = line_of(source, schedule, read_json(file) if file.exists() else {})
    known = _known(folder)
    rows = [row for t, result in enumerate(results) for row in _rows(line, seed, t, result, known)]
    if level is not None:
        full = dataclasses.replace(line, schedule=FULL, sampler=FULL, kind=FULL)
        rows += _rows(full, seed, 0, level, known)
    return frame_of_lines(rows)


def _known(folder: Path) -> dict[str, MetricDescription]:
    # The project's own come first, in their order, and no folder redefines them.
    return {**KNOWN, **read_descriptions(folder), **KNOWN}


def _rows(
    line: Line, seed: int | None, t: int, result: RoundResult, known: Mapping[str, MetricDescription]
) -> Iterator[dict[str, Any]]:
    model = Model(line.source, line.schedule, seed, t, result.rows)
    for row in measured_rows(model, result.metrics, known):
        yield {**row, "line": line}
    for name, scores in result.scores.items():
        yield {**judged_row(model, name, scores), "line": line}


def _print_dim(text: str, console: Console) -> None:
    console.print(text, style="dim", soft_wrap=False)


Column = tuple[str, str, MetricDescription]  # the metric's logged name, the heading, how it is read


def _columns(results: Sequence[RoundResult], known: Mapping[str, MetricDescription]) -> list[Column]:
    """The metrics that all rounds have, as far as they have a heading; metrics of one heading go by their names."""
    shared = [key for key in results[0].metrics if all(key in result.metrics for result in results)]
    columns: list[Column] = []
    for about in known.values():
        keys = [key for key in shared if about.heading and MetricKey.parse(key).name == about.name]
        for key in sorted(keys, key=metric_order):
            columns.append((key, "\n".join(filter(None, (about.heading, MetricKey.parse(key).part))), about))
    headings = [heading for _, heading, _ in columns]
    return [(key, heading if headings.count(heading) == 1 else key, about) for key, heading, about in columns]


def _table(names: Sequence[str], results: Sequence[RoundResult], columns: Sequence[Column], console: Console) -> Table:
    """A line a round: its pool, and what its model learned from it."""
    benchmarks = _benchmarks(results)
    # Where there is little room, intervals are left to scores.json: a number that is cut says something else.
    wide = console.width >= CELL * (len(columns) + 1) + SCORE * len(benchmarks)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, int(wide), 0, 0), pad_edge=False, show_edge=False)
    content = [
        ("round", list(names)),
        *((heading, [format(r.metrics[key], about.form) for r in results]) for key, heading, about in columns),
        *((f"RS\n{name}", [_score(r.scores.get(name), wide) for r in results]) for name in benchmarks),
    ]
    for heading, cells in content:
        width = max(map(len, cells))
        table.add_column(heading, justify="right", vertical="bottom", overflow="fold", min_width=width)
    for row in zip(*(cells for _, cells in content), strict=True):
        table.add_row(*row)
    return table


def _benchmarks(results: Sequence[RoundResult]) -> list[str]:
    return sorted({name for result in results for name in result.scores})


def _all_rows(folder: Path, last: RoundResult) -> RoundResult | None:
    """What all rows reach: a run with schedule=full on the same data, model and tuning, next door in the outputs.

    Of its scores those that can stand beside the last round's: on as many questions, by the same judge.
    """

    def same(run: Path) -> dict[str, Any]:
        facts = read_json(run / "fingerprint.json", "restore it, or move this run folder away").items()
        return {key: value for key, value in facts if not key.startswith(("sampler", "schedule.", "seed"))}

    files = folder.absolute().parent.parent.glob("*-full*/seed*/rounds/00/round.json")
    runs = [run for file in sorted(files) if ((run := file.parents[2]) / "fingerprint.json").exists()]
    runs = [run for run in runs if run != folder.absolute() and same(run) == same(folder)]
    runs.sort(key=lambda run: run.name != folder.name)  # the same seed first
    if not runs:
        return None
    metrics = read_json(runs[0] / "rounds/00/round.json")["metrics"]
    scores = _scores(runs[0], 0)

    def alike(name: str) -> bool:
        return all(scores[name].get(key) == last.scores[name].get(key) for key in ("judge", "questions"))

    shared = [name for name in scores if name in last.scores and alike(name)]
    return RoundResult(int(metrics["pool_size"]), metrics, {name: scores[name] for name in shared})


def _side_by_side(folder: Path, benchmark: str, ends: tuple[Round, Round], console: Console) -> None:
    """Print some questions with the answers of the first and the last round's model, and what each was given."""
    first, last = (_answered(folder / "rounds" / f"{end.index:02d}", benchmark) for end in ends)
    if ends[0].index == ends[1].index or not first or first.keys() != last.keys():
        return
    sizes = [f"{len(end.trained_on):,}" for end in ends]
    table = Table(
        title=f"some answers to {benchmark} of models of {' and '.join(sizes)} rows",
        title_justify="left",
        show_lines=True,
    )
    for heading in ("question", *(f"round {end.index}, {n} rows" for end, n in zip(ends, sizes, strict=True))):
        table.add_column(heading, overflow="fold")
    questions = list(first)
    for question in dict.fromkeys(questions[i * (len(questions) - 1) // (ASIDE - 1)] for i in range(ASIDE)):
        (asked, before), (_, after) = first[question], last[question]
        table.add_row(asked, before, after)
    console.print(table)


def _answered(round_folder: Path, benchmark: str) -> dict[str, tuple[str, str]]:
    """By question: what was asked, and the answer with its score out of ten."""
    files = [round_folder / kind / f"{benchmark}.jsonl" for kind in ("answers", "judgements")]
    if not all(file.exists() for file in files):
        return {}
    answers, judgements = (read_jsonl(file, REDO) for file in files)
    scores: dict[str, list[float]] = {}
    for judgement in judgements:
        if judgement["model_score"] is not None:
            scores.setdefault(judgement["question_id"], []).append(judgement["model_score"])
    answered = {}
    for line in answers:
        own = scores.get(line["id"])
        mark = f"  [{sum(own) / len(own):.3g}]" if own else ""
        question = excerpt("\n".join(filter(None, (line["instruction"], line["input"]))))
        answered[line["id"]] = question, f"{excerpt(line['answer'])}{mark}"
    return answered


def _scores(folder: Path, t: int) -> dict[str, Mapping[str, Any]]:
    return read_scores(folder / "rounds" / f"{t:02d}")


def _score(score: Mapping[str, Any] | None, wide: bool) -> str:
    if score is None:
        return "–"
    ends = f" {interval(score['ci_low'], score['ci_high'], '.1f')}" if wide else ""
    return f"{score['relative_score']:.1f}{ends}"
