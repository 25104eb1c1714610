"""A composed configuration, as commands see it: plain values and typed objects, no Hydra."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from diverseevol.binding import bind, check
from diverseevol.errors import InputError

T = TypeVar("T")


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


def configuration_folder() -> Path:
    """Where the YAML files lie: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def missing(name: str, verb: str) -> str:
    """The sentence for a value that is mandatory and was not given."""
    if name != "model.path":
        return f"{name} is missing: give {name}=…"
    ways = ["model.path=… with a folder or a name on the hub"]
    if verb != "answer":  # where answers of random weights are nobody's
        ways.append("model=tiny (random weights, to try things out)")
    return f"{name} is missing: give {', or '.join(ways)}"


class Configuration:
    """A composed configuration, as commands see it: plain values and typed objects, no Hydra."""

    def __init__(self, verb: str, composed: DictConfig, choices: Mapping[str, str]) -> None:
        self.verb = verb
        self.choices = choices
        self._composed = composed

    def value(self, key: str) -> Any:
        """A plain value: a number, a text, null, or a dictionary or list of them.

        Raises:
            InputError: the value is mandatory and was not given.
        """
        node = OmegaConf.select(self._composed, key, throw_on_missing=True)
        if not OmegaConf.is_config(node):
            return node
        self._complete(node)
        return OmegaConf.to_container(node, resolve=True)

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
            return bind(kind, self.value(key), key)
        return bind(kind, {name: self.value(name) for name in inspect.signature(kind).parameters}, "")

    def part(self, key: str, **further: Any) -> Any:
        """A node's `_target_`, called with its options and what is only known now."""
        given = self.value(key)
        target = hydra.utils.get_object(given["_target_"])
        check(
            target,
            {name: v for name, v in given.items() if not (name.startswith("_") or isinstance(v, dict))},
            key,
        )
        return hydra.utils.instantiate(OmegaConf.select(self._composed, key), _convert_="all", **further)

    def saved(self, file: Path, keys: Sequence[str]) -> "Configuration":
        """These keys of a configuration that a run keeps on disk.

        Raises:
            InputError: the file cannot be read, or names code that is not the project's: it may come from anywhere.
        """
        try:
            kept = OmegaConf.masked_copy(OmegaConf.load(file), list(keys))  # type: ignore[arg-type]
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise InputError(f"{file}: cannot be read ({' '.join(str(error).split())}); restore it") from error
        for path, value in _leaves(OmegaConf.to_container(kept), keys).items():
            if path.endswith("._target_") and not str(value).startswith("diverseevol."):
                raise InputError(f"{file}, {path}: {value!r} is not the project's own; choose it on the command line")
        return Configuration(self.verb, kept, {})

    def text(self) -> str:
        """All of it, resolved, as YAML."""
        return OmegaConf.to_yaml(self._composed, resolve=True)

    def differs_from_default(self, keys: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Which of these nodes differ from what the named groups' choices alone would give.

        Returns:
            Dotted path -> value, for every differing leaf.
        """
        base = compose(self.verb, [f"{group}={self.choices[group]}" for group in groups])
        ours, theirs = (_leaves(_resolved(config, keys), keys) for config in (self._composed, base))
        return {key: ours.get(key) for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)}


def _resolved(config: DictConfig, keys: Sequence[str]) -> dict[str, Any]:
    """These nodes with what they refer to: a schedule's sizes stand at the root."""
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in keys}


def _leaves(tree: Any, keys: Sequence[str]) -> dict[str, Any]:
    def walk(node: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}")
        else:
            yield path, node

    return {path: value for key in keys for path, value in walk(tree.get(key), key)}
