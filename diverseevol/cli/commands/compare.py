"""`diverseevol compare`: schedules against a baseline, as samplers (over seeds) and as models (over questions)."""

from collections.abc import Sequence
from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import results_file
from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import compare
from diverseevol.evaluation.scores.read_metrics import measured_rounds
from diverseevol.evaluation.scores.scoreboard import score_files, score_folder
from diverseevol.evaluation.scores.tables import comparison_tables
from diverseevol.evolution.metrics import KNOWN
from diverseevol.output.console import results_console
from diverseevol.report.charts.lines import schedule_names
from diverseevol.report.collect import lines_below
from diverseevol.storage.files import write_json
from diverseevol.storage.names import safe_name

SCORE = "relative_score"  # the metric that is made of judgements, and what is compared where nothing is said
BASELINE = "random-*"  # what conf/compare.yaml has


def run(settings: Configuration) -> None:
    """Compare, print and write."""
    folder, metrics = Path(settings.value("folder", str)), _metrics(settings.value("metrics"))
    baseline, endpoint = settings.value("baseline", str), settings.value("round", int | None)
    out = results_file(settings.value("out", str | None), folder, file_name(metrics, baseline, endpoint))
    measures = [metric for metric in metrics if metric != SCORE]
    measured = measured_rounds(folder, measures, KNOWN) if measures else None  # first, for it is faster to refuse
    board = score_folder(folder) if SCORE in metrics else score_files([])
    comparison = compare(board.frame, baseline, endpoint, measured)
    names = schedule_names(lines_below(folder))
    write_json(out, {**comparison.record(), "warnings": list(board.warnings)})
    console = results_console()
    for table in comparison_tables(comparison, names):
        console.print(table)
    for warning in board.warnings:
        console.print(f"warning: {warning}")
    console.print(f"Full results: {out}")


def file_name(metrics: Sequence[str], baseline: str, endpoint: int | None = None) -> str:
    """A name for each request, so that another does not replace the results: what is asked other than by default."""
    asked = [] if list(metrics) == [SCORE] else ["+".join(metrics)]
    if endpoint is not None:
        asked.append(f"round{endpoint}")
    if baseline != BASELINE:
        asked.append(f"against-{baseline}")
    return safe_name("-".join(["comparison", *asked])) + ".json"


def _metrics(value: object) -> list[str]:
    """One name, or a list of them, each once."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(name, str) and name for name in listed):
        raise InputError(f"metric={value!r}: give the name of a metric, or several as metric=[ONE,TWO]")
    return list(dict.fromkeys(listed))
