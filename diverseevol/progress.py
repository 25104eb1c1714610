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

    def track(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A phase of `total` units; the value inside is called with units done since the last call."""
        ...

    def head(self, heading: str) -> None:
        """What the phases that follow belong to."""


class Silent:
    """Shows nothing: for tests, libraries, and every process but the first."""

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A phase that nobody watches."""
        yield lambda done: None

    def head(self, heading: str) -> None:
        """Nobody reads headings either."""


class Shown:
    """Shows phases on a console, each under its heading."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.heading = ""

    def head(self, heading: str) -> None:
        """What the phases that follow belong to: the round."""
        self.heading = heading

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A phase: a bar while it lasts where someone watches, and a line of its own once it is over."""
        began = time.monotonic()
        label = f"{self.heading}{what}"
        bars = Bars(
            TextColumn("  {task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(), console=self.console, transient=True,
            disable=not self.console.is_terminal,
        )  # fmt: skip
        with bars:
            task = bars.add_task(label, total=total)
            yield lambda done: bars.update(task, advance=done)
        self.console.print(f"  {label}: {total:,} in {time.monotonic() - began:.1f} s", style="dim")
