"""The fields of a record that are not its conversation, as JSON text that is the same however they were written."""

import base64
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from diverseevol.data.formats.base import BadRecord, printable


def dump_extra(extra: Mapping[str, Any]) -> str:
    """Write the other fields as canonical JSON: the same text whatever the order of the keys.

    Nothing is trained on them, so what JSON has no word for refuses no row: NaN becomes null and an infinity a text, as
    do decimals, dates, bytes (in base64) and unpaired surrogates (as their escapes).

    Raises:
        BadRecord: a field holds what was not read as one value, or is nested too deeply.
    """
    parts = []
    for name in sorted(extra):
        try:
            try:
                part = f"{CANONICAL.encode(name)}:{CANONICAL.encode(extra[name])}"
                part.encode()
            except ValueError:  # NaN, an infinity, or a surrogate
                part = f"{CANONICAL.encode(_json_value(name))}:{CANONICAL.encode(_json_value(extra[name]))}"
        except (TypeError, ValueError, RecursionError) as error:
            reason = error.finding if isinstance(error, BadRecord) else str(error)
            raise BadRecord(name, f"holds what JSON cannot say ({reason})") from error
        parts.append(part)
    return "{" + ",".join(parts) + "}"


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


CANONICAL = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_beyond_json
)
