"""One logged run per round: Weights & Biases, or nothing. A logger that fails never stops an evolution."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunName:
    """What a round's run is called: its evolution, its own name, and an id that is the same on every resume."""

    group: str
    name: str
    id: str
    job_type: str = "round"


@runtime_checkable
class RoundLog(Protocol):
    """An open run."""

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        """A point of the training curves, on their own step axis."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """The round's metrics, by logged name."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table, for instance of the rows chosen."""

    def close(self) -> None:
        """End the run, before the next one opens."""


@runtime_checkable
class Tracker(Protocol):
    """Opens runs."""

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open the run of a round, or open it again under the same id."""
        ...


class NoTracker:
    """Logs nowhere: the run folder has every fact."""

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """A run that goes nowhere."""
        return _Guarded(None)


@dataclass(frozen=True)
class WandbTracker:
    """Logs to Weights & Biases.

    Attributes:
        project: the project's name.
        entity: user or team; None is the account's default.
        mode: "offline" (default: files only, `wandb sync` later) or "online".
    """

    project: str = "diverseevol"
    entity: str | None = None
    mode: str = "offline"

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open the run below `folder`."""
        return _WandbLog(self, run, folder, config)


class _WandbLog:
    def __init__(self, tracker: WandbTracker, run: RunName, folder: Path, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self.wandb = wandb
        self.run = wandb.init(
            project=tracker.project, entity=tracker.entity, mode=tracker.mode,  # type: ignore[arg-type]
            dir=str(folder), group=run.group, job_type=run.job_type, name=run.name, id=run.id, resume="allow",
            config=dict(config), reinit="create_new",
            settings=wandb.Settings(
                console="off", quiet=True, x_disable_stats=True, x_disable_machine_info=True, disable_git=True,
                save_code=False, init_timeout=30,
            ),
        )  # fmt: skip
        self.run.define_metric("train/step")
        self.run.define_metric("train/*", step_metric="train/step")

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({"train/step": step, **{f"train/{name}": value for name, value in values.items()}})

    def metrics(self, values: Mapping[str, float]) -> None:
        self.run.log(dict(values))
        self.run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.run.log({name: self.wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def close(self) -> None:
        self.run.finish()


class _Guarded:
    """An open run whose failures are warnings, said once."""

    def __init__(self, inner: RoundLog | None) -> None:
        self.inner = inner

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        self._try(lambda inner: inner.curve(step, values))

    def metrics(self, values: Mapping[str, float]) -> None:
        self._try(lambda inner: inner.metrics(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._try(lambda inner: inner.table(name, columns, rows))

    def close(self) -> None:
        self._try(lambda inner: inner.close())

    def _try(self, call: Callable[[RoundLog], None]) -> None:
        if self.inner is None:
            return
        try:
            call(self.inner)
        except Exception as error:
            log.warning("the logger failed (%s); going on without it: the run folder has every fact", error)
            self.inner = None


@contextmanager
def opened(tracker: Tracker, run: RunName, folder: Path, config: Mapping[str, Any]) -> Iterator[RoundLog]:
    """A round's run, closed whatever happens. Whatever a logger raises is a warning: no evolution depends on one."""
    try:
        run_log = _Guarded(tracker.open(run, folder, config))
    except Exception as error:
        log.warning(
            "the logger could not open run %s (%s); going on without it: the run folder has every fact", run.name, error
        )
        run_log = _Guarded(None)
    try:
        yield run_log
    finally:
        run_log.close()
