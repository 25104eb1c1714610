"""Weights & Biases: one run per round, and one per evolution; offline unless asked (see docs/wandb.md)."""

import functools
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml  # type: ignore[import-untyped]

from diverseevol.output.terminal import one_line
from diverseevol.runs.subset import RECEIPTS, SELECTED
from diverseevol.runs.tracking import NoLogger, RoundData, RoundLog, RunName
from diverseevol.storage.files import write_json
from diverseevol.storage.reading import size

log = logging.getLogger(__name__)

START_SECONDS = 10.0  # W&B's own 90 would be waited for in every round
END_SECONDS = 60.0  # what has not been sent by then stays on disk, for `wandb sync`
LARGEST = 100 << 20  # bytes of rows that are an artifact, and of a source of which a digest is taken in each round


@dataclass(frozen=True)
class Agent:
    """What a W&B agent tells the command that it starts: one point of its sweep.

    Attributes:
        sweep: the sweep's id.
        run: the id of the run that the sweep expects.
        project: the sweep's.
        entity: the sweep's.
        parameters: a file with the point's values.
    """

    sweep: str
    run: str
    project: str | None
    entity: str | None
    parameters: Path | None


@dataclass
class Wandb:
    """Logs to Weights & Biases.

    Attributes:
        project: the project's name.
        entity: user or team; None is the account's default.
        mode: "offline" (default: files only, `wandb sync` later) or "online".
        artifacts: whether each round's rows are a version of an artifact, made of that of the data set.
    """

    project: str = "diverseevol"
    entity: str | None = None
    mode: Literal["offline", "online"] = "offline"
    artifacts: bool = True

    def open(self, run: RunName, folder: Path, config: Mapping[str, Any]) -> RoundLog:
        """Open the run below `folder`; offline from then on where W&B cannot be reached or knows no key.

        With the environment's WANDB_MODE=disabled, or WANDB_DISABLED, it goes nowhere, and W&B is not even imported.
        """
        if disabled():
            return NoLogger().open(run, folder, config)
        agent()  # before W&B reads the environment
        if self.mode == "online":
            try:
                return _WandbLog(self, run, folder, config)
            except Exception as error:
                self.mode = "offline"
                import wandb

                wandb.teardown()  # which holds the id for the attempt that failed
                reason = " ".join(str(error).split())
                log.warning("W&B is out of reach (%s); logging offline: `wandb sync` uploads it later", reason)
        return _WandbLog(self, run, folder, config)


def disabled() -> bool:
    """Whether the environment switches W&B off, in either of its ways."""
    off = os.environ.get("WANDB_DISABLED", "").strip().lower() in ("true", "1", "yes", "on", "y", "t")
    return off or os.environ.get("WANDB_MODE", "").strip().lower() == "disabled"


@functools.cache
def agent() -> Agent | None:
    """The W&B agent that started this process, if one did.

    Its variables leave the environment: W&B would log everything under the one run that they name, and an evolution has
    a run for each round. The sweep's is the evolution's own.
    """
    names = ("SWEEP_ID", "RUN_ID", "PROJECT", "ENTITY", "SWEEP_PARAM_PATH")
    sweep, run, project, entity, file = (os.environ.get(f"WANDB_{name}") for name in names)
    if sweep is None or run is None:
        return None
    for name in ("SWEEP_ID", "RUN_ID", "SWEEP_PARAM_PATH"):
        os.environ.pop(f"WANDB_{name}", None)
    return Agent(sweep, run, project, entity, Path(file).absolute() if file else None)


class _WandbLog:
    def __init__(self, tracker: Wandb, run: RunName, folder: Path, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        logging.getLogger("wandb").propagate = False  # its tracebacks go to its own log; the warning is a sentence
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        address: dict[str, Any] = {"project": tracker.project, "entity": tracker.entity, "id": run.id}
        settings = wandb.Settings(
            console="off", quiet=True, x_disable_stats=True, x_disable_machine_info=True, disable_git=True,
            save_code=False, init_timeout=START_SECONDS, finish_timeout=END_SECONDS, finish_timeout_raises=True,
        )  # fmt: skip
        if (of_sweep := agent()) is not None and run.job_type == "evolution":
            settings.sweep_id = of_sweep.sweep
            address = {"project": of_sweep.project, "entity": of_sweep.entity, "id": of_sweep.run}
            config = {**config, **_parameters(of_sweep)}
        if run.from_start and tracker.mode == "offline":
            _drop_superseded(folder, str(address["id"]))
        self.wandb, self.tracker, self.name = wandb, tracker, run
        self.prefix, self.axis = run.prefix, run.axis
        self.run = wandb.init(
            **address, mode=tracker.mode, dir=str(folder), group=one_line(run.group), job_type=run.job_type,
            name=one_line(run.name),
            resume="allow", config=dict(config), reinit="create_new", settings=settings,
        )  # fmt: skip
        self.files = Path(self.run.dir).absolute().with_name("artifacts")  # what artifacts hold, until it is uploaded
        self.run.define_metric(self.axis)
        self.run.define_metric(f"{self.prefix}*", step_metric=self.axis)

    def curve(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({self.axis: step, **{f"{self.prefix}{name}": value for name, value in values.items()}})

    def metrics(self, values: Mapping[str, float]) -> None:
        self.run.log(dict(values))
        self.run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.run.log({name: self.wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def data(self, data: RoundData) -> None:
        """Log the data set as an artifact that the run uses, and the rows as a version of the evolution's artifact.

        W&B makes no second version of what has the same content, so that a round may be logged again.
        """
        if not self.tracker.artifacts:
            return
        try:
            self._log_artifacts(data, self.files)
        except Exception as error:
            self.tracker.artifacts = False  # for all rounds that follow: one that is out of reach is waited for once
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("W&B artifacts cannot be logged (%s); going on without them", reason)

    def _log_artifacts(self, data: RoundData, folder: Path) -> None:
        # Files lie beside the run's own until they are uploaded: W&B would copy them to the user's home folder, where
        # they would stay after the run was logged again.
        kept: dict[str, Any] = {"policy": "immutable", "skip_cache": True}
        source = self.wandb.Artifact(_named(data.name), "dataset", metadata={**data.facts, "places": dict(data.places)})
        write_json(folder / "source.json", dict(data.facts))
        source.add_file(str(folder / "source.json"), **kept)
        for number, (name, path) in enumerate(data.places.items()):
            if (file := Path(path).expanduser()).is_file():
                checksum = file.stat().st_size <= LARGEST
                source.add_reference(file.resolve().as_uri(), f"sources/{number}-{_named(name)}", checksum=checksum)
        # What `use_artifact` does of a new artifact, but that it refuses to offline and waits for the server online.
        self.run._log_artifact(source, is_user_created=True, use_after_commit=True)

        metadata = {"rows": data.rows, "source": data.facts}
        subset = self.wandb.Artifact(_named(self.name.group), "subset", metadata=metadata)
        data.write(folder)
        for file in (folder / RECEIPTS, folder / SELECTED):
            if (length := file.stat().st_size) > LARGEST:
                log.warning(
                    "%s of %s is %s long and no part of its W&B artifact, which takes %s",
                    file.name, self.name.name, size(length), size(LARGEST),
                )  # fmt: skip
                file.unlink()
            else:
                subset.add_file(str(file), **kept)
        self.run.log_artifact(subset, aliases=[self.name.name])

    def close(self) -> None:
        self.run.finish()
        if self.tracker.mode == "online" and self.files.exists():
            shutil.rmtree(self.files)


def _named(name: str) -> str:
    """A name as W&B takes it for an artifact; its end, which tells evolutions apart, where it is too long."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[-128:]


def _parameters(point: Agent) -> dict[str, Any]:
    """The values of a point of a W&B sweep, under the names by which the sweep knows them."""
    if point.parameters is None or not point.parameters.is_file():
        return {}
    parameters = yaml.safe_load(point.parameters.read_text(encoding="utf-8")) or {}
    return {name: item["value"] for name, item in parameters.items() if isinstance(item, dict) and "value" in item}


def _drop_superseded(folder: Path, id: str) -> None:
    """Remove what earlier attempts logged offline under this id: `wandb sync` would put all of them after each other.

    What has been uploaded stays.
    """
    for earlier in folder.glob(f"wandb/offline-run-*-{id}"):
        if not (earlier / f"run-{id}.wandb.synced").exists():
            shutil.rmtree(earlier)
