"""Plain files: a folder per run with a CSV file for its curves, its metrics and each table. Nothing to install."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diverseevol.output.sheets import write_csv
from diverseevol.runs.tracking import RoundLog, RunName
from diverseevol.storage.files import write_json

SECONDS = 10.0  # between two writings of a curve that grows


@dataclass(frozen=True)
class CSV:
    """Logs to `csv/` in the run folder, for spreadsheets and pandas."""

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open the run's folder, and begin its files again where all of it is logged again."""
        return _CsvLog(run, folder / "csv" / run.folder, config)


class _CsvLog:
    def __init__(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder, self.axis, self.prefix = folder, run.axis, run.prefix
        self.points: list[dict[str, Any]] = []
        self.written = time.monotonic()
        self.measured: dict[str, float] = {}
        if run.from_start:
            for file in folder.glob("*.csv"):
                file.unlink()
        if config:
            write_json(folder / "config.json", {"group": run.group, "name": run.name, "id": run.id, **config})

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        self.points.append({self.axis: step, **{f"{self.prefix}{name}": value for name, value in values.items()}})
        if time.monotonic() - self.written >= SECONDS:
            self._write_curve()

    def metrics(self, values: Mapping[str, float]) -> None:
        self.measured |= values
        self._write("metrics", list(self.measured), [list(self.measured.values())])

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._write(name, columns, rows)

    def close(self) -> None:
        if self.points:
            self._write_curve()

    def _write_curve(self) -> None:
        columns = list(dict.fromkeys(name for point in self.points for name in point))
        self._write("curve", columns, [[point.get(name) for name in columns] for point in self.points])
        self.written = time.monotonic()

    def _write(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        write_csv(self.folder / f"{name}.csv", columns, rows)
