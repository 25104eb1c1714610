"""Cells of spreadsheets: CSV in which no text becomes a formula."""

import csv
import re
from collections.abc import Iterable, Sequence
from numbers import Number
from pathlib import Path

from diverseevol.errors import InputError
from diverseevol.storage.files import atomic_write

# What spreadsheets take for the beginning of a formula, also after blanks and marks that they skip, and in full width.
_FORMULA = re.compile("'*[\\s\x00-\x1f\ufeff\u200b-\u200f\u2060]*[=+@\uff1d\uff0b\uff0d\uff20-]|'*[\t\r\n]")
_ONE = r"[+-]?(?:(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?(?: ?%)?|inf|nan)"
_NUMBER = re.compile(f"{_ONE}(?: {_ONE})*", re.IGNORECASE)  # or several


def cell(value: object) -> object:
    """A value as a cell: text that a spreadsheet would calculate gets an apostrophe in front; numbers stay numbers."""
    if value is None or isinstance(value, Number):
        return value
    text = re.sub("\r\n?", "\n", str(value).encode("utf-8", "backslashreplace").decode())
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file; None is an empty cell.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([cell(name) for name in head])
        writer.writerows([cell(value) for value in row] for row in rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that `write_csv` wrote, by column, without the apostrophes that it put in front.

    Raises:
        InputError: a line has more or fewer cells than the first.
    """
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = [list(map(_plain, row)) for row in csv.reader(file)] or [[]]
    for row in rows:
        if len(row) != len(head):
            raise InputError(f"{path}: a line has {len(row)} cells, expected {len(head)} as in its first; restore it")
    return [dict(zip(head, row, strict=True)) for row in rows]


def _plain(text: str) -> str:
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text
