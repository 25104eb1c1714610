"""What a run folder has to say at the end of an evolution: a table, two figures, and where everything is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from diverseevol.files import read_json
from diverseevol.report.figures import draw_curves
from diverseevol.runs import Round

COLUMNS = (
    ("pool_size", "rows", "{:,.0f}"),
    ("train_loss", "loss", "{:.3f}"),
    ("vendi_score", "Vendi", "{:.2f}"),
    ("vendi_score_centred", "Vendi, centred", "{:.2f}"),
    ("coverage_radius", "radius", "{:.2f}"),
)


def show(folder: Path, rounds: Sequence[Round], console: Console) -> None:
    """Print the table of rounds, draw the figures, and say where the files are.

    Args:
        folder: the run folder.
        rounds: its rounds.
        console: where to print.
    """
    scores = [read_scores(folder, done.index) for done in rounds]
    benchmarks = sorted({name for of_round in scores for name in of_round})
    table = Table(title="what each round's model learned from its pool", title_justify="left")
    for heading in ("round", *(heading for _, heading, _ in COLUMNS), *(f"RS {name}" for name in benchmarks)):
        table.add_column(heading, justify="right")
    for done, of_round in zip(rounds, scores, strict=True):
        cells = [form.format(done.metrics[key]) for key, _, form in COLUMNS]
        table.add_row(str(done.index), *cells, *(_score(of_round.get(name)) for name in benchmarks))
    console.print(table)
    if benchmarks:
        console.print(
            "RS: relative score, 95 % interval over questions; it says nothing about other seeds",
            style="dim",
        )
        judged = [score for of_round in scores for score in of_round.values()]
        for label in sorted({score["label"] for score in judged if score.get("label")}):  # of the scores' own judge
            console.print(f"[bold]{label}[/bold]")
    figures = draw_curves(folder)
    console.print("[bold]where everything is[/bold]")
    for path, what in (
        *((figure, "figure") for figure in figures),
        (folder / "selected.jsonl", "the rows, in the order in which they joined"),
        (folder / "rounds", "each round's receipt, answers and what they were judged"),
        (folder / "config.yaml", "the configuration, resolved"),
    ):
        console.print(f"  {path}  [dim]{what}[/dim]", highlight=False, soft_wrap=True)


def read_scores(folder: Path, t: int) -> dict[str, Any]:
    """A round's scores by benchmark; empty where it was not judged."""
    file = folder / "rounds" / f"{t:02d}" / "scores.json"
    return dict(read_json(file)) if file.exists() else {}


def _score(score: dict[str, Any] | None) -> str:
    if score is None:
        return "–"
    return f"{score['relative_score']:.1f} [{score['ci_low']:.1f}, {score['ci_high']:.1f}]"
