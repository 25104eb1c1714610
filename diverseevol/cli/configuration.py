"""A composed configuration, as commands see it: plain values and typed objects, no Hydra."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import hydra
import yaml  # type: ignore[import-untyped]
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from diverseevol.cli.binding import bind, check, fitting, node_of, target_of
from diverseevol.cli.home_folder import in_configuration
from diverseevol.cli.own_code import is_choice, locate
from diverseevol.cli.shipped import configuration_folder, recorded_node, shipped_choices, without_names
from diverseevol.errors import InputError, input_error, shown
from diverseevol.runs.saved_config import DECIDED_BY_FOLDERS, SavedChoice

T = TypeVar("T")


# What a choice is called besides: paths, fingerprints and run folders have one name for it.
OTHER_NAMES = {("data", "json"): "file"}
QUOTA_OPTIONS = ("quota", "shares")  # of the node of any sampler, beside its own


def compose(verb: str, overrides: Sequence[str] = ()) -> DictConfig:
    """A configuration beside the one that runs; in a sweep Hydra is at work already and composes it itself."""
    if GlobalHydra.instance().is_initialized():
        return hydra.compose(verb, list(overrides))
    with hydra.initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return hydra.compose(verb, list(overrides))


def configure(verb: str, overrides: Sequence[str] = ()) -> "Configuration":
    """What the command line would make of these overrides, without running it."""
    with hydra.initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        composed = hydra.compose(verb, list(overrides), return_hydra_config=True)
    chosen = composed.hydra.runtime.choices
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return Configuration(verb, own, {str(group): str(chosen[group]) for group in chosen if "/" not in str(group)})


def missing(name: str, verb: str) -> str:
    """The sentence for a value that is mandatory and was not given."""
    if name != "model.path":
        return f"{name} is missing: give {name}=…"
    ways = ["model.path=… with a folder or a name on the hub"]
    if verb != "answer":  # where answers of random weights are nobody's
        ways.append("model=tiny (random weights, to try things out)")
    return f"{name} is missing: give {', or '.join(ways)}"


class _Choices(dict[str, str]):
    """Group -> the choice made; one that the user took away is named."""

    def __missing__(self, group: str) -> str:
        raise InputError(f"{group} was taken away, but a choice of it is needed; leave out ~{group}, or give {group}=…")


class Configuration:
    """A composed configuration, as commands see it: plain values and typed objects, no Hydra."""

    def __init__(
        self,
        verb: str,
        composed: DictConfig,
        choices: Mapping[str, str],
        *,
        shows_examples: bool = True,
        overrides: Sequence[str] | None = None,
    ) -> None:
        """Wrap what Hydra composed.

        Args:
            verb: the command.
            composed: its configuration.
            choices: group -> the choice made.
            shows_examples: whether it shows answers; of a sweep, one job does.
            overrides: what a single command was given; None in a sweep.
        """
        self.verb = verb
        self.shows_examples = shows_examples
        self.overrides = overrides
        self.choices: Mapping[str, str] = _Choices(
            {group: OTHER_NAMES.get((group, choice), choice) for group, choice in choices.items()}
        )
        in_configuration(composed)
        self._composed = composed
        self._made: dict[str, Any] = {}

    def value(self, key: str, kind: Any = Any) -> Any:
        """A plain value: a number, a text, null, or a dictionary or list of them.

        Args:
            key: its dotted path.
            kind: the annotation that it has to fit.

        Raises:
            InputError: the value is mandatory and was not given, or does not fit.
        """
        node = OmegaConf.select(self._composed, key, throw_on_missing=True)
        if OmegaConf.is_config(node):
            self._complete(node)
            node = OmegaConf.to_container(node, resolve=True)
        return fitting(kind, node, key)

    def complete(self) -> None:
        """Check that nothing is missing.

        Raises:
            InputError: a value is mandatory and was not given.
        """
        self._complete(self._composed)

    def _complete(self, node: Any) -> None:
        for name in sorted(OmegaConf.missing_keys(node)):
            raise InputError(missing(name, self.verb))

    def options(self, key: str, kind: type[T]) -> T:
        """A node as a dataclass, names and types checked; "" takes the dataclass's fields from the root."""
        if key:
            return bind(kind, self._node(key), key)
        return bind(kind, {name: self.value(name) for name in inspect.signature(kind).parameters}, "")

    def part(self, key: str, *, without: Collection[str] = (), **extra: Any) -> Any:
        """A node's `_target_`, called with its options and what is only known now.

        Args:
            key: of the node.
            without: options of it that are not its target's.
            extra: what is only known now.
        """
        node = {name: value for name, value in self._node(key).items() if name not in without}
        if "_target_" not in node:
            raise InputError(f"{key} has no choice made for it: give {key}=… (diverseevol {self.verb} --help)")
        target_of(node, key, partial=key == "trainer", locate=locate)
        composed = OmegaConf.select(self._composed, key)
        taken_out = any(name in composed for name in without)
        return hydra.utils.instantiate(node if taken_out else composed, _convert_="all", **extra)

    def settle(self, key: str, value: Any) -> None:
        """Put what was found out in place of what was asked for, as run folders are to hold it."""
        OmegaConf.update(self._composed, key, value)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What one command makes once, however often it asks for it under this name."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def _node(self, key: str) -> dict[str, Any]:
        return node_of(self.value(key), key, f"diverseevol {self.verb} --help")

    def recorded(self, key: str) -> Any:
        """A node as run folders hold it: the name of its choice and plain options, no module paths."""
        value = self.value(key)
        return recorded_node(key, self.choices.get(key), value) if isinstance(value, dict) else value

    def shipped(self, group: str, saved: SavedChoice, **extra: Any) -> Any:
        """What a run folder names, made from the choice of that name that ships with the package.

        What is called and where anything is fetched from are the package's own; of the folder come only options that
        `DECIDED_BY_FOLDERS` lists.

        Args:
            group: such as "benchmark".
            saved: what the folder says of it.
            extra: what is only known now.

        Raises:
            InputError: there is no such choice or option, or the folder wants to decide more than it may.
        """
        asking = f"give {group}=… on the command line, as the run had it, if you trust it"
        known = shipped_choices(group)
        if known.get(saved.choice) is None:
            raise InputError(
                f"{saved.where}: expected a choice that diverseevol ships ({', '.join(known)}), got {saved.choice!r}; "
                f"{asking}"
            )
        composed = compose(self.verb, [f"{group}={saved.choice}"])
        node: dict[str, Any] = OmegaConf.to_container(composed[group], resolve=True)  # type: ignore[assignment]
        target = hydra.utils.get_object(node["_target_"])
        defaults = {**_defaults(target), **node}
        decided = {}
        for name, value in saved.options.items():
            if name not in defaults or name in extra:
                raise InputError(f"{saved.where}.{name}: is not an option of {group}={saved.choice}; {asking}")
            shipped, folders = without_names(defaults[name], name), without_names(value, name)
            if type(folders) is type(shipped) and folders == shipped:
                continue
            if name not in DECIDED_BY_FOLDERS.get(group, ()):
                raise InputError(
                    f"{saved.where}.{name}: is {shown(value)}, and a run folder does not decide what is called or "
                    f"where it lies; give {group}={saved.choice} {group}.{name}=… on the command line, if you trust it"
                )
            decided[name] = value
        if open_ones := [name for name, value in node.items() if value == "???" and name not in decided]:
            raise InputError(
                f"{saved.where}: does not say {open_ones[0]}; give {group}={saved.choice} "
                f"{group}.{open_ones[0]}=… on the command line"
            )
        try:
            return hydra.utils.instantiate({**node, **check(target, decided, group)}, _convert_="all", **extra)
        except Exception as error:
            if (cause := input_error(error)) is None:
                raise
            raise InputError(f"{saved.where}: {cause}") from error

    def text(self) -> str:
        """All of it, resolved, as YAML; nodes as `recorded` has them."""
        nodes = {str(key): self.recorded(str(key)) for key in self._composed}
        return str(yaml.safe_dump(nodes, sort_keys=False, allow_unicode=True))

    def differs_from_default(self, keys: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Which of these nodes differ from what the named groups' choices alone would give.

        Returns:
            Dotted path -> value, for every differing leaf.
        """
        chosen = {group: self.choices[group] for group in groups}
        base = compose(self.verb, [f"{group}={choice}" for group, choice in chosen.items() if is_choice(group, choice)])
        ours = _leaves({key: self._node(key) for key in keys}, keys)
        # What a choice leaves open stays so; a schedule's sizes stand at the root.
        theirs = _leaves({key: OmegaConf.to_container(base[key], resolve=True) for key in keys}, keys)
        return {key: ours.get(key) for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)}


def _defaults(target: Any) -> dict[str, Any]:
    """What a target's options are where nothing is given."""
    parameters = inspect.signature(target).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _leaves(tree: Any, keys: Sequence[str]) -> dict[str, Any]:
    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}")
        else:
            yield path, node

    return {path: value for key in keys for path, value in walk(tree.get(key), key)}
