"""The formats that data comes in: a file to JSON records, a record to an Example and back."""

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from diverseevol.errors import InputError


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
        remedy: str = "mend it, or leave such rows out with data.on_bad_rows=skip",
    ) -> None:
        self.field = None if field is None else _printable(field)
        self.problem = _printable(problem)
        self.finding = self.problem if field is None else f'field "{self.field}" {self.problem}'
        super().__init__(f"{self.finding}; {remedy}")


def _printable(text: str) -> str:
    """Records are quoted in messages and files, also where they hold half a character."""
    return text.encode("utf-8", "backslashreplace").decode()


def recognise(record: Any) -> Fields:
    """Tell from one record which names its fields go by: those of Alpaca, of Dolly, or a mixture of both.

    Raises:
        BadRecord: the record is not an object, or its names fit neither format or both.
    """
    names = _record(record).keys()
    inputs = [name for name in ("input", "context") if name in names]
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
        raise BadRecord(name, f"is missing (there are: {', '.join(record) or 'none'})")
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
        raise BadRecord(name, f"holds half a character, {found} (character {error.start + 1})") from error
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

    Raises:
        BadRecord: a field holds what JSON cannot say, such as NaN, half a character or bytes.
    """
    parts = []
    for name in sorted(extra):
        try:
            part = f"{CANONICAL.encode(name)}:{CANONICAL.encode(extra[name])}"
            part.encode()  # half a character is refused now, not hours later when the chosen rows are written
        except (TypeError, ValueError, RecursionError) as error:
            reason = error.finding if isinstance(error, BadRecord) else str(error)
            reason = "NaN or an infinity" if "JSON compliant" in reason else reason
            raise BadRecord(name, f"holds what JSON cannot say ({reason})") from error
        parts.append(part)
    return "{" + ",".join(parts) + "}"


def _beyond_json(value: Any) -> str:
    """Dates and times, which tables have and JSON has not; all else is refused."""
    if isinstance(value, BadRecord):
        raise value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"a value of type {type(value).__name__}")


CANONICAL = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_beyond_json
)


# From a file to records. Located: a record, or what is wrong with it; its line; the bytes read so far.
Located = tuple[Any, int, int]
CHUNK = 1 << 20  # bytes that are read of an array at a time
SLACK = 16  # characters at the end of a chunk within which a number, name or escape may be cut in two
SPACE = re.compile(r"[ \t\n\r]*")


def read_records(path: Path) -> Iterator[Located]:
    """Read records one by one, from one a line (JSONL) or from a JSON array, whichever the file holds.

    What is wrong with one record alone is given as a BadRecord in its place. At most a line, or a chunk of an
    array, is in memory at a time.

    Raises:
        InputError: the file cannot be read, or an array has a fault after which it cannot be read on.
    """
    try:
        with path.open("rb") as file:
            yield from (_array(_Window(path, file)) if _array_ahead(path, file) else _lines(file))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its rights"
        ) from error


def _array_ahead(path: Path, file: IO[bytes]) -> bool:
    """Look at the beginning and go back; `.json` may also hold a record a line, but then more than one."""
    if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise InputError(f"{path}, line 1: UTF-16 text (it begins with a UTF-16 byte order mark); save it as UTF-8")
    file.seek(0)
    file.seek(len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0)
    number = 1
    while (first := file.read(1)).isspace():
        number += first == b"\n"
    if path.suffix.lower() == ".json" and first not in (b"", b"["):
        whole = first == b"{" and isinstance(_decoded(first + file.readline()), dict)
        if not (whole and any(line.strip() for line in file)):
            found = "an object" if first == b"{" else repr(first)[1:]
            raise InputError(
                f"{path}, line {number}: {found} stands where an array of records belongs; put the records "
                f"into [...], or write one a line and name the file .jsonl"
            )
    file.seek(0)
    return first == b"["


def _lines(file: IO[bytes]) -> Iterator[Located]:
    """Records one a line. Only a line feed ends a line: U+2028 and its like may stand inside texts."""
    done = 0
    for number, line in enumerate(file, start=1):
        done += len(line)
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if line.strip():
            yield _decoded(line), number, done


def _decoded(line: bytes) -> Any:
    """The line's record, or the BadRecord that it is."""
    try:
        text = line.decode().strip()
        return DECODER.decode(text)
    except UnicodeDecodeError as error:
        return BadRecord(None, f"byte 0x{line[error.start]:02X} (byte {error.start + 1} of the line) is not UTF-8 text")
    except json.JSONDecodeError as error:
        if _cut(error):
            return BadRecord(None, f"the line is cut off in the middle of a record, after character {len(text)}")
        return BadRecord(None, f"{_syntax(error)} (character {error.pos + 1} of the line)")
    except (ValueError, RecursionError) as error:
        return BadRecord(None, f"holds what cannot be read ({error})")


def _once(pairs: list[tuple[str, Any]]) -> Any:
    """Refuse an object that says a name twice: which of the two is meant, nobody can tell."""
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    names = [name for name, _ in pairs]
    return BadRecord(next(name for name in names if names.count(name) > 1), "stands twice in one object")


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _cut(error: json.JSONDecodeError, slack: int = 0) -> bool:
    """Whether the text ended too early, or may have: within `slack` of its end."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - slack


def _syntax(error: json.JSONDecodeError) -> str:
    if error.doc[error.pos : error.pos + 1] == "\0":
        return "a NUL byte stands where JSON belongs"
    return f"not valid JSON: {error.msg[0].lower()}{error.msg[1:].removesuffix(' at')}"


class _Window:
    """The stretch of a file that is being read, as text: what lies before `start` is done with."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.start, self.line, self.done = "", 0, 1, 0

    def more(self) -> bool:
        """Read on, further each time that a record does not fit."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.start))
        try:
            text = self.decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self.text.count("\n", self.start) + error.object.count(b"\n", 0, error.start)
            raise self.fault(f"byte 0x{error.object[error.start]:02X} is not UTF-8 text", line) from error
        if chunk:
            self.text, self.start, self.done = self.text[self.start :] + text, 0, self.done + len(chunk)
        return bool(chunk)

    def pass_to(self, end: int) -> None:
        """Be done with the text before `end`."""
        self.line += self.text.count("\n", self.start, end)
        self.start = end

    def character(self) -> str:
        """The next character that is not white space, still to be passed; empty at the end of the file."""
        while True:
            self.pass_to(SPACE.match(self.text, self.start).end())  # type: ignore[union-attr]  # matches anything
            if self.start < len(self.text) or not self.more():
                return self.text[self.start : self.start + 1]

    def value(self) -> Any:
        """Read one JSON value."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.start)
            except json.JSONDecodeError as error:
                if _cut(error, SLACK) and self.more():
                    continue
                what = "the file ends in the middle of a record" if _cut(error) else _syntax(error)
                raise self.fault(what, self.text.count("\n", self.start, error.pos)) from error
            except (ValueError, RecursionError) as error:
                raise self.fault(f"a record holds what cannot be read ({error})") from error
            if end < len(self.text) - SLACK or not self.more():
                self.pass_to(end)
                return value

    def fault(self, what: str, lines_on: int = 0) -> InputError:
        where = f"{self.path}, line {self.line + lines_on}"
        return InputError(f"{where}: {what}; mend the file there, for the rest of the array cannot be read")


def _array(window: _Window) -> Iterator[Located]:
    """The records of one JSON array; a record's line is the one that it begins on."""
    mark = window.character()
    while mark != "]":
        window.pass_to(window.start + 1)
        if window.character() == "]" and mark == "[":
            break
        line = window.line
        yield window.value(), line, window.done
        mark = window.character()
        if mark not in {",", "]"}:
            found = f"{mark!r} stands" if mark else "the file ends"
            raise window.fault(f"{found} where a comma or the closing bracket ] belongs")
    window.pass_to(window.start + 1)
    if mark := window.character():
        raise window.fault(f"{mark!r} stands after the end of the array")
