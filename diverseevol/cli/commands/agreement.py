"""`diverseevol agreement`: one judge's judgements against another's on the same answers."""

from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import results_file
from diverseevol.evaluation.scores.agreement import agree
from diverseevol.evaluation.scores.tables import agreement_table
from diverseevol.output.console import results_console
from diverseevol.storage.files import write_json


def run(settings: Configuration) -> None:
    """Compare the judges, print and write."""
    folder, recorded = (Path(settings.value(name, str)) for name in ("folder", "recorded"))
    out = results_file(settings.value("out", str | None), folder, "agreement.json")
    agreements = agree(folder, recorded)
    write_json(out, {record["benchmark"]: record for record in agreements.to_dict("records")})
    console = results_console()
    console.print(agreement_table(agreements))
    console.print(f"Full results: {out}")
