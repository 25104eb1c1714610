"""From a collection to files: the page, its figures and its tables."""

from collections.abc import Iterator
from pathlib import Path

from diverseevol.evaluation.scores.tables import write_scores_csv
from diverseevol.geometry.projections import PCA
from diverseevol.report.charts.gallery import gallery
from diverseevol.report.charts.lines import labels, sources
from diverseevol.report.charts.maps import draw_maps, read_maps
from diverseevol.report.charts.style import save
from diverseevol.report.collect import Collection
from diverseevol.report.contamination import contaminated
from diverseevol.report.page.answers import answers_payload
from diverseevol.report.page.folder import PAGE, begin
from diverseevol.report.page.html import page
from diverseevol.report.page.rows import rows_payload
from diverseevol.report.stopping import stops
from diverseevol.report.tables import (
    final_table,
    pool_table,
    prediction_table,
    run_table,
    source_table,
    status,
    stopping_table,
    verdict_table,
    write_picks,
    write_points,
    write_table,
)
from diverseevol.report.verdicts import verdicts
from diverseevol.storage.files import atomic_write


def publish(collection: Collection, out: Path, projection: str = PCA) -> list[str]:
    """Write report.html, figures/ and tables/ into a folder.

    Args:
        collection: what to report.
        out: the folder.
        projection: which map of the rows; see `maps.read_maps`.

    Returns:
        What a reader must know, as it stands in the page.

    Raises:
        InputError: the folder cannot be written to, or there is no such projection.
    """
    runs, judged = collection.runs, collection.board.frame
    names = labels([*collection.lines, *(run.line for run in runs), *judged.line])
    maps = read_maps(runs, projection)
    compared, uncompared = verdicts(collection)
    tables = [
        verdict_table(compared), stopping_table(stops(collection.frame)), final_table(collection),
        pool_table(collection.frame), run_table(runs), prediction_table(runs), source_table(runs),
    ]  # fmt: skip
    begin(out)
    figures = [(entry, save(entry.figure, out / "figures", entry.name)) for entry in gallery(collection)]
    figure = draw_maps(maps, names, projection)
    if figure is not None:
        save(figure, out / "figures", "map")
    for table in tables:
        write_table(table, names, out / "tables")
    write_points(collection.frame, out / "tables")
    write_picks(runs, out / "tables")
    write_scores_csv(out / "tables" / "scores.csv", judged)
    notes = [*_notes(collection), *uncompared]
    rows = rows_payload(runs, maps, names) if runs else None
    content = page(
        lead=_lead(collection),
        names=names,
        tables={table.name: table for table in tables},
        notes=notes,
        figures=figures,
        rows=rows,
        answers=answers_payload(collection, names),
    )
    with atomic_write(out / PAGE) as file:
        file.write(content)
    return notes


def _lead(collection: Collection) -> str:
    runs, judged = collection.runs, collection.board.frame.line
    released = {line for line in judged if line.released}
    parts = [
        f"{_count(len(runs), 'run')} of {_count(len({run.line for run in runs}), 'arm')}" if runs else "",
        f"{_count(len(released), 'released schedule')}" if released else "",
        f"{_count(len(judged), 'judged model')}" if len(judged) else "nothing judged",
    ]  # fmt: skip
    origins = sources([*(run.line for run in runs), *judged])
    return f"{', '.join(part for part in parts if part)}; from {', '.join(origins)}."


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _notes(collection: Collection) -> Iterator[str]:
    for run in collection.runs:
        if not run.complete:
            yield f"{run.name}: {status(run)}; shown as far as it got"
    yield from contaminated(collection.runs)
    yield from (f"judge {label}" for label in collection.board.labels)
    yield from collection.board.warnings
    if collection.unplaced:
        yield (
            f"{_count(collection.unplaced, 'judged model')} without a run folder beside the judgements, so that "
            f"the number of training rows is not known: in the tables, not on the curves"
        )
