"""Records, turns and further fields as JSON text: what JSON has no word for becomes text or null in all of them."""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from diverseevol.data.conversation import Turn
from diverseevol.data.formats.base import BadRecord, printable


def dump_extra(extra: Mapping[str, Any]) -> str:
    """Write the other fields as canonical JSON: the same text whatever the order of the keys.

    Nothing is trained on them, so what JSON has no word for refuses no row: NaN becomes null and an infinity a text, as
    do decimals, dates, bytes (in base64) and unpaired surrogates (as their escapes).

    Raises:
        BadRecord: a field holds what was not read as one value, or is nested too deeply.
    """
    parts = (f"{_encoded(CANONICAL, name, name)}:{_encoded(CANONICAL, extra[name], name)}" for name in sorted(extra))
    return "{" + ",".join(parts) + "}"


def dump_record(record: Mapping[str, Any]) -> str:
    """Write a record as a line of JSON, its keys in their order.

    Raises:
        BadRecord: a field holds what was not read as one value, or is nested too deeply.
    """
    try:
        return _encoded(AS_WRITTEN, record, None)
    except BadRecord:
        for name, value in record.items():  # which field it is
            _encoded(AS_WRITTEN, value, name)
        raise


def dump_turns(turns: Sequence[Turn]) -> str:
    """Write turns as JSON: a list [role, text, input, more] each, the last ones left out where they are empty.

    The keys of `more` stay in their order, in which a chat template writes the arguments of a tool call.

    Raises:
        BadRecord: a turn's other fields hold what was not read as one value, or are nested too deeply.
    """
    parts: list[Any] = []
    for number, turn in enumerate(turns, start=1):
        part = [turn.role, turn.text, turn.input, turn.more]
        while not part[-1]:
            part.pop()
        parts.append(_encoded(AS_WRITTEN, part, None, number))
    return "[" + ",".join(parts) + "]"


def read_turns(text: str) -> tuple[Turn, ...]:
    """The turns that `dump_turns` wrote."""
    return tuple(Turn(role, *(rest or [""])) for role, *rest in json.loads(text))


def _encoded(encoder: json.JSONEncoder, value: Any, field: str | None, turn: int | None = None) -> str:
    """A value as JSON text, of the field and turn that a fault is said to be in."""
    try:
        try:
            text = encoder.encode(value)
            text.encode()
        except ValueError:  # NaN, an infinity, or a surrogate
            text = encoder.encode(_json_value(value))
    except (TypeError, ValueError, RecursionError) as error:
        reason = error.finding if isinstance(error, BadRecord) else str(error)
        raise BadRecord(field, f"holds what JSON cannot say ({reason})", turn=turn) from error
    return text


def _json_value(value: Any) -> Any:
    """A value with all that JSON cannot say in it replaced."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {_json_value(name): _json_value(item) for name, item in value.items()}
    return value


def _beyond_json(value: Any) -> str:
    """What tables have and JSON has not, as text; all else is refused."""
    if isinstance(value, BadRecord):
        raise value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__}")


AS_WRITTEN = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_beyond_json)
CANONICAL = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_beyond_json
)
