"""One logged run per round, wherever that is, or nowhere. A logger that fails never stops an evolution."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunName:
    """What a run is called.

    Attributes:
        group: the evolution.
        name: a round's, such as round-03, or the evolution's own.
        id: the same on every resume.
        job_type: "round", or "evolution" for the one run that gathers all rounds.
        axis: what the run's curves are drawn against; what comes before a slash in it is put before their names, too.
        from_start: whether everything is logged again, so that what an earlier attempt left can be removed.
    """

    group: str
    name: str
    id: str
    job_type: str = "round"
    axis: str = "train/step"
    from_start: bool = True

    @property
    def folder(self) -> str:
        """What the run's files are called where a logger keeps them by name."""
        return self.name if self.job_type == "round" else self.job_type

    @property
    def prefix(self) -> str:
        """What the names of its curves begin with, such as "train/"."""
        before, slash, _ = self.axis.rpartition("/")
        return before + slash


@runtime_checkable
class RoundLog(Protocol):
    """An open run."""

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        """A point of the curves, at `step` on the run's axis."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """The round's metrics, by logged name."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table, for instance of the rows chosen."""

    def close(self) -> None:
        """End the run, before the next one opens."""


@dataclass(frozen=True)
class RoundData:
    """The rows that a round is trained on, and the data set that they are chosen from.

    Attributes:
        name: what the data set is called.
        facts: what identifies it: the same for the same rows, wherever they lie.
        places: where its sources lie, paths or hub ids, by name.
        rows: how many rows the round is trained on.
        write: writes them with their receipts into a folder.
    """

    name: str
    facts: Mapping[str, Any]
    places: Mapping[str, str]
    rows: int
    write: Callable[[Path], None]


@runtime_checkable
class KeepsData(Protocol):
    """An open run of a logger that keeps rows, too."""

    def data(self, data: RoundData) -> None:
        """The rows that the round is trained on."""


@runtime_checkable
class Tracker(Protocol):
    """Opens runs."""

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open a run below the run folder, or open it again under the same id."""
        ...


class NoLogger:
    """Logs nowhere: the run folder has every fact."""

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """A run that goes nowhere."""
        return self

    def curve(self, step: int, values: Mapping[str, float]) -> None: ...

    def metrics(self, values: Mapping[str, float]) -> None: ...

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...

    def close(self) -> None: ...


class Careful:
    """A tracker, and the run that it has open, whose first failure is a warning; nothing is asked of it after that."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.run_log: RoundLog = NoLogger()
        self.failed = False

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open a run that cannot fail."""
        self.run_log = NoLogger()

        def begin() -> None:
            self.run_log = self.tracker.open(run, folder, config)

        self.attempt(begin, f"could not open run {run.name}")
        return self

    def attempt(self, call: Callable[[], None], failing: str = "failed") -> None:
        """Whatever a logger raises is a warning: no evolution depends on one."""
        if self.failed:
            return
        try:
            call()
        except Exception as error:
            self.failed = True
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("the logger %s (%s); going on without it: the run folder has every fact", failing, reason)

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        self.attempt(lambda: self.run_log.curve(step, values))

    def metrics(self, values: Mapping[str, float]) -> None:
        self.attempt(lambda: self.run_log.metrics(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.attempt(lambda: self.run_log.table(name, columns, rows))

    def data(self, data: RoundData) -> None:
        self.attempt(lambda: self.run_log.data(data) if isinstance(self.run_log, KeepsData) else None)

    def close(self) -> None:
        self.attempt(lambda: self.run_log.close())


@contextmanager
def opened(tracker: Tracker, run: RunName, folder: Path, config: Mapping[str, Any]) -> Iterator[RoundLog]:
    """A run, closed whatever happens, and never in the way of what is logged."""
    careful = tracker if isinstance(tracker, Careful) else Careful(tracker)
    run_log = careful.open(run, folder, config)
    try:
        yield run_log
    finally:
        run_log.close()
