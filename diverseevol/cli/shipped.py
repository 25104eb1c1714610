"""The choices that ship with the package: by these names run folders say what they were made with."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from diverseevol.runs.saved_config import CHOICE

NAMES_OF_HYDRA = {"_target_", "_partial_", "_convert_", "_recursive_"}


def configuration_folder() -> Path:
    """Where the YAML files lie: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def shipped_choices(group: str) -> Mapping[str, str | None]:
    """The choices of a group that ship, each with its target, or None where it is plain options."""
    choices: dict[str, str | None] = {}
    for file in _choice_files(group):
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        node = content.get(group, content)  # the first where a choice also sets what lies outside of its group
        choices[file.stem] = node.get("_target_")
    return choices


@cache
def shipped_parts(group: str) -> Mapping[str, str]:
    """The targets of the parts that choices of a group add to its node, by the parts' names, as metrics have them."""
    contents = (yaml.safe_load(file.read_text(encoding="utf-8")) or {} for file in _choice_files(group))
    parts = (item for content in contents for item in content.items())
    return {name: part["_target_"] for name, part in parts if isinstance(part, dict) and "_target_" in part}


def _choice_files(group: str) -> list[Path]:
    return sorted((configuration_folder() / group).glob("*.yaml"))


def recorded_node(group: str, choice: str | None, node: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved node as run folders hold it: `choice`, and plain options.

    Args:
        group: the group whose choices nodes in it can be, too.
        choice: what it was composed from; None for a node of no group.
        node: plain values.

    Returns:
        The options, with the shipped choice's name before them, or, where its target is the user's, the target's.
    """
    target, shipped = node.get("_target_"), {**shipped_parts(group), **shipped_choices(group)}
    if target is None and any(isinstance(part, dict) and "_target_" in part for part in node.values()):
        choice = None  # its parts are chosen
    if target is not None and (choice is None or shipped.get(choice) != target):
        choice = str(target)
    named = {} if choice is None else {CHOICE: choice}
    return {**named, **{name: _recorded(group, name, v) for name, v in node.items() if name not in NAMES_OF_HYDRA}}


def _recorded(group: str, name: str, value: Any) -> Any:
    if isinstance(value, dict):  # YAML has names that are numbers, such as a source's, and run folders hold texts
        inner = {str(key): part for key, part in value.items()}
        return recorded_node(group, name if "_target_" in value else None, inner)
    if isinstance(value, list):
        return [_recorded(group, "", each) for each in value]
    return value


def without_names(node: Any, within: str = "") -> Any:
    """A node without what names its target, to be compared: Hydra's names, and a choice of the node's own name."""
    if not isinstance(node, dict):
        return node
    named = {name for name in NAMES_OF_HYDRA if name in node} | ({CHOICE} if node.get(CHOICE) == within else set())
    return {name: without_names(value, name) for name, value in node.items() if name not in named}
