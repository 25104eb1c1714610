"""The numbers of run folders as one table: a line a round, a column a metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from study import COMPLETE

from diverseevol.output.sheets import write_csv
from diverseevol.output.terminal import say
from diverseevol.report.collect import Collection

LEAVE_OUT = ("seconds/", "judge calls", "win/", "tie/", "lose/")


def complete_runs(runs: Sequence[Path]) -> list[Path]:
    """Those of these run folders whose evolution came to its end; one line says which did not."""
    unfinished = [run for run in runs if not (run / COMPLETE).exists()]
    if unfinished:
        say(f"left out, being unfinished: {', '.join(f'{run.parent.name}/{run.name}' for run in unfinished)}")
    return [run for run in runs if run not in unfinished]


def rounds_of(collection: Collection) -> list[dict[str, Any]]:
    """Group, sampler with its schedule, seed, round and all metrics of every complete round."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for point in collection.frame.itertuples():
        if point.metric.startswith(LEAVE_OUT):
            continue
        key = (point.line.source, point.line.schedule, point.seed, point.round)
        line = lines.setdefault(
            key, {"group": key[0], "sampler": key[1], "seed": key[2], "round": key[3], "rows": int(point.rows)}
        )
        line[point.metric] = point.value
    return [lines[key] for key in sorted(lines)]


def write_table(lines: list[dict[str, Any]], file: Path) -> None:
    """Write lines that may lack some of the columns."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    write_csv(file, columns, ([_shortened(line.get(name)) for name in columns] for line in lines))


def _shortened(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
