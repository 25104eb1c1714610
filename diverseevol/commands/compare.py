"""`diverseevol compare`: schedules against a baseline, as samplers (over seeds) and as models (over questions)."""

from dataclasses import dataclass
from pathlib import Path

from diverseevol.commands.settings import Settings
from diverseevol.evaluation.comparison import compare
from diverseevol.evaluation.scoreboard import score_folder
from diverseevol.evaluation.tables import comparison_tables, out_console
from diverseevol.files import write_json


@dataclass(frozen=True)
class Options:
    """What is compared.

    Attributes:
        judgements: a folder or archive.
        baseline: a schedule's name, or a pattern that fits one schedule of each source.
        round: the endpoint; None is each schedule's final round.
        out: gets everything as JSON.
    """

    judgements: str
    baseline: str
    round: int | None
    out: str


def run(settings: Settings) -> None:
    """Compare, print and write."""
    options = settings.options("", Options)
    board = score_folder(Path(options.judgements))
    comparison = compare(board.rounds, options.baseline, options.round)
    write_json(Path(options.out), {**comparison.record(), "warnings": list(board.warnings)})
    console = out_console()
    for table in comparison_tables(comparison):
        console.print(table)
    for warning in board.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False)
    console.print(f"all of it is in {options.out}", highlight=False)
