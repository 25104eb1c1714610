"""TensorBoard: a folder per run below `tensorboard/` in the run folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diverseevol.errors import not_installed
from diverseevol.runs.tracking import RoundLog, RunName

ROWS = 100  # of a table; all of them are in the run folder


@dataclass(frozen=True)
class TensorBoard:
    """Logs event files for `tensorboard --logdir`.

    Raises:
        InputError: the package is not installed.
    """

    def __post_init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise not_installed("logger=tensorboard", "tensorboard", "choose logger=csv")

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open the run's folder, and begin its events again where all of it is logged again."""
        return _TensorBoardLog(run, folder / "tensorboard" / run.folder, config)


class _TensorBoardLog:
    def __init__(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if run.from_start:
            for file in folder.glob("events.out.tfevents.*"):
                file.unlink()
        self.prefix = run.prefix
        self.writer = SummaryWriter(str(folder))
        if config:
            self.writer.add_text("config", _code(json.dumps(config, indent=1, ensure_ascii=False, default=str)))

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(f"{self.prefix}{name}", value, step)

    def metrics(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, int(values.get("pool_size", 0)))
        self.writer.flush()

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        lines = (json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows[:ROWS])
        self.writer.add_text(name, _code("\n".join(lines)))

    def close(self) -> None:
        self.writer.close()


def _code(text: str) -> str:
    """Text that TensorBoard, which reads Markdown, shows as it is."""
    return "\n".join(f"    {line}" for line in text.splitlines())
