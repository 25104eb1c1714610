"""The configuration that a run folder keeps, read as plain values: it calls and fetches nothing, whatever it says.

`config.yaml` holds, for each group, `choice: NAME` and plain options. It is read without tags, aliases, interpolation
and OmegaConf; what a choice means is looked up in the package (`diverseevol.cli.configuration.Configuration.shipped`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from diverseevol.errors import InputError, shown
from diverseevol.runs.choices_0_1 import VALUES_0_1, choice_of_0_1
from diverseevol.storage.reading import read_text

CHOICE = "choice"  # the key of a node that names what the other keys are options of
MOST_BYTES, MOST_LEVELS = 1 << 18, 32  # a configuration has a few thousand bytes and four levels
RANGE = 1 << 63
NAMES_OF_HYDRA = {"_target_", "_partial_"}  # what 0.1 wrote into nodes
CHOICE_NAME = re.compile(r"\w+(\.\w+)*", re.ASCII)

# In the order in which they are written, the last ones at the end of the file.
ALWAYS = ("seed", "model", "benchmark", "data", "sampler", "schedule", "trainer", "judge", "logger")
REWRITE = "restore it, or delete it and run the same `diverseevol evolve` again, which writes it anew"

# By group, the options that a run folder decides. All others say what is called, or where something lies or is fetched
# from: those are the shipped ones, or the user's.
DECIDED_BY_FOLDERS: Mapping[str, frozenset[str]] = {
    "benchmark": frozenset({"name", "natural_name", "questions", "size", "skew", "duplicates", "seed"}),
    "sampler": frozenset({
        "metric", "whiten", "space", "drop", "clusters", "passes", "batches", "rank", "greedy", "measure", "variant",
        "among", "size", "disagreement", "committee", "balance", "without",
    }),
}  # fmt: skip


@dataclass(frozen=True)
class SavedChoice:
    """A node of a saved configuration.

    Attributes:
        choice: the choice's name; a dotted one where the user named code of their own.
        options: plain values.
        where: file and key, for messages.
    """

    choice: str
    options: Mapping[str, Any]
    where: str


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without aliases, which grow without bound, tags, which convert, or depth, which ends in a RecursionError."""

    level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="it has an alias", problem_mark=self.peek_event().start_mark)
        if (tag := self.peek_event().tag) is not None:
            raise yaml.MarkedYAMLError(problem=f"it has the tag {tag}", problem_mark=self.peek_event().start_mark)
        self.level += 1
        if self.level > MOST_LEVELS:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MOST_LEVELS} levels", problem_mark=self.peek_event().start_mark
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1


def read_saved(file: Path, remedy: str = "restore it") -> dict[str, Any]:
    """Read a run folder's `config.yaml`.

    Args:
        file: the file.
        remedy: what to do about one that is damaged.

    Raises:
        InputError: the file cannot be read, or holds anything but plain values under names.
    """
    text = read_text(file, MOST_BYTES)
    try:
        config = yaml.load(text, _PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f"line {mark.line + 1}: "
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise InputError(f"{file}: cannot be read ({line}{reason}); {remedy}") from error
    except (ValueError, OverflowError) as error:
        raise InputError(f"{file}: cannot be read ({' '.join(str(error).split())}); {remedy}") from error
    if not isinstance(config, dict):
        raise InputError(f"{file}: holds no configuration, which would be names with values; {remedy}")
    _check_plain(config, file, "", remedy)
    return config


def read_complete(file: Path, remedy: str = REWRITE) -> dict[str, Any]:
    """As `read_saved`, and with all that every saved configuration has: half of one may be valid YAML, too.

    Raises:
        InputError: as `read_saved`, or it was cut off.
    """
    config = read_saved(file, remedy)
    if lacking := [key for key in ALWAYS if config.get(key) is None]:
        raise InputError(
            f"{file}: lacks {', '.join(lacking)}, which every saved configuration has, so it was cut off or edited; "
            f"{remedy}"
        )
    return config


def _check_plain(value: Any, file: Path, path: str, remedy: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(f"{file}, {path or 'top level'}: expected names as keys, got {shown(key)}; {remedy}")
            _check_plain(inner, file, f"{path}.{key}" if path else key, remedy)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_plain(inner, file, f"{path}[{index}]", remedy)
    elif not isinstance(value, str | int | float | None):
        raise InputError(
            f"{file}, {path}: expected a text, a number, true, false or null, got a {type(value).__name__}; {remedy}"
        )


def saved_choice(config: Mapping[str, Any], group: str, file: Path) -> SavedChoice | None:
    """What a saved configuration says of a group; None where it says nothing.

    Args:
        config: as `read_saved` gives it.
        group: such as "benchmark".
        file: where it was read, for messages.

    Raises:
        InputError: the node names code, asks for interpolation, or is none that a run wrote.
    """
    node, where = config.get(group), f"{file}, {group}"
    if node is None:
        return None
    asking = f"give {group}=… on the command line, as the run had it, if you trust it"
    if not isinstance(node, dict):
        raise InputError(f"{where}: expected a choice with its options, got {shown(node)}; {asking}")
    options = {name: value for name, value in node.items() if name != CHOICE and name not in NAMES_OF_HYDRA}
    if CHOICE in node:
        choice = node[CHOICE]
        if "_target_" in node:
            raise InputError(f"{where}._target_: a run folder does not decide what is called; {asking}")
    else:
        choice = choice_of_0_1(group, node.get("_target_"), options)
        if choice is None:
            target = shown(node["_target_"]) if "_target_" in node else "none"
            raise InputError(f"{where}: expected a choice that diverseevol ships, got {target}; {asking}")
        options = {name: _without_targets_of_0_1(group, value) for name, value in options.items()}
    if not isinstance(choice, str) or not CHOICE_NAME.fullmatch(choice):
        raise InputError(f"{where}.{CHOICE}: expected the name of a choice, got {shown(choice)}; {asking}")
    _check_inert(options, where, asking)
    return SavedChoice(choice, options, where)


def _without_targets_of_0_1(group: str, value: Any) -> Any:
    """A nested node of 0.1 without the target, where that is a choice's own, as in the paper's three benchmarks."""
    if isinstance(value, dict) and choice_of_0_1(group, value.get("_target_"), value) is not None:
        return {name: inner for name, inner in value.items() if name not in NAMES_OF_HYDRA}
    return VALUES_0_1.get(value, value) if isinstance(value, str) else value


def _check_inert(value: Any, where: str, asking: str) -> None:
    """Nothing in it would be called or looked up, if someone were to hand it to Hydra after all."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.startswith("_") or "${" in name:
                raise InputError(f"{where}.{name:.60}: a run folder does not decide what is called; {asking}")
            _check_inert(inner, f"{where}.{name}", asking)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check_inert(inner, f"{where}[{index}]", asking)
    elif isinstance(value, str) and "${" in value:
        raise InputError(f"{where}: {shown(value)} refers to other values, and nothing in a run folder may; {asking}")
    elif isinstance(value, int | float) and not abs(value) < RANGE:
        raise InputError(f"{where}: expected a finite number below 2**63, got {shown(value)}; {asking}")
