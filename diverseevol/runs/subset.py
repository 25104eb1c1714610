"""A subset on disk: its rows as they came in, and beside them, line by line, what the project adds to each.

`selected.jsonl` is what a trainer reads; line i of `receipts.jsonl` says of its line i which row it is, when it joined
and why. Where there are no receipts, as in 0.1, the lines of `selected.jsonl` are {row, joined, record}.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diverseevol.errors import InputError
from diverseevol.runs.saved_config import REWRITE
from diverseevol.storage.files import atomic_write
from diverseevol.storage.json_lines import Unreadable, json_lines
from diverseevol.storage.reading import opened

SELECTED = "selected.jsonl"
RECEIPTS = "receipts.jsonl"
# Beside them in the folder of a choice: the numbers, and what a reader is told of it.
PICKS, PAGE, CARD = "picks.json", "subset.html", "README.md"
BAD_ROWS, INELIGIBLE, TAGS = "bad_rows.jsonl", "ineligible.jsonl", "tags.jsonl"  # what else is known of the rows


class Member(NamedTuple):
    """A row of a subset.

    Attributes:
        receipt: at least its number, `row`, and the round that it joined for, `joined` (0: it is of P_0).
        line: the row as it came in, without the end of the line.
        record: what the line holds.
    """

    receipt: Mapping[str, Any]
    line: str
    record: Mapping[str, Any]


def write_subset(folder: Path, receipts: Iterable[Mapping[str, Any]], line: Callable[[int], str]) -> None:
    """Write the rows of a subset and their receipts.

    Args:
        folder: gets both files.
        receipts: of each row, in the order in which they joined.
        line: a row as it came in, by its number.
    """
    rows_file, receipts_file = folder / SELECTED, folder / RECEIPTS
    # A longer subset begins with a shorter one. So that each line has its receipt whenever the process is killed, the
    # receipts are there first, and rows without any (the one file of earlier versions) are gone before.
    with atomic_write(rows_file) as rows, atomic_write(receipts_file) as reasons:
        for receipt in receipts:
            rows.write(line(receipt["row"]) + "\n")
            reasons.write(json.dumps(receipt, ensure_ascii=False, allow_nan=False) + "\n")
        rows.flush()  # a full disk is noticed before anything has changed
        reasons.flush()
        if not receipts_file.exists():
            rows_file.unlink(missing_ok=True)


def read_subset(folder: Path, remedy: str = REWRITE) -> Iterator[Member]:
    """The rows of a subset with their receipts, in the order in which they joined; none where it is not written yet.

    Args:
        folder: a run folder, of 0.1 also, or one that `diverseevol select` wrote.
        remedy: what to do about a file that is damaged.

    Raises:
        InputError: a file cannot be read, or has lines that say something else.
    """
    rows_file, receipts_file = folder / SELECTED, folder / RECEIPTS
    if not rows_file.exists():
        return
    receipts = _records(receipts_file, remedy) if receipts_file.exists() else None
    for number, line, record in _records(rows_file, remedy):
        receipt: dict[str, Any] = {}
        if receipts is not None:
            _, _, receipt = next(receipts, (0, "", receipt))
        elif {*record} == {"row", "joined", "record"} and isinstance(record["record"], dict):
            receipt, record = record, record.pop("record")
            line = json.dumps(record, ensure_ascii=False)
        if not all(type(receipt.get(key)) is int for key in ("row", "joined")):
            raise InputError(f"{rows_file}, line {number}: {RECEIPTS} has no receipt of it; {remedy}")
        yield Member(receipt, line, record)


def _records(path: Path, remedy: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The number, the text and the content of each line."""
    with opened(path) as file:
        for number, value, _, line in json_lines(file):
            if not isinstance(value, dict):
                problem = value.problem if isinstance(value, Unreadable) else "expected a JSON object"
                raise InputError(f"{path}, line {number}: {problem}; {remedy}")
            yield number, line.decode(), value
