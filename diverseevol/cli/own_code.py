"""Code and configuration of the user's own, from the current folder: named by the user alone, never by what is read.

`sampler._target_=my_file.MySampler` imports `my_file.py` of the current folder, and `sampler=mine` finds its
`conf/sampler/mine.yaml`. The package's own choices come first, so that a folder changes nothing by lying there.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import _locate
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict

from diverseevol.cli.shipped import NAMES_OF_HYDRA, configuration_folder

NULL_NODES = ("data.format",)  # null where nothing is chosen, and a node of options where something is


class OwnConfiguration(SearchPathPlugin):
    """Hydra's plug-in by which choices are found in `conf/` of the current folder, after the package's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add the folder, where there is one."""
        if _own_folder().is_dir() and not _own_folder().samefile(configuration_folder()):
            search_path.append("the current folder", f"file://{_own_folder()}")


def is_choice(group: str, name: str) -> bool:
    """Whether a group has a choice of that name, in the package or in the current folder."""
    return any((folder / group / f"{name}.yaml").is_file() for folder in (configuration_folder(), _own_folder()))


def opened(arguments: Sequence[str]) -> list[str]:
    """The arguments, options of the user's own classes in the form in which Hydra adds what a choice lacks."""
    own = {word.partition("._target_=")[0].lstrip("+") for word in arguments if "._target_=" in word}
    nodes = tuple(f"{node}." for node in {*own, *NULL_NODES})
    return [f"++{word.lstrip('+')}" if word.lstrip("+").startswith(nodes) else word for word in arguments]


def without_defaults(composed: DictConfig, choices: dict[str, str], overrides: Sequence[str]) -> None:
    """Take away the options of a default choice that the user's own class stands in for, and call it by its name.

    `sampler._target_=my_file.MySampler` leaves no option of K-Center behind; with `sampler=kcenter` beside it, all.

    Args:
        composed: what Hydra composed; changed in place.
        choices: group -> the choice made; changed likewise.
        overrides: of the command line.
    """
    keys = {word.partition("=")[0].lstrip("+") for word in overrides}
    for group in choices:
        node = composed.get(group)
        if f"{group}._target_" not in keys or group in keys or not isinstance(node, DictConfig):
            continue
        named = {key.split(".")[1] for key in keys if key.startswith(f"{group}.")}
        with open_dict(node):
            for name in [str(name) for name in node]:
                if name not in named | NAMES_OF_HYDRA:
                    del node[name]
        choices[group] = str(OmegaConf.to_container(node)["_target_"]).rpartition(".")[2]  # type: ignore[call-overload,index]


def locate(path: str) -> Any:
    """What a dotted path names, of what is installed or of the current folder."""
    look_in_current_folder(path)
    return _locate(path)


def look_in_current_folder(path: str) -> None:
    """Make the current folder importable, where nothing installed has the first name of a dotted path."""
    if importlib.util.find_spec(path.partition(".")[0]) is None and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _own_folder() -> Path:
    return Path.cwd() / "conf"
