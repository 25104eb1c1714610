"""Calls of tools: as messages have them, and as the JSON text that ShareGPT has in a turn of their own."""

import json
from collections.abc import Mapping
from typing import Any

from diverseevol.data.conversation import Turn
from diverseevol.data.formats.base import BadRecord, CannotHold, kind_of

EXPECTED = "a list of objects, each with a function that has a name"


def check_calls(calls: Any, field: str, number: int) -> None:
    """Check what a message has in `tool_calls`.

    Raises:
        BadRecord: it is no list of calls.
    """
    if not isinstance(calls, list):
        raise BadRecord(field, f"has tool_calls that are {kind_of(calls)}, expected {EXPECTED}", turn=number)
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadRecord(field, f"has tool_calls without the name of a function, expected {EXPECTED}", turn=number)


def calls_of(text: str, field: str, number: int) -> list[dict[str, Any]]:
    """Calls from JSON text of one, {"name": …, "arguments": …}, or of a list of such.

    Raises:
        BadRecord: the text says something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    calls = value if isinstance(value, list) else [value]
    if not calls or not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        problem = f"is a call of tools that is not JSON with a name and arguments ({text:.60})"
        raise BadRecord(field, problem, turn=number)
    return [
        {
            **{name: value for name, value in call.items() if name not in ("name", "arguments")},
            "type": "function",
            "function": {name: call[name] for name in ("name", "arguments") if name in call},
        }
        for call in calls
    ]


def text_of_calls(turn: Turn) -> str:
    """The calls of a turn as `calls_of` reads them.

    Raises:
        CannotHold: the turn says more than its calls.
    """
    if turn.text:
        raise CannotHold("a call of tools with a text beside it")
    if rest := [name for name in turn.more if name != "tool_calls"]:
        raise CannotHold(f"a call of tools with the field {rest[0]}")
    calls = [
        {
            **{name: call["function"][name] for name in ("name", "arguments") if name in call["function"]},
            **{name: value for name, value in call.items() if name not in ("type", "function")},
        }
        for call in turn.more["tool_calls"]
    ]
    return json.dumps(calls if len(calls) > 1 else calls[0], ensure_ascii=False)
