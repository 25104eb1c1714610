"""The paper's figure 2, from the authors' released judgements: relative score against training rows, with intervals.

    python experiments/table_vicuna.py PLACE [OUT]

PLACE is a folder or archive with `<benchmark>_test/<schedule>/rd_<t>_vs_chat.jsonl` somewhere below: Vicuna-Bench is
the figure's first column, and other benchmarks' folders become further columns. OUT (default outputs/table-vicuna) gets
the table as CSV and the figure as PNG. The protocol: round t was trained on 100 + 100 t rows; "all rows" is one model.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.frame import Row
from diverseevol.evaluation.scores.scoreboard import PAPER_QUESTIONS
from diverseevol.evaluation.scores.scores import INTERVAL
from diverseevol.evaluation.scores.tables import write_scores_csv
from diverseevol.output.console import results_console
from diverseevol.output.tables import interval
from diverseevol.output.terminal import LONGEST, say
from diverseevol.report.charts.gallery import draw_run
from diverseevol.report.collect import collect

SAMPLERS = {"kc": "K-Center", "rand": "random", "lc": "least confidence", "ms": "margin", "baseline": "all rows"}
DATA = {"dolly": "Dolly", "davinci": "SelfInstruct-Davinci", "gpt4": "SelfInstruct-GPT4"}
INITIAL, STEP = 100, 100


def main(arguments: Sequence[str]) -> int:
    """Print the tables, and write the CSV and the figure."""
    if not 1 <= len(arguments) <= 2 or not arguments[0] or not Path(arguments[0]).exists():
        say(
            f"table_vicuna: {' '.join(arguments) or 'no folder'}: holds no released judgements; they are the folder "
            f"evol_gpt4_judge_reference of the authors' repository (github.com/OFA-Sys/DiverseEvol): give it, one "
            f"below it or an archive (make table-vicuna JUDGEMENTS=FOLDER)",
            error=True, longest=LONGEST,
        )  # fmt: skip
        return 2
    out = Path(arguments[1] if len(arguments) == 2 else "outputs/table-vicuna")
    try:
        collection = collect([], [Path(arguments[0])])
        scores = collection.board.frame
        scores = scores[[bool(sampler_of(each)) for each in scores.itertuples()]]
        if not len(scores):
            raise InputError(f"{arguments[0]}: holds none of the released schedules, which are named like kc_dolly_…")
    except InputError as error:
        say(f"table_vicuna: {error}", error=True, longest=LONGEST)
        return 2
    rounds = list(scores.itertuples())
    keys = sorted(
        {(e.source, e.benchmark) for e in rounds},
        key=lambda key: (list(DATA).index(key[0]), list(PAPER_QUESTIONS).index(key[1])),
    )
    panels = {key: [e for e in rounds if (e.source, e.benchmark) == key] for key in keys}
    console = results_console()
    for (source, benchmark), models in panels.items():
        console.print(table(f"{DATA[source]}, {benchmark}, judge {models[0].judge}", models))
        for full in (e for e in models if sampler_of(e) == "all rows"):
            console.print(f" trained on all rows of the data set: {cell(full)}")
            console.print()
    for note in (f"[…]: {INTERVAL}", *(f"warning: {warning}" for warning in collection.board.warnings)):
        console.print(note)
    write_scores_csv(out / "scores.csv", scores)
    (figure,) = draw_run(out, collection.frame[collection.frame.line.isin(set(scores.line))])
    console.print(f"{out / 'scores.csv'}")
    console.print(f"{figure}")
    return 0


def sampler_of(row: Row) -> str | None:
    """What chose the rows, by the schedule's name; None for a folder that is none of the released ones."""
    match = re.fullmatch(r"(kc|rand|lc|ms)_(\w+?)_initRAND100|baseline_(\w+)", row.schedule)
    known = match and (match[2] or match[3]) in DATA and row.benchmark in PAPER_QUESTIONS
    return SAMPLERS[match[1] or "baseline"] if match and known else None


def table(title: str, models: Sequence[Row]) -> Table:
    """A row a pool size, a column a sampler."""
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 2, 0, 0))
    names = [name for name in SAMPLERS.values() if name != "all rows" and name in map(sampler_of, models)]
    for heading in ("training rows", *names):
        shown.add_column(heading, justify="right")
    cells = {(sampler_of(e), e.round): cell(e) for e in models}
    for t in sorted({e.round for e in models if sampler_of(e) != "all rows"}):
        shown.add_row(f"{INITIAL + STEP * t:,}", *(cells.get((name, t), "") for name in names))
    return shown


def cell(row: Row) -> str:
    """A relative score and its interval."""
    s = row.scores
    return f"{s.relative_score:.2f} {interval(s.ci_low, s.ci_high, '.1f')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
