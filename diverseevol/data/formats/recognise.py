"""Which format records are in: told from the fields of one, or by the names that the user gives."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from diverseevol.data.formats.base import BadRecord, as_object
from diverseevol.data.formats.flat import ALPACA, DOLLY, INPUTS, Fields
from diverseevol.data.formats.messages import OPENAI, SHAREGPT, Messages, Roles
from diverseevol.data.formats.prompt_completion import PromptCompletion
from diverseevol.errors import InputError

Known = Fields | Messages | PromptCompletion
# What records call question and answer, each line before those below it: a record with fields of two is of the upper.
NAMES = {
    "instruction": ("output", "response"),
    "prompt": ("completion", "response"),
    "question": ("answer",),
}
LISTS = ("messages", "conversations", "conversation")
FLAT, CHAT = ("instruction", "input", "response", "history"), ("messages", "role", "content")
BY_NAME = (
    "name them with data.fields.instruction=…, data.fields.response=… and, where there is one, data.fields.input=…, or "
    "a list of messages with data.fields.messages=…"
)


def recognise(record: Any) -> Known:
    """Tell from one record which format it is in.

    Raises:
        BadRecord: the record is not an object, or its fields fit no format or several.
    """
    fields = as_object(record)
    if isinstance(fields.get("prompt"), list) and isinstance(fields.get("completion"), list):
        return PromptCompletion(written=_written(fields["prompt"], Messages()))
    inputs = [name for name in INPUTS if name in fields]
    for instruction, answers in NAMES.items():
        responses = [name for name in answers if name in fields]
        if instruction not in fields or not responses:
            continue
        if len(responses) > 1 or len(inputs) > 1:
            raise _several(fields, responses if len(responses) > 1 else inputs)
        usual = DOLLY if (instruction, responses) == ("instruction", ["response"]) else ALPACA
        passage = inputs[0] if inputs else usual.input
        return replace(usual, instruction=instruction, input=passage, response=responses[0])
    if lists := [name for name in LISTS if name in fields]:
        if len(lists) > 1:
            raise _several(fields, lists)
        return replace(_written(fields[lists[0]], OPENAI), messages=lists[0])
    shown = ", ".join(fields) or "none"
    if "text" in fields and len(fields) == 1:
        raise BadRecord(
            None,
            "its only field is text, which does not say where the question ends and the answer begins",
            "give rows with a field for each",
        )
    raise BadRecord(
        None,
        f"its fields ({shown}) are not those of Alpaca (instruction, input, output), of Dolly (instruction, context, "
        f"response), prompt and completion, question and answer, or a list of messages ({', '.join(LISTS)})",
        BY_NAME,
    )


def described(format: Known) -> str:
    """A format as a message names it, by the fields that every record of it has."""
    if isinstance(format, Messages):
        return f"{format.messages} (a list of messages with {format.role} and {format.content})"
    if isinstance(format, PromptCompletion):
        return f"{format.prompt} and {format.completion} (lists of messages)"
    return f"{format.instruction} and {format.response}"


def by_names(fields: Mapping[str, str | None] | None, roles: Mapping[str, str | None] | None) -> Known | None:
    """The format of records whose parts the user names; None where nothing is named.

    Raises:
        InputError: the names are too few, or do not go together.
    """
    named = {part: name for part, name in (fields or {}).items() if name is not None}
    of_roles = {role: name for role, name in (roles or {}).items() if name is not None}
    if of_roles and "messages" not in named:
        raise InputError(
            "data.roles says what messages call their roles; name the list of messages, too, with "
            "data.fields.messages=…, and their fields with data.fields.role=… and data.fields.content=…"
        )
    if not named:
        return None
    listed = ", ".join(f"{part}={name}" for part, name in named.items())
    is_chat = any(part in named for part in CHAT)
    if is_chat and (flat := [part for part in FLAT if part in named]):
        raise InputError(
            f"data.fields gives {listed}, but {flat[0]} is a part of rows without a list of messages; leave it out, or "
            f"messages, role and content"
        )
    if is_chat:
        return _chat(named, of_roles, listed)
    if not {"instruction", "response"} <= set(named) <= {*FLAT, "system"}:
        raise InputError(
            f"data.fields gives {listed} and nothing else, expected all parts once one is named; add "
            f"data.fields.instruction=NAME and data.fields.response=NAME, and data.fields.input=NAME where there is "
            f"one; or data.fields.messages=NAME for a list of messages"
        )
    _refuse_equal("data.fields", named)
    return Fields(
        named["instruction"], named.get("input"), named["response"], named.get("system"), named.get("history")
    )


def by_saved_names(data: Mapping[str, Any]) -> Known | None:
    """The format that the names in a saved configuration say, which may hold anything; None where they say none."""
    fields, roles = (
        {part: name for part, name in names.items() if isinstance(name, str)} if isinstance(names, Mapping) else {}
        for names in (data.get("fields"), data.get("roles"))
    )
    try:
        return by_names(fields, roles)
    except InputError:
        return None


def saved(format: Known) -> dict[str, Any]:
    """A format as plain values, for a file in the cache."""
    return {type(format).__name__: asdict(format)}


def restored(values: Mapping[str, Any]) -> Known:
    """The format that `saved` wrote."""
    ((name, options),) = values.items()
    if name == "Fields":
        return Fields(**options)
    if name == "Messages":
        return _messages(options)
    return PromptCompletion(**{**options, "written": _messages(options["written"])})


def _messages(options: Mapping[str, Any]) -> Messages:
    return Messages(**{**options, "roles": Roles(**options["roles"])})


def _several(fields: Mapping[str, Any], names: Sequence[str]) -> BadRecord:
    return BadRecord(
        None, f"its fields ({', '.join(fields)}) hold {' and '.join(names)}, expected one of them", BY_NAME
    )


def _written(listed: Any, usual: Messages) -> Messages:
    """How messages say their role and content, by the first of them; `usual` where that is not ShareGPT's way."""
    first = listed[0] if isinstance(listed, list) and listed else None
    as_sharegpt = isinstance(first, Mapping) and {SHAREGPT.role, SHAREGPT.content} <= first.keys()
    return SHAREGPT if as_sharegpt else usual


def _chat(named: Mapping[str, str], roles: Mapping[str, str], listed: str) -> Messages:
    if "messages" not in named:
        raise InputError(f"data.fields gives {listed}, but no list of messages; add data.fields.messages=NAME")
    usual = {"role": "role", "content": "content"}
    _refuse_equal("data.fields", {part: name for part, name in named.items() if part not in usual})
    _refuse_equal("data.fields", {**usual, **{part: name for part, name in named.items() if part in usual}})
    _refuse_equal("data.roles", {**{role: name for role, name in asdict(Roles()).items() if name}, **roles})
    return Messages(**named, roles=Roles(**roles))  # type: ignore[arg-type]  # names of roles are its texts


def _refuse_equal(option: str, named: Mapping[str, str]) -> None:
    names = list(named.values())
    if len(set(names)) < len(names) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{option} gives the names {names}, but they must be texts that differ; correct them")
