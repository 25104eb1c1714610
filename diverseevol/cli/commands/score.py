"""`diverseevol score`: every model's relative score, from the judgements below a folder or in an archive."""

from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import results_file
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.evaluation.scores.tables import scores_table, write_scores_csv
from diverseevol.output.console import results_console


def run(settings: Configuration) -> None:
    """Score, print and write."""
    folder = Path(settings.value("folder", str))
    out = results_file(settings.value("out", str | None), folder, "scores.csv")
    board = score_folder(folder)
    write_scores_csv(out, board.frame)
    console = results_console()
    console.print(scores_table(board))
    console.print(f"{len(board.frame):,} models and benchmarks are in {out}")
