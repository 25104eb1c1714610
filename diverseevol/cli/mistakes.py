"""What went wrong, in one sentence that says what to do, and the exit code that it means."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from diverseevol.cli.configuration import compose, missing
from diverseevol.cli.shipped import configuration_folder, shipped_choices
from diverseevol.errors import InputError, PeerError, input_error, meant
from diverseevol.evaluation.endpoints.access import check_address
from diverseevol.output.shell import command, override, quoted

# Hydra's words for what the user did, where it raises a bare ValueError, and ours.
BARE = {
    "Only one of --run": "give one of -m, --cfg and --info, not several; --cfg shows a single job",
    "Config group override": "a group was given null or a number, but its choices are names; --help lists them",
}

NAMED = r"((?:hydra/)?[\w@]+)/([^']*)"  # a group and what was given as its choice, in Hydra's messages
WITH_PATH = {"data": "file", "model": "hf", "benchmark": "questions"}  # group -> the choice that is told a path

PARTS = "metric"  # the group whose choices add parts to a node, to which the user adds others
OPEN = ("experiment", "stop", PARTS)  # the groups of which none may be chosen, or several

# Flags and options that bring a configuration of the user's own.
OWN_CONFIGURATION = (
    "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "hydra.searchpath", "+hydra.searchpath",
)  # fmt: skip

# What the system says of a path that a user gave, or of what lies there; never of what the program did.
REFUSED = {
    errno.ENAMETOOLONG: "the name is too long for the file system; give a shorter one",
    errno.ELOOP: "its links lead in a circle; correct them, or give another path",
    errno.EACCES: "may not be read or written by you; change who may, or give another path",
    errno.EPERM: "may not be read or written by you; change who may, or give another path",
    errno.EROFS: "is on a file system that takes no changes; give another path",
    errno.EISDIR: "is a folder, expected a file; restore the file, or give another path",
    errno.ENOTDIR: "lies below a file, expected a folder; remove the file, or give another path",
}


def verdict(error: BaseException, verb: str) -> tuple[int, str]:
    """The exit code, and what went wrong."""
    if (cause := input_error(error)) is not None:
        return 2, str(cause)
    if isinstance(error, PeerError):
        return error.code, str(error)
    if isinstance(error, OverrideParseException):
        return 2, _unreadable(str(error.override), verb)
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__  # Hydra's wrapping of whatever the target raised
    if isinstance(error, OSError) and error.filename is not None and error.errno in REFUSED:
        return 2, f"{error.filename}: {REFUSED[error.errno]}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return 2, _configuration_error(error, verb)
    for beginning, sentence in BARE.items():
        if str(error).startswith(beginning):
            return 2, sentence
    rank = os.environ.get("RANK")
    where = "" if rank is None else f" in process {rank}"
    return 1, f"failed{where}: {type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def check_flags(verb: str, arguments: Sequence[str]) -> None:
    """Look at the arguments as Hydra will, which ends the program where a flag is not its own.

    Raises:
        InputError: there is no such flag, or it does not take what it was given.
    """

    class Flags(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            hint = "write options as KEY=VALUE, not between flags; " if message.startswith("unrecognized") else ""
            raise InputError(f"{message}; {hint}see diverseevol {verb} --help")

    Flags(parents=[get_args_parser()], add_help=False).parse_args(arguments)


def words_of(arguments: Sequence[str]) -> list[str]:
    """The arguments that are neither flags nor values of flags."""
    return list(get_args_parser().parse_args(arguments).overrides)


def own_configuration(arguments: Sequence[str]) -> list[str]:
    """The flags among the arguments that name a configuration of the user's own."""
    flags = vars(get_args_parser().parse_args(arguments))
    names = ("config_dir", "config_path", "config_name")
    return [f"--{name.replace('_', '-')}={flags[name]}" for name in names if flags[name] is not None]


def check_addresses(arguments: Sequence[str]) -> None:
    """Look at endpoints' addresses before Hydra shows them (`--cfg`), or a sweep writes them down.

    Raises:
        InputError: one of them is no address, or holds what may be a secret.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if (name := key.lstrip("+")) in ("judge.base_url", "answers.base_url"):
            # By itself, and where a comma or a bracket may be a part of a password.
            for form in (r"https?://[^\s'\",()]*", r"https?://[^\s'\"]*@[^\s'\"]*"):
                for address in re.findall(form, value, re.IGNORECASE):
                    if "${" not in address:
                        check_address(address, name.partition(".")[0])


def _readable(arguments: Sequence[str]) -> Iterator[tuple[str, Override]]:
    """The arguments as Hydra takes them apart, but for those that it cannot read, which is said elsewhere."""
    for argument in arguments:
        with suppress(HydraException):
            yield argument, OverridesParser.create().parse_override(argument)


def check_choices(arguments: Sequence[str]) -> None:
    """Look at the choices before Hydra does, which takes lists of them and uses some part of each.

    Raises:
        InputError: a group is given a list, null or a number.
    """
    for argument, parsed in _readable(arguments):
        group = parsed.key_or_group
        if parsed.is_sweep_override() or parsed.is_delete() or not shipped_choices(group) or group in OPEN:
            continue
        value, choices = parsed.value(), ", ".join(shipped_choices(group))
        if isinstance(value, list | dict):
            raise InputError(
                f"{argument}: {group} takes one choice, expected one of {choices}; to run several, give -m and commas "
                f"without brackets"
            )
        if not isinstance(value, str):
            raise InputError(f"{argument}: {group} takes the name of a choice, expected one of {choices}")


def check_appended(verb: str, arguments: Sequence[str]) -> None:
    """Look at the keys that are appended (`+KEY=VALUE`), which Hydra takes whatever they are called.

    Options of a choice (`+trainer.limit_train_batches=3`) are checked where it is made. A key that another value refers
    to (`${KEY}`), options of a class of the user's own, and a configuration of the user's own, are the user's.

    Raises:
        InputError: the command has no such option.
    """
    if any(argument.partition("=")[0] in OWN_CONFIGURATION for argument in arguments):
        return
    groups = _groups(verb)
    for _, parsed in _readable(arguments):
        key = parsed.key_or_group
        root = key.partition(".")[0]
        if not parsed.is_add() and not parsed.is_force_add():
            continue
        adds_part = root == PARTS and root in groups
        if root == "hydra" or "/" in key or key in groups or adds_part:
            continue
        if any(f"${{{root}" in word or word.lstrip("+").startswith(f"{root}._target_=") for word in arguments):
            continue
        if not _is_option(compose(verb, _chosen(groups)), key):
            raise InputError(f"{key} is not an option of {verb}{_alternatives(verb, key)}")


def _is_option(config: DictConfig, key: str) -> bool:
    """Whether a configuration has a key, or a choice on the way to it checks its options itself."""
    node: object = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or (name not in node and "_target_" not in node):
            return False
        if name not in node:
            return True
        node = None if OmegaConf.is_missing(node, name) else node[name]
    return True


def _unreadable(override: str, verb: str) -> str:
    """What to write for an argument that Hydra cannot take apart."""
    if quoted := _quoted(override):
        return f"{override} cannot be read, for some of its characters have a meaning of their own; quote it: {quoted}"
    return f"{override!r} is not KEY=VALUE, as options are written; see diverseevol {verb} --help"


def _quoted(override: str) -> str | None:
    """The argument with its value in Hydra's quotes, inside the shell's; None where that does not help."""
    key, _, value = override.partition("=")
    if not value:
        return None
    try:
        OverridesParser.create().parse_override(f"{key}={quoted(value)}")
    except HydraException:
        return None
    return command(f"{key}={quoted(value)}")


def _configuration_error(error: BaseException, verb: str) -> str:
    lines = [
        line.strip()
        for line in str(error).split("\n")
        if line.strip() and not line.strip().startswith(("full_key", "object_type", "reference_type"))
    ]
    text = " ".join(lines)
    if match := re.search(r"Could not override '([\w.@/]+)'", text):
        return f"{match[1]} is not an option of {verb}{_alternatives(verb, match[1])}"
    if match := re.search(rf"Could not find '{NAMED}' Available options in '\S+': (.*?)(Config search|$)", text):
        choices = match[3].split()
        hint = meant(match[2], choices) or _as_path(match[1], match[2])
        return f"there is no {match[1]}={match[2]}{hint}; choose from {', '.join(choices)}"
    if match := re.search(rf"Could not load '{NAMED}'", text):
        hint = _as_path(match[1], match[2])
        return f"there is no {match[1]}={match[2]}{hint}, and {match[1]} takes one choice; {verb} --help lists them"
    if match := re.match(r"Multiple values for ([\w/]+)\.", text):
        return f"{match[1]} has a choice already, so nothing is appended to it; write {match[1]}=CHOICE, once"
    if match := re.match(r"Ambiguous value for argument '(.*?)' 1\.", text):
        return f"{match[1]} has a comma: add -m to sweep over the values, or quote what is one: {_quoted(match[1])}"
    if isinstance(error, MissingMandatoryValue):
        return missing(str(error.full_key), verb)
    text = text.split("Config search path")[0].split("See https://hydra.cc")[0].strip(" .")
    reason = re.sub(r"\s+", " ", text)
    return f"the configuration does not fit together ({reason}); see diverseevol {verb} --help for what there is"


def _as_path(group: str, value: str) -> str:
    """What to write for a path or a name on the hub that was given in place of a choice."""
    if group not in WITH_PATH or not re.search(r"[./]", value):
        return ""
    return f" (did you mean {command(f'{group}={WITH_PATH[group]}', override(f'{group}.path', value))}?)"


def _choices_with(group: str, option: str) -> list[str]:
    """Which shipped choices of a group, if it is one, have an option; first those that have to be told something."""
    folder = configuration_folder() / group
    if not re.fullmatch(r"\w+", group) or not folder.is_dir():
        return []
    having: dict[str, bool] = {}
    for file in sorted(folder.glob("*.yaml")):
        content = OmegaConf.to_container(OmegaConf.load(file))
        node = content.get(group, content) if isinstance(content, dict) else None
        needs_value = isinstance(node, dict) and "???" in node.values()
        *parents, last = option.split(".")
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict) and last in node:
            having[file.stem] = needs_value
    return sorted(having, key=lambda choice: not having[choice])


def _groups(verb: str) -> list[str]:
    """The groups that a verb has choices of."""
    defaults = OmegaConf.load(configuration_folder() / f"{verb}.yaml").defaults
    names = [str(name) for entry in defaults if isinstance(entry, DictConfig) for name in entry]
    # `plan` takes another command's defaults, and so its groups.
    inherited = [group for entry in defaults if entry == "evolve" for group in _groups(entry)]
    return [*(name for name in names if shipped_choices(name)), *inherited]


def _chosen(groups: Sequence[str]) -> list[str]:
    """The choices of these groups on the command line, as far as there is one of each."""
    arguments = [argument.partition("=") for argument in sys.argv[1:]]
    return [
        f"{group}={choice}" for group, _, choice in arguments if group in groups and choice in shipped_choices(group)
    ]


def _alternatives(verb: str, key: str) -> str:
    """What could have been meant by an unknown key: its neighbours in the configuration."""
    parent, _, last = key.rpartition(".")
    group, _, option = key.partition(".")
    groups = _groups(verb)
    swept = any(argument.startswith(f"{group}=") and "," in argument for argument in sys.argv[1:])
    if option and group in groups and not swept and (choices := _choices_with(group, option)):
        return f" here, but of {group}={f' and {group}='.join(choices)}: add {group}={choices[0]}"
    config = compose(verb, _chosen(groups))
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return f": {parent} holds no options here{meant(parent, map(str, config))}; see diverseevol {verb} --help"
    names = [name for name in map(str, node) if not name.startswith("_")]
    if not parent:
        names += [name for name in groups if name not in names]  # of which nothing is chosen
    if last in names:  # another choice of the group has it
        if not parent:
            return f" in this form; see diverseevol {verb} --help"
        return f" with every {parent} that was chosen; sweep over the choices that have it by themselves"
    within = f"{parent}." if parent else ""
    if not names:
        return f": {parent} has no options here; leave it out"
    return f"{meant(last, names, within)}; choose from {', '.join(within + name for name in names)}"
