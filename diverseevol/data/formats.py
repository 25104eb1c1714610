"""The formats that records come in: a record to an Example and back."""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Example:
    """One instruction with its response.

    Attributes:
        instruction: what is asked.
        input: what the instruction is about, such as a passage to summarise; may be empty.
        response: the answer to learn.
        extra: the record's other fields, which are kept but not trained on.
    """

    instruction: str
    input: str
    response: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fields:
    """The names that records give to the parts of an Example; `input` None where they have no such part."""

    instruction: str
    input: str | None
    response: str


INPUTS = ("input", "context")
# What other data sets call a part of a row that is said to the model.
KNOWN = (*INPUTS, "system", "history")
ALPACA = Fields("instruction", "input", "output")
DOLLY = Fields("instruction", "context", "response")


class BadRecord(ValueError):  # noqa: N818  # it is a thing found, and also given as a value
    """One record is at fault; the caller knows the place and decides whether to stop or to leave it out.

    Attributes:
        field: the name of the field at fault; None where the record as a whole is.
        problem: what was found, such as "is blank".
        finding: both together. The message adds what to do.
    """

    def __init__(
        self,
        field: str | None,
        problem: str,
        remedy: str = "correct the row, or leave such rows out with data.on_bad_rows=skip",
    ) -> None:
        self.field = None if field is None else _printable(field)
        self.problem = _printable(problem)
        self.finding = self.problem if field is None else f'field "{self.field}" {self.problem}'
        super().__init__(f"{self.finding}; {remedy}")


def _printable(text: str) -> str:
    """Records are quoted in messages and files, also where they hold an unpaired surrogate."""
    return text.encode("utf-8", "backslashreplace").decode()


def recognise(record: Any) -> Fields:
    """Tell from one record which names its fields go by: those of Alpaca, of Dolly, or a mixture of both.

    Raises:
        BadRecord: the record is not an object, or its names fit neither format or both.
    """
    names = _record(record).keys()
    inputs = [name for name in INPUTS if name in names]
    responses = [name for name in ("output", "response") if name in names]
    if "instruction" not in names or len(responses) != 1 or len(inputs) > 1:
        found = ", ".join(names) or "none"
        raise BadRecord(
            None,
            f"its fields ({found}) are neither Alpaca's (instruction, input, output) nor Dolly's "
            f"(instruction, context, response)",
            "name them with data.fields.instruction=…, data.fields.response=… and, where there is one, "
            "data.fields.input=…",
        )
    usual = ALPACA if responses == ["output"] else DOLLY
    return Fields("instruction", inputs[0] if inputs else usual.input, responses[0])


def with_input(fields: Fields, record: Any) -> Fields:
    """The names of the fields, the input's as this record has it: a first record may lack what others have."""
    names = [name for name in INPUTS if isinstance(record, Mapping) and name in record]
    return replace(fields, input=names[0]) if len(names) == 1 else fields


def parse(record: Any, fields: Fields) -> Example:
    """Check one record and take it apart. Instruction and response must say something; the input need not.

    Raises:
        BadRecord: a field is missing, not text, blank, or holds what is not a character.
    """
    rest = _record(record)
    instruction = _text(rest, fields.instruction)
    response = _text(rest, fields.response)
    named = fields.input is not None and rest.get(fields.input) is not None
    given = _text(rest, str(fields.input), blank=True) if named else ""
    taken = {fields.instruction, fields.input, fields.response}
    return Example(instruction, given, response, {name: rest[name] for name in rest if name not in taken})


def _record(value: Any) -> Mapping[str, Any]:
    if isinstance(value, BadRecord):
        raise value
    if not isinstance(value, Mapping):
        raise BadRecord(None, f"{_kind(value)} stands where a record, that is a JSON object, belongs")
    return value


def _text(record: Mapping[str, Any], name: str, *, blank: bool = False) -> str:
    if name not in record:
        raise BadRecord(
            name,
            f"is missing (there are: {', '.join(record) or 'none'})",
            "correct the row, or data.fields where the records call it otherwise, or leave such rows out with "
            "data.on_bad_rows=skip",
        )
    value = record[name]
    if not isinstance(value, str):
        raise BadRecord(name, f"is {_kind(value)} where text belongs")
    if not blank and not value.strip():
        raise BadRecord(name, "is blank")
    if "\0" in value:
        raise BadRecord(name, f"holds a NUL character (character {value.index(chr(0)) + 1})")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        found = f"\\u{ord(value[error.start]):04x}"
        raise BadRecord(name, f"holds an unpaired surrogate, {found} (character {error.start + 1})") from error
    return value


def _kind(value: Any) -> str:
    """Name a JSON value as its author would."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"a number ({value!s:.40})"
    if isinstance(value, str):
        return "a bare text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, Mapping | BadRecord) else f"a {type(value).__name__}"


def to_record(example: Example, fields: Fields) -> dict[str, Any]:
    """Put an Example together again under its original names."""
    record: dict[str, Any] = {fields.instruction: example.instruction}
    if fields.input is not None:
        record[fields.input] = example.input
    return {**record, fields.response: example.response, **example.extra}


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
        return _printable(value)
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
