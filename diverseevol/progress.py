"""How far a phase has come: a live bar with an ETA on a terminal, one line a phase elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from diverseevol.output.console import Console


@runtime_checkable
class Progress(Protocol):
    """Shows phases."""

    def track(self, phase: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A phase of `total` units; the function that it yields is called with the units done since the last call."""
        ...

    def head(self, heading: str) -> None:
        """Set what the following phases belong to."""


class Silent:
    """Shows nothing: for tests, libraries, and every process but the first."""

    @contextmanager
    def track(self, phase: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda done: None

    def head(self, heading: str) -> None:
        """Show nothing."""


class Shown:
    """Shows phases on a console, each under its heading."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.heading = ""

    def head(self, heading: str) -> None:
        """Set what the following phases belong to: the round."""
        self.heading = heading

    @contextmanager
    def track(self, phase: str, total: int) -> Iterator[Callable[[int], None]]:
        """A phase: a live bar on a terminal, and one line when it has ended."""
        began = time.monotonic()
        label = f"{self.heading}{phase}"
        bars = Bars(
            TextColumn("  {task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(), console=self.console, transient=True,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        with bars:
            task = bars.add_task(label, total=total)
            yield lambda done: bars.update(task, advance=done)
        self.console.print(f"  {label}: {total:,} in {time.monotonic() - began:.1f} s", style="dim")
