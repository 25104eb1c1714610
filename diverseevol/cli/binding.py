"""From plain values to typed options: names and types are checked before anything runs."""

import collections.abc
import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diverseevol.errors import InputError, shown

T = TypeVar("T")

LARGEST = 2**63  # integers from here on wrap around in arrays
FLAGS = ("_target_", "_partial_")  # keys of a node that are not options


def bind(target: Callable[..., T], values: Mapping[str, Any], where: str) -> T:
    """Call a dataclass or a factory with values whose names and types fit its signature.

    Args:
        target: what is called.
        values: its keyword arguments, from the configuration.
        where: the configuration's path to them, for messages.

    Raises:
        InputError: a name that the target does not know, or a value of another type.
    """
    return target(**check(target, values, where))


def check(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values, with integers made floats where floats are expected.

    Raises:
        InputError: as `bind`; numbers that are not finite or wrap around, and texts that no file can hold, fit nothing.
    """
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    checked = dict(values)
    path = f"{where}." if where else ""
    for name, value in values.items():
        if name not in parameters and not open_ended:
            close = difflib.get_close_matches(name, parameters, 1)
            hint = f"; did you mean {close[0]}?" if close else f"; choose from {', '.join(parameters)}"
            raise InputError(f"{path}{name} is not an option{hint}")
        if name not in hints:
            continue
        checked[name] = fitting(hints[name], value, f"{path}{name}")
    return checked


def fitting(hint: Any, value: Any, name: str) -> Any:
    """A value that an annotation accepts; an integer becomes a float where only those fit.

    Args:
        hint: the annotation.
        value: what the configuration holds.
        name: of the value, for messages.

    Raises:
        InputError: the value is of another type, or beyond what numbers and texts may be.
    """
    number = isinstance(value, int) and not isinstance(value, bool)
    wholly = _accepts(hint, value)
    if not wholly and not (number and _accepts(hint, 0.5)):
        raise InputError(f"{name} is {shown(value)}, which is not {_describe(hint, name)}")
    if problem := _beyond(value):
        raise InputError(f"{name} is {shown(value)}, which is {problem}")
    return value if wholly else float(value)


def _beyond(value: Any) -> str | None:
    """What no option may be, whatever its type."""
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return "too large a number; give one below 2^63"
    if isinstance(value, float) and not math.isfinite(value):
        return "not a finite number"
    if isinstance(value, str) and "\0" in value:
        return "not a text that can be used, for it holds a NUL character"
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        return "not a text that can be used, for it is not Unicode; write it in UTF-8"
    return None


def node_of(value: Any, name: str, choices: str) -> dict[str, Any]:
    """A node of the configuration that holds options.

    Args:
        value: what the configuration holds there.
        name: of the node.
        choices: where its choices and options are listed, for messages.

    Raises:
        InputError: it is not a node.
    """
    if isinstance(value, dict):
        return value
    content = "null or was taken away" if value is None else shown(value)
    raise InputError(
        f"{name} is {content}, expected its options: leave {name} as it is, or give one option at a time as "
        f"{name}.OPTION=…; {choices} lists them"
    )


def target_of(node: Mapping[str, Any], name: str, partial: bool, locate: Callable[[str], Any]) -> Callable[..., Any]:
    """What a node asks to be called, its options checked, those of inner nodes too.

    Args:
        node: the node, with its `_target_`.
        name: of the node, for messages.
        partial: whether the rest of the options is given later.
        locate: imports by dotted path.

    Raises:
        InputError: nothing of that name can be called, or an option does not fit.
    """
    for flag, value in node.items():
        if flag.startswith("_") and flag not in FLAGS:
            raise InputError(f"{name}.{flag} is not an option; leave it out")
        if flag == "_partial_" and value is not partial:
            raise InputError(f"{name}._partial_ is {shown(value)}, which is not {str(partial).lower()}; leave it out")
    target = _located(node.get("_target_"), name, locate)
    options = {key: value for key, value in node.items() if key not in FLAGS}
    inner = {key for key, value in options.items() if isinstance(value, dict) and "_target_" in value}
    for key in inner:
        target_of(options[key], f"{name}.{key}", options[key].get("_partial_", False) is True, locate)
    check(target, {key: value for key, value in options.items() if key not in inner}, name)
    return target


def _located(path: Any, name: str, locate: Callable[[str], Any]) -> Callable[..., Any]:
    try:
        target = locate(path) if isinstance(path, str) else None
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"{name}._target_ is {shown(path)}, which cannot be imported ({' '.join(str(error).split())}); choose "
            f"{name}=…, or give MODULE.NAME of code of your own"
        ) from error
    if not callable(target):
        raise InputError(
            f"{name}._target_ is {shown(path)}, expected MODULE.NAME of something to call; choose {name}=…"
        )
    return typing.cast(Callable[..., Any], target)


def _accepts(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, value) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(hint))
    if origin in (collections.abc.Mapping, dict):
        inner = typing.get_args(hint)[1]
        return isinstance(value, Mapping) and all(_accepts(inner, part) for part in value.values())
    if origin in (collections.abc.Sequence, list):
        (inner,) = typing.get_args(hint)
        return isinstance(value, list | tuple) and all(_accepts(inner, part) for part in value)
    if hint is None or hint is type(None):
        return value is None
    if hint is Path:
        return isinstance(value, str | Path)
    if hint in (int, float):
        return isinstance(value, hint) and not isinstance(value, bool)
    if hint in (str, bool, dict):
        return isinstance(value, hint)
    if origin is collections.abc.Callable:
        return callable(value)
    if inspect.isclass(hint) and hint is not Any:
        return isinstance(value, hint)  # a node with a `_target_` that makes one is checked as that
    return True  # what else a factory takes is its own to check


def _describe(hint: Any, name: str) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
        dict: "a group of options, each given as NAME.OPTION=…",
        type(None): "null",
    }
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    words: list[str] = []
    kinds = {collections.abc.Mapping: "texts by name", collections.abc.Sequence: "a list"}
    for part in parts:
        if typing.get_origin(part) is collections.abc.Mapping and typing.get_args(part)[1] is float:
            words.append("numbers by name")
            continue
        if typing.get_origin(part) is typing.Literal:
            words.extend(str(choice) for choice in typing.get_args(part))
        else:
            made = f"a {getattr(part, '__name__', part)} made by {name}._target_=MODULE.NAME"
            words.append(kinds.get(typing.get_origin(part)) or names.get(part, made))
    return " or ".join(dict.fromkeys(words))
