"""What is logged about a run beside its metrics: what was asked, under which names, and what computed it."""

from pathlib import Path
from typing import Any

from diverseevol.commands.settings import Settings
from diverseevol.files import read_json, write_json

KEYS = (
    "seed", "data", "model", "prompt", "tuning", "embedding", "sampler", "schedule", "trainer", "benchmark", "judge",
    "generation",
)  # fmt: skip
FILE = "provenance.json"


def logged_config(settings: Settings, provenance: dict[str, Any]) -> dict[str, Any]:
    """The resolved configuration, the choices that led to it, and what computed the run."""
    return {**{key: settings.value(key) for key in KEYS}, **provenance}


def keep_provenance(run: Path, provenance: dict[str, Any]) -> None:
    """Put into a run folder what only the process that runs knows: nothing that is logged is not there, too."""
    write_json(run / FILE, provenance)


def kept_config(settings: Settings, run: Path) -> dict[str, Any]:
    """The same of a run folder on disk; what is not there is left out."""
    config: dict[str, Any] = {}
    if (run / "config.yaml").is_file():
        saved = settings.saved(run / "config.yaml", KEYS)
        config = {key: saved.value(key) for key in KEYS if saved.value(key) is not None}
    if (run / FILE).is_file():
        config |= read_json(run / FILE)
    if (run / "fingerprint.json").is_file():
        config["fingerprint"] = read_json(run / "fingerprint.json")
    return config
