"""What is logged about a run beside its metrics: what was asked, under which names, and what computed it."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from diverseevol.cli.configuration import Configuration
from diverseevol.errors import InputError
from diverseevol.evaluation.scores.models import MADE_AS, PROVENANCE, named
from diverseevol.storage.files import read_json, write_json

KEYS = (
    "seed", "data", "model", "prompt", "tuning", "embedding", "sampler", "schedule", "trainer", "benchmark", "judge",
    "generation", "answers",
)  # fmt: skip
FILE = PROVENANCE


def logged_config(settings: Configuration, origin: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as run folders hold it, the choices that led to it, and what computed the run."""
    return {**{key: settings.recorded(key) for key in KEYS}, **origin}


def save_provenance(run: Path, config: Mapping[str, Any]) -> None:
    """Save what is logged in the run folder, for what is logged later, and for runs without a logger.

    The run's name is saved too, so that a copy elsewhere is known as the same run.
    """
    source, schedule, _ = named(PurePosixPath(run.resolve().as_posix()))
    made_as = {"source": source, "schedule": schedule, "seed": config["seed"]}
    write_json(run / FILE, {**config, MADE_AS: _read(run).get(MADE_AS, made_as)})


def load_provenance(run: Path) -> dict[str, Any]:
    """What was logged of the run; empty where nothing was saved."""
    return {key: value for key, value in _read(run).items() if key != MADE_AS}


def _read(run: Path) -> dict[str, Any]:
    config = read_json(run / FILE) if (run / FILE).is_file() else {}
    if not isinstance(config, dict):
        raise InputError(f"{run / FILE}: expected an object, got a {type(config).__name__}; restore the file")
    return config
