"""`diverseevol new`: a working skeleton of a sampler, judge, metric, format or benchmark, in the current folder."""

import keyword
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from diverseevol.cli.shipped import shipped_choices, shipped_parts
from diverseevol.cli.skeletons import KINDS
from diverseevol.errors import InputError, meant, shown
from diverseevol.output.terminal import say
from diverseevol.runs.metrics import COSTS, POOL_SIZE, SCORES
from diverseevol.storage.files import atomic_write, make_folder, remove, remove_empty
from diverseevol.storage.names import is_name

USAGE = f"""\
diverseevol new — a working skeleton of your own, with its test, in the current folder

Usage: diverseevol new KIND NAME
  KIND   {", ".join(KINDS)}
  NAME   what it is called on the command line, and its module: letters, digits and _

diverseevol new sampler mine writes mine.py, conf/sampler/mine.yaml and test_mine.py."""


def new(arguments: Sequence[str]) -> None:
    """Write a skeleton and say what to do with it, or show the usage.

    Raises:
        InputError: the kind or the name cannot be, or one of the files exists; nothing is written then.
    """
    if not arguments or {"-h", "--help"} & {*arguments}:
        say_lines(USAGE)
        return
    if len(arguments) != 2:
        raise InputError(
            f"new: expected KIND NAME, got {' '.join(arguments)}; write diverseevol new sampler mine, or another of "
            f"{', '.join(KINDS)}"
        )
    kind, name = arguments
    if kind not in KINDS:
        raise InputError(f"new: there is no kind {shown(kind)}{meant(kind, KINDS)}; choose from {', '.join(KINDS)}")
    files, command = KINDS[kind].filled(check_name(kind, name))
    for path in (name, *files):  # a folder of the name may be a module's
        if os.path.lexists(path):
            raise InputError(f"{path}: exists already and is not overwritten; remove it, or choose another name")
    if f"{name}.py" in files and find_spec(name) is not None:
        raise InputError(f"new {kind} {name}: Python has a module {name} already; choose another name")
    _write(files)
    code, choice, test = files
    width = max(map(len, files))
    say_lines(
        f"{code:<{width}}  the {kind}: a few lines that work, to make your own\n"
        f"{choice:<{width}}  makes it a choice\n"
        f"{test:<{width}}  tests it\n\n"
        f"next:\n  pytest {test}\n  {command}"
    )


def say_lines(text: str) -> None:
    """Print a text as it is set."""
    for line in text.split("\n"):
        say(line)


def check_name(kind: str, name: str) -> str:
    """A name that a module, a choice and a file can have, and that no choice of the project's has.

    Raises:
        InputError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name) or not is_name(name):
        raise InputError(
            f"new {kind} {shown(name)}: becomes the name of a Python module, expected letters, digits and _, a letter "
            f"first, no word of Python's own, at most 100; choose another name"
        )
    group = KINDS[kind].group
    taken = {*shipped_choices(group), *shipped_parts(group)}
    if kind == "metric":
        taken |= {description.name for description in (POOL_SIZE, *SCORES, *COSTS)}
    if name in taken:
        raise InputError(f"new {kind} {name}: {group}={name} is the project's own; choose another name")
    return name


def _write(files: Mapping[str, str]) -> None:
    """Write all of the files, or none."""
    written: list[Path] = []
    folders: list[Path] = []
    try:
        for path, text in files.items():
            folders += make_folder(Path(path).parent)
            with atomic_write(Path(path)) as file:
                file.write(text)
            written.append(Path(path))
    except BaseException:
        for file_path in written:
            remove(file_path)
        remove_empty(folders)
        raise
