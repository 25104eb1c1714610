"""`~` for the home folder, in whatever option holds a path: on the command line and in files of options."""

import os
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, read_write

NO_PATHS = ("prompt.system",)  # texts that mean what they say
HOME = r"~[\w.-]*(?=/|$|[\s,\]}'\"])"  # ~ or ~NAME, where a folder's name ends
ON_THE_COMMAND_LINE = re.compile(rf"(?:(?<=^)|(?<=[\[{{,:'\"])|(?<=[,:\[{{]\s)){HOME}")
IN_A_VALUE = re.compile(rf"^{HOME}")


def in_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments with home folders in their values, which Hydra cannot read where `~` is not quoted."""
    return [_in_argument(argument) for argument in arguments]


def in_configuration(composed: Any) -> None:
    """Put home folders into the texts of a configuration that begin with `~`."""
    _walk(composed, "")


def _in_argument(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.startswith("~") or key.lstrip("+") in NO_PATHS:
        return argument
    return f"{key}={ON_THE_COMMAND_LINE.sub(_home, value)}"


def _home(match: re.Match[str]) -> str:
    return os.path.expanduser(match[0])  # noqa: PTH111 - an unknown user's home stays as it is written


def _walk(node: Any, path: str) -> None:
    if not isinstance(node, DictConfig | ListConfig):
        return
    for key in list(node) if isinstance(node, DictConfig) else range(len(node)):
        where = f"{path}.{key}".lstrip(".")
        if OmegaConf.is_missing(node, key) or OmegaConf.is_interpolation(node, key) or where in NO_PATHS:
            continue
        value = node[key]
        if isinstance(value, str):
            if (expanded := IN_A_VALUE.sub(_home, value)) != value:
                with read_write(node):
                    node[key] = expanded
        else:
            _walk(value, where)
