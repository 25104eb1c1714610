"""From a file to records: CSV and tab-separated values, read one row at a time."""

import codecs
import csv
from collections.abc import Iterator
from io import BufferedIOBase
from itertools import chain
from pathlib import Path

from diverseevol.data.file_names import DELIMITERS, form
from diverseevol.data.formats.base import BadRecord
from diverseevol.data.json_reader import Located
from diverseevol.errors import InputError
from diverseevol.storage.json_lines import bounded_lines
from diverseevol.storage.packed import opened_unpacked
from diverseevol.storage.reading import LONGEST_LINE, size

SPREADSHEETS = ";\t"  # what some spreadsheets write in place of a comma


def read_delimited(path: Path) -> Iterator[Located]:
    """Read records one by one: the first line names the columns, and all values are texts.

    Values are quoted as RFC 4180 has it, line breaks in them included. A record's number is that of the line that it
    begins on. A record at fault is handed on as a BadRecord in its place.

    Raises:
        InputError: the file cannot be read, or its first line does not name the columns.
    """
    csv.field_size_limit(LONGEST_LINE)
    with opened_unpacked(path) as (file, position):
        lines = _lines(path, file)
        if not (first := next(lines, "")).strip():
            raise InputError(f"{path}, line 1: expected the names of the columns, got nothing; give the file a header")
        rows = csv.reader(chain([first], lines), delimiter=_delimiter(path, first), strict=True)
        try:
            names = _names(path, next(rows))
        except csv.Error as error:
            raise InputError(f"{path}, line 1: cannot be read as the names of the columns ({error})") from error
        while True:
            number = rows.line_num + 1
            try:
                values = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Located(BadRecord(None, f"cannot be read ({error})"), number, position.tell())
                continue
            if len(values) == len(names):
                yield Located(dict(zip(names, values, strict=True)), number, position.tell())
            elif values:  # a blank line is no record
                problem = f"has {len(values)} values, expected {len(names)}, one for each column"
                yield Located(BadRecord(None, problem), number, position.tell())


def _delimiter(path: Path, first: str) -> str:
    """By the file's name, but for what spreadsheets save as CSV where a comma is part of numbers."""
    usual = DELIMITERS[form(path)]
    return usual if usual in first else next((mark for mark in SPREADSHEETS if mark in first), usual)


def _names(path: Path, names: list[str]) -> list[str]:
    blank = [str(i) for i, name in enumerate(names, start=1) if not name.strip()]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if blank or twice:
        problem = f"column {blank[0]} has no name" if blank else f"two columns have the name {twice[0]!r:.100}"
        raise InputError(f"{path}, line 1: {problem}, expected a different name for each column; correct the header")
    return names


def _lines(path: Path, file: BufferedIOBase) -> Iterator[str]:
    for number, (line, length) in enumerate(bounded_lines(file), start=1):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise InputError(f"{path}, line 1: UTF-16 text (it begins with a UTF-16 byte order mark); save it as UTF-8")
        if length > LONGEST_LINE:
            raise InputError(f"{path}, line {number}: is {size(length)} long, expected at most {size(LONGEST_LINE)}")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: byte 0x{line[error.start]:02X} is not UTF-8 text; save the file as UTF-8"
            ) from error
