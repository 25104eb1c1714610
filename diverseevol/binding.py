"""From plain values to typed options: names and types are checked before anything runs."""

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from diverseevol.errors import InputError

T = TypeVar("T")


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
    """The values, with whole numbers made floats where floats belong.

    Raises:
        InputError: as `bind`.
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
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and _accepts(hints[name], 0.5)
            and not _accepts(hints[name], value)
        ):
            checked[name] = float(value)
        elif not _accepts(hints[name], value):
            raise InputError(f"{path}{name} is {value!r}, which is not {_describe(hints[name])}")
    return checked


def _accepts(hint: Any, value: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, value) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is Path:
        return isinstance(value, str | Path)
    if hint in (int, float):
        return isinstance(value, hint) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    return True  # what else a factory takes is its own to check


def _describe(hint: Any) -> str:
    names = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        bool: "true or false",
        Path: "a path",
        type(None): "null",
    }
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    words: list[str] = []
    for part in parts:
        if typing.get_origin(part) is typing.Literal:
            words.extend(str(choice) for choice in typing.get_args(part))
        else:
            words.append(names.get(part, str(part)))
    return " or ".join(words)
