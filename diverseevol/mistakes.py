"""What went wrong, in one sentence that says what to do, and the exit code that it means."""

import os
import re

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from diverseevol.configuration import compose
from diverseevol.errors import InputError


def verdict(error: BaseException, verb: str) -> tuple[int, str]:
    """The exit code, and what went wrong."""
    if (cause := _input_error(error)) is not None:
        return 2, str(cause)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return 2, _configuration_error(error, verb)
    if str(error).startswith("Only one of --run"):  # Hydra's word on its own flags, which is a bare ValueError
        return 2, "give one of -m, --cfg and --info, not several; --cfg shows a single job"
    rank = os.environ.get("RANK")
    where = "" if rank is None else f" in process {rank}"
    return 1, f"failed{where}: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _input_error(error: BaseException | None) -> InputError | None:
    """The InputError at the root of a chain of exceptions: Hydra wraps what its targets raise."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__
    return None


def _configuration_error(error: BaseException, verb: str) -> str:
    lines = [
        line.strip()
        for line in str(error).split("\n")
        if line.strip() and not line.strip().startswith(("full_key", "object_type", "reference_type"))
    ]
    text = " ".join(lines)
    if match := re.search(r"Could not override '([\w.@/]+)'", text):
        return f"{match[1]} is not an option of {verb}{_alternatives(verb, match[1])}"
    if match := re.search(r"Could not find '([\w@]+)/(\S+)' Available options in '\S+': (.*?)(Config search|$)", text):
        return f"there is no {match[1]}={match[2]}; choose from {', '.join(match[3].split())}"
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is missing: give {error.full_key}=…"
    text = text.split("Config search path")[0].split("See https://hydra.cc")[0]
    return re.sub(r"\s+", " ", text).strip()


def _alternatives(verb: str, key: str) -> str:
    """What could have been meant by an unknown key: its neighbours in the configuration."""
    parent = key.rpartition(".")[0]
    config = compose(verb)
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return f": {parent} holds no options here; see diverseevol {verb} --help"
    names = [f"{parent}.{k}" if parent else k for k in map(str, node) if not k.startswith("_")]
    if key in names:  # another choice of the group has it
        return f" with every {parent} that was chosen; sweep over the choices that have it by themselves"
    return f"; choose from {', '.join(names)}"
