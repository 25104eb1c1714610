"""From a file to records: JSON arrays and JSONL, read one record at a time."""

import codecs
import json
import re
from collections.abc import Generator, Iterator
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from diverseevol.data.file_names import OTHERS, READ, form, title
from diverseevol.data.formats.base import BadRecord
from diverseevol.errors import InputError
from diverseevol.storage.json_lines import Unreadable, bounded_lines, decoded_line, ends_early, json_lines, syntax
from diverseevol.storage.packed import opened_unpacked
from diverseevol.storage.reading import LONGEST_LINE, TooDeepError, refuse_deep, size

CHUNK = 1 << 20  # bytes that are read of an array at a time
SLACK = 16  # characters at the end of a chunk within which a number, name or escape may be cut in two
SPACE = re.compile(r"[ \t\n\r]*")


class Located(NamedTuple):
    """A record where it was found.

    Attributes:
        record: what was read, or a BadRecord that says what is wrong with it.
        number: of its line in a file, from 1; of its row in a table, from 0.
        done: how much has been read up to it: bytes of a file, rows of a table.
        line: its text where it is a line of JSON; None where it is written in another way.
    """

    record: Any
    number: int
    done: int
    line: str | None = None


def read_records(path: Path) -> Generator[Located, None, None]:
    """Read records one by one, from one a line (JSONL) or from a JSON array, whichever the file holds.

    A record at fault is handed on as a BadRecord in its place. At most a line, or a chunk of an
    array, is in memory at a time, and neither is longer than `LONGEST_LINE`.

    Raises:
        InputError: the file cannot be read, is a table of another kind, or an array has a fault after which it cannot
            be read on.
    """
    if (table := OTHERS.get(form(path))) is not None:
        raise InputError(
            f"{path}: is {table}, expected {READ}; convert it, with pandas for instance by "
            f"to_json('{title(path)}.jsonl', orient='records', lines=True)"
        )
    with opened_unpacked(path) as (file, _):
        in_array = _array_ahead(path, file)
    with opened_unpacked(path) as (file, position):
        for record, number, line in _array(_Window(path, file)) if in_array else _lines(file):
            yield Located(record, number, position.tell(), line)


def _array_ahead(path: Path, file: BufferedReader) -> bool:
    """Look at the beginning; `.json` may also hold a record a line, but then more than one."""
    beginning = file.peek(len(codecs.BOM_UTF8))
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path}, line 1: UTF-16 text (it begins with a UTF-16 byte order mark); save it as UTF-8")
    if beginning.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    number = 1
    while (character := file.read(1)).isspace():
        number += character == b"\n"
    if form(path) == ".json" and character not in (b"", b"["):
        complete = character == b"{" and isinstance(
            decoded_line(character + file.readline(LONGEST_LINE), DECODER.decode), dict
        )
        if not (complete and any(line.strip() for line, _ in bounded_lines(file))):
            kind = "an object" if character == b"{" else repr(character)[1:]
            raise InputError(
                f"{path}, line {number}: expected an array of records, got {kind}; put the records "
                f"into [...], or write one a line and name the file .jsonl"
            )
    return character == b"["


def _lines(file: BufferedIOBase) -> Iterator[tuple[Any, int, str | None]]:
    """Records one a line."""
    for number, value, _, line in json_lines(file, DECODER.decode):
        if isinstance(value, Unreadable):
            yield BadRecord(None, value.problem), number, None
        else:
            yield value, number, line.decode()


def _once(pairs: list[tuple[str, Any]]) -> Any:
    """Refuse an object that has a name twice: nobody can tell which of the two is meant."""
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    names = [name for name, _ in pairs]
    return BadRecord(next(name for name in names if names.count(name) > 1), "appears twice in one object")


DECODER = json.JSONDecoder(object_pairs_hook=_once)


class _Window:
    """The part of a file that is being read, as text; what is before `start` has been dealt with."""

    def __init__(self, path: Path, file: BufferedIOBase) -> None:
        self.path, self.file = path, file
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.start, self.line = "", 0, 1

    def more(self) -> bool:
        """Read on, further each time that a record does not fit."""
        chunk = self.file.read(max(CHUNK, len(self.text) - self.start))
        try:
            text = self.decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line = self.text.count("\n", self.start) + error.object.count(b"\n", 0, error.start)
            raise self.fault(f"byte 0x{error.object[error.start]:02X} is not UTF-8 text", line) from error
        if chunk:
            self.text, self.start = self.text[self.start :] + text, 0
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
                if ends_early(error, SLACK) and self.longer():
                    continue
                problem = "the file ends in the middle of a record" if ends_early(error) else syntax(error)
                raise self.fault(problem, self.text.count("\n", self.start, error.pos)) from error
            except (ValueError, RecursionError) as error:
                reason = TooDeepError() if isinstance(error, RecursionError) else error
                raise self.fault(f"a record holds what cannot be read ({reason})") from error
            if end < len(self.text) - SLACK or not self.longer():
                self.pass_to(end)
                try:
                    refuse_deep(value)
                except TooDeepError as error:
                    return BadRecord(None, f"holds what cannot be read ({error})")
                return value

    def longer(self) -> bool:
        """Read on within a record, which has a limit."""
        if len(self.text) - self.start > LONGEST_LINE:
            raise self.fault(f"a record is longer than {size(LONGEST_LINE)}, the longest that is read")
        return self.more()

    def fault(self, problem: str, lines_on: int = 0) -> InputError:
        where = f"{self.path}, line {self.line + lines_on}"
        return InputError(f"{where}: {problem}; correct the file there, for the rest of the array cannot be read")


def _array(window: _Window) -> Iterator[tuple[Any, int, None]]:
    """The records of one JSON array; a record's line is the one that it begins on."""
    mark = window.character()
    while mark != "]":
        window.pass_to(window.start + 1)
        if window.character() == "]" and mark == "[":
            break
        line = window.line
        yield window.value(), line, None
        mark = window.character()
        if mark not in {",", "]"}:
            end = repr(mark) if mark else "the end of the file"
            raise window.fault(f"expected a comma or the closing bracket ], got {end}")
    window.pass_to(window.start + 1)
    if mark := window.character():
        raise window.fault(f"expected the end of the file after the end of the array, got {mark!r}")
