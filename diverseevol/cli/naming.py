"""What a run is called: the folder's path, from the configuration."""

import hashlib
import json
from pathlib import Path

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.shipped import shipped_choices
from diverseevol.data.file_names import title
from diverseevol.data.mixture import data_name
from diverseevol.storage.names import checked_name, safe_name

# What decides the picks, and so names the folder; `rounds` may grow, paths only say where the content lies, and of a
# schedule the sizes count.
PICKS = ("data", "model", "prompt", "tuning", "embedding", "sampler", "schedule", "trainer")
GROUPS = ("data", "model", "sampler", "schedule")
NOT_PICKS = (
    "data.path", "data.name", "model.path", "schedule", "schedule.rounds", "trainer.accelerator", "trainer.strategy",
    "sampler.device",
)  # fmt: skip
MEMORY_ONLY = (
    "tuning.micro_batch_tokens", "tuning.packing", "tuning.compile", "tuning.gradient_checkpointing",
    "tuning.checkpoint_minutes",
    "embedding.batch_tokens",
)  # fmt: skip
# Not in a fingerprint where they have these values, which they had before there was a choice.
AS_BEFORE = {
    "tuning.moments": None, "tuning.rounding": "nearest", "sampler.quota": None, "sampler.shares": "proportional",
}  # fmt: skip


def run_path(settings: Configuration) -> Path:
    """`folder`, or a path that names the choices: `<data>/<model>/<sampler>-<schedule>[-<hash>]/seed<k>`.

    The hash stands for all other settings that change the picks, where they differ from the choices' own.
    """
    outputs = settings.value("outputs", str)  # read, and so checked, also where folder= makes it idle
    if (folder := settings.value("folder", str | None)) is not None:
        return Path(folder)
    parts = [short_name(settings, group) for group in ("data", "model")]
    return Path(outputs, *parts, arm(settings), f"seed{settings.value('seed')}")


def arm(settings: Configuration) -> str:
    """What the seeds of one way to choose have in common, and compare by: `<sampler>-<schedule>[-<hash>]`."""
    name = f"{settings.choices['sampler']}-{settings.choices['schedule']}"
    # Hydra composes the defaults for a quarter of a second.
    differences = settings.once("differences", lambda: settings.differs_from_default(PICKS, GROUPS))
    differences = {
        key: value for key, value in differences.items()
        if key not in (*NOT_PICKS, *MEMORY_ONLY) and not key.startswith("data.path.")  # the paths of several sources
    }  # fmt: skip
    if settings.value("keep_dtype") is not None:
        differences["keep_dtype"] = settings.value("keep_dtype")
    if differences:
        name += "-" + hashlib.sha256(json.dumps(differences, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return safe_name(name)


def short_name(settings: Configuration, group: str) -> str:
    """What a data set or model is called in paths: its own name, its file's, or its choice's."""
    node, choice = settings.value(group, dict), settings.choices[group]
    if node.get("name") is not None and node["name"] != choice:
        return checked_name(f"{group}.name", node["name"])
    differences = settings.differs_from_default((group,), (group,)) if choice not in shipped_choices(group) else {}
    own = any(key == f"{group}.path" or key.startswith(f"{group}.path.") for key in differences)
    if (own or choice in ("file", "hf")) and node.get("path"):
        # A model's version may hold a point: not every suffix is one.
        return safe_name(data_name(node["path"]) if group == "data" else title(str(node["path"])))
    return safe_name(choice)
