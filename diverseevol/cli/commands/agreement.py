"""`diverseevol agreement`: one judge's judgements against another's on the same answers."""

from dataclasses import dataclass
from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import results_file
from diverseevol.evaluation.scores.agreement import agree
from diverseevol.evaluation.scores.tables import agreement_table
from diverseevol.output.console import results_console
from diverseevol.storage.files import write_json


@dataclass(frozen=True)
class Options:
    """What is held against what.

    Attributes:
        folder: a folder or archive with one judge's judgements.
        recorded: a folder or archive with another's, on the same answers.
        out: gets everything as JSON; None is agreement.json beside `folder`.
    """

    folder: str
    recorded: str
    out: str | None


def run(settings: Configuration) -> None:
    """Compare the judges, print and write."""
    options = settings.options("", Options)
    out = results_file(options.out, Path(options.folder), "agreement.json")
    agreements = agree(Path(options.folder), Path(options.recorded))
    write_json(out, {each.benchmark: each.record() for each in agreements})
    console = results_console()
    console.print(agreement_table(agreements))
    console.print(f"Full results: {out}")
